"""Export MLPerf Tiny's networks for TFLite Micro and Ethos-U: flash and memory, next to the benchmark's own files.

pip install tflite-micro==0.dev20261023182759 ethos-u-vela==5.2.0
python docs/results/2026-11-28-devices/micro.py
"""

import gzip
import tempfile
from pathlib import Path

from export import export_tflite
from runtime_tests.networks import zoo_network

REFERENCE = {"resnet8": 98_496, "ds_cnn": 53_936, "mobilenet_v1": 333_288, "autoencoder": 276_976}
"""Bytes of the benchmark's own int8 files (github.com/mlcommons/tiny, v1.1)."""


def main() -> None:
    for name, reference in REFERENCE.items():
        model, x = zoo_network(name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.tflite"
            report = export_tflite(
                model, (x[:2],), path, check_inputs=(x[:4],), activations="int8", calibration=x, target="ethos-u",
                layout="nhwc",
            )  # fmt: skip
            arena, zipped = report.details.arena, len(gzip.compress(path.read_bytes(), 9, mtime=0))
        kernels = sum(kernel.is_integer for kernel in report.kernels)
        print(
            f"{name}: file {report.size_bytes:,} B (benchmark's {reference:,}), zipped {zipped:,}, zeros "
            f"{report.sparsity:.0%}, arena {arena.size_bytes:,} B, {kernels} of {len(report.kernels)} layers on codes, "
            f"{report.verdict.summary}; {report.details.ethos_u}",
            flush=True,
        )


if __name__ == "__main__":
    main()
