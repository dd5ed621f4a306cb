"""Write a mobilenet_v2 of 224 x 224 at several shares of zeros in its 1 x 1 convolutions, for LiteRT.js.

python docs/results/2026-11-28-sparse-inference/files.py OUT
node docs/results/2026-11-28-sparse-inference/bench.mjs OUT       # with CHROMIUM, as make browser has it
"""

import sys
from pathlib import Path

import torch
from torch import nn

import codeq
import models
from export import export_tflite

ZEROS = (0.0, 0.7, 0.8, 0.9)


def main(out: str) -> None:
    folder = Path(out)
    folder.mkdir(exist_ok=True)
    for zeros in ZEROS:
        torch.manual_seed(0)
        model = models.create("mobilenet_v2").eval()
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
                    module.weight.mul_(torch.rand(module.weight.shape) >= zeros)
        codeq.attach(model, 8)
        codeq.freeze(model)
        x = torch.randn(4, 3, 224, 224)
        kinds = {
            "sparse": {},
            "dense": {"sparse_inference": "off"},
            "int8": {"activations": "int8", "calibration": x},
            "hybrid": {"hybrid": True},
        }
        for kind, options in kinds.items():
            if kind == "sparse" and not zeros:
                continue
            path = folder / f"{kind}-{zeros:.1f}.tflite"
            report = export_tflite(
                model, (x[:2],), path, check_inputs=(x[:2],), batch=1, force=True, keep_dead_channels=True, **options
            )
            found = report.details.sparse_inference
            print(path.name, f"{report.size_bytes / 1e6:.2f} MB", found.reason if found else "", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
