"""Equalise a ViT of transformers, as trained and with channels of its LayerNorms made 64 times as large.

    python vit.py

Layers read these channels with weights that are 1/64 of what they were, so that the network computes the same: as large
language models do by themselves. Trained on the 8 x 8 digits of scikit-learn: 1,437 train, the first 256 of them
calibrate, the other 360 test.
"""

import copy

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from study import NONE, PAIRS, study

from examples.transformers_models import vit

OUTLIERS, TIMES = 2, 64.0
torch.set_num_threads(1)
torch.manual_seed(0)
digits = load_digits()
x = torch.from_numpy(digits.images).float()[:, None] / 8 - 1
labels = torch.from_numpy(digits.target)
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
train, test = order[:1437], order[1437:]
network = vit()
optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
for _ in range(30):
    for part in train[torch.randperm(len(train))].split(64):
        loss = F.cross_entropy(network(x[part]), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
network.eval()
choices = {("channel", 8): (NONE, *PAIRS), ("channel", 4): (NONE, *PAIRS)}
study(network, (x[train[:256]],), (x[test],), labels[test], choices)
planted = copy.deepcopy(network)
with torch.no_grad():
    for layer in planted.network.vit.layers:
        attention = layer.attention
        readers = {
            layer.layernorm_before: (attention.q_proj, attention.k_proj, attention.v_proj),
            layer.layernorm_after: (layer.mlp.fc1,),
        }
        for norm, linears in readers.items():
            channels = torch.randperm(len(norm.weight))[:OUTLIERS]
            norm.weight[channels] *= TIMES
            norm.bias[channels] *= TIMES
            for linear in linears:
                linear.weight[:, channels] /= TIMES
print(f"with {OUTLIERS} channels of every LayerNorm {TIMES:.0f} times as large:", flush=True)
study(planted, (x[train[:256]],), (x[test],), labels[test], choices)
