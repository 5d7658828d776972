"""Scores of batches: padding, permutations and silent references; every utterance is scored once."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest

from mossformer_jax.data.pipeline import evaluation_batches
from mossformer_jax.data.records import Mixture
from mossformer_jax.evaluation.evaluate import evaluate, mean_si_sdri_db, score_separation, utterance_scores
from mossformer_jax.scoring import si_sdr

LENGTHS = (500, 90, 1000, 333, 999, 210, 501)


class ShortMixtures:
    """A `MixtureSource` of noise; every mixture has a different length."""

    num_sources, sample_rate = 2, 100

    def __len__(self):
        return len(LENGTHS)

    def mixture_id(self, index):
        return f"mixture{index}"

    def num_samples(self, index):
        return LENGTHS[index]

    def read(self, index, start=0, num_samples=None):
        sources = np.random.default_rng(index).normal(size=(2, LENGTHS[index])).astype(np.float32)
        return Mixture(self.mixture_id(index), sources, self.sample_rate)


def swapped_and_noisy(sources_bct):
    """Replaces a network: swapped sources with more noise in the second output, also in the padding."""
    return sources_bct[:, ::-1] + np.array([0.1, 0.5])[:, None] * np.cos(np.arange(sources_bct.shape[-1]))


@jax.jit
def score_batch(batch):
    estimates_bct = swapped_and_noisy(batch.sources)
    return score_separation(estimates_bct, batch.sources, batch.mixture, batch.lengths), batch.index


@pytest.mark.medium
def test_every_utterance_is_scored_once_and_independently_of_its_batch():
    reported = []
    rows = evaluate(score_batch, evaluation_batches(ShortMixtures(), batch_size=2), on_batch=reported.extend)
    assert [row.index for row in rows] == list(range(len(LENGTHS)))
    assert sorted(reported, key=lambda row: row.index) == rows
    for row in rows:
        mixture = ShortMixtures().read(row.index)
        estimates = swapped_and_noisy(mixture.sources[None])[0][::-1]
        expected = np.asarray(si_sdr(estimates, mixture.sources))
        improvements = expected - np.asarray(si_sdr(mixture.mixed(), mixture.sources))
        assert row.permutation == (1, 0)
        # The tolerance covers rounding of float32 sums.
        np.testing.assert_allclose(row.source_si_sdr_db, expected, atol=1e-3)
        np.testing.assert_allclose(row.source_si_sdri_db, improvements, atol=1e-3)
        assert row.si_sdr_db == pytest.approx(expected.mean(), abs=1e-3)
        assert row.si_sdri_db == pytest.approx(improvements.mean(), abs=1e-3)
    assert mean_si_sdri_db(rows) == pytest.approx(np.mean([row.si_sdri_db for row in rows]))


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_mixtures_with_a_silent_or_constant_reference_are_excluded_from_the_mean(rng, level):
    sources = rng.normal(size=(3, 2, 400)).astype(np.float32)
    sources[1, 0, :300] = level
    sources[1, 0, 300:] = 7.0  # padding
    lengths = np.array([400, 300, 350], np.int32)
    mixture = sources.sum(axis=1)
    estimates = sources[:, ::-1] + 0.1 * rng.normal(size=sources.shape).astype(np.float32)
    scores = jax.jit(score_separation)(estimates, sources, mixture, lengths)
    rows = utterance_scores(scores, np.array([4, 2, -1]))
    assert [row.index for row in rows] == [4, 2]
    assert math.isnan(rows[1].si_sdr_db)
    assert math.isnan(rows[1].si_sdri_db)
    assert math.isnan(rows[1].source_si_sdr_db[0])
    assert rows[1].silent == (True, False)
    # The other source of that mixture keeps its score and its estimate.
    assert rows[1].permutation == (1, 0)
    assert rows[1].source_si_sdr_db[1] > 15
    assert mean_si_sdri_db(rows) == rows[0].si_sdri_db
    assert math.isnan(mean_si_sdri_db(rows[1:]))


@pytest.mark.medium
def test_the_mean_is_nan_if_a_networks_output_is_nan(rng):
    sources = rng.normal(size=(2, 2, 100)).astype(np.float32)
    estimates = sources.copy()
    estimates[1] = np.nan
    rows = utterance_scores(score_separation(estimates, sources, sources.sum(1), np.array([100, 100])), np.arange(2))
    assert math.isnan(mean_si_sdri_db(rows))
    assert mean_si_sdri_db(rows[:1]) > 50


@pytest.mark.medium
def test_scores_on_the_device_are_finite_for_silent_references():
    silence = np.zeros((1, 2, 50), np.float32)
    scores = score_separation(silence, silence, silence[:, 0], np.array([50]))
    # Otherwise jax_debug_nans would stop the program at the padding rows of a batch.
    assert all(np.isfinite(figures).all() for figures in scores)
