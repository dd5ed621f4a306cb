"""This module defines the autoencoder of MLPerf Tiny (anomaly detection).

Source: Koizumi et al. 2020, "Description and Discussion on DCASE2020 Challenge Task 2: Unsupervised Anomalous Sound
Detection for Machine Condition Monitoring", arXiv:2006.05822, baseline system, as the reference model of Banbury et al.
2021, "MLPerf Tiny Benchmark", arXiv:2106.07597, has it: mlcommons/tiny, benchmark/training/anomaly_detection.
Input 640: 5 frames of 128 log-mel energies. The output is the input's reconstruction; its error is the anomaly score.

| network | linear layers | parameters (with BatchNorm's statistics) | MACs at 640 |
|---|---|---|---|
| autoencoder | 10 | 269,992 | 264,192 |
"""

import itertools

from torch import Tensor, nn

from models.arguments import check_integers

WIDTHS = (128, 128, 128, 128, 8, 128, 128, 128, 128)


class Autoencoder(nn.Module):
    """Maps (N, in_features) float32 to its reconstruction, (N, in_features)."""

    def __init__(self, in_features: int = 640) -> None:
        super().__init__()
        check_integers(in_features=(in_features, 1, 65536))
        self.input_shape = (in_features,)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(width, following), nn.BatchNorm1d(following), nn.ReLU(inplace=True))
                for width, following in itertools.pairwise((in_features, *WIDTHS))
            )
        )
        self.out = nn.Linear(WIDTHS[-1], in_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layers(x))


def autoencoder(in_features: int = 640) -> Autoencoder:
    """Build the autoencoder of MLPerf Tiny; see the module's docstring."""
    return Autoencoder(in_features)
