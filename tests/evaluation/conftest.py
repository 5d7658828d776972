"""A small data set and a cheap substitute for a model."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mossformer_jax.data.records import Mixture
from mossformer_jax.evaluation.evaluate import score_separation
from mossformer_jax.evaluation.scorer import ScoredBatch, Scorer


class Noises:
    """A `MixtureSource` of noise."""

    num_sources = 2

    def __init__(self, lengths, sample_rate=100):
        self.lengths, self.sample_rate = lengths, sample_rate

    def __len__(self):
        return len(self.lengths)

    def mixture_id(self, index):
        return f"mixture{index}"

    def num_samples(self, index):
        return self.lengths[index]

    def read(self, index, start=0, num_samples=None):
        rng = np.random.default_rng(index)
        sources = 0.1 * rng.normal(size=(2, self.lengths[index])).astype(np.float32)
        return Mixture(self.mixture_id(index), sources, self.sample_rate, speakers=(f"Low{index}", "high"))


class SwappingScorer(Scorer):
    """Replaces a network: returns the sources in reverse order with noise, more noise in the later output."""

    compile_seconds, run_seconds = 1.0, 2.0

    def __init__(self):
        self.seen = []

    def __call__(self, batch):
        self.seen += [int(index) for index in batch.index if index >= 0]
        return _swap(batch)


@jax.jit
def _swap(batch):
    sources_bct = batch.sources
    noise = 0.01 * np.cos(np.arange(sources_bct.shape[-1])) * np.array([1.0, 3.0])[:, None]
    estimates_bct = sources_bct[:, ::-1] + noise
    scores = score_separation(estimates_bct, sources_bct, batch.mixture, batch.lengths)
    return ScoredBatch(scores, batch.index, estimates_bct)


@pytest.fixture
def noises() -> Noises:
    return Noises((500, 90, 1000, 333, 999, 210, 501))


@pytest.fixture
def swapping_scorer() -> SwappingScorer:
    return SwappingScorer()
