"""Codecs are numpy's business: here `rng` is a numpy generator."""

import numpy as np
import pytest


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Seeded per test by its name."""
    return np.random.default_rng(list(request.node.name.encode()))
