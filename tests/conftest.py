"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def libri2mix_samples() -> Path:
    """The folder with six real Libri2Mix test mixtures; it lies outside the repository, so that it may be missing."""
    root = Path(os.environ.get("MOSSFORMER_JAX_DATA", REPOSITORY.parent / "shared" / "data"))
    folder = root / "libri2mix_samples"
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder} (set MOSSFORMER_JAX_DATA to the folder that holds them)")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
