"""SI-SDR matches its definition, PIT finds the best permutation, and the gradient is finite for silent signals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from mossformer_jax.scoring import pairwise_si_sdr, pit_si_sdr, pit_si_sdr_loss, si_sdr
from mossformer_jax.scoring.si_sdr import MAX_DB, MIN_DB


def defined(estimate, reference):
    """SI-SDR of one signal in float64, as the paper defines it."""
    estimate, reference = (np.asarray(x, np.float64) - np.mean(x, dtype=np.float64) for x in (estimate, reference))
    target = estimate @ reference / (reference @ reference) * reference
    return 10 * np.log10((target @ target) / ((estimate - target) @ (estimate - target)))


@pytest.fixture
def references(rng):
    return rng.normal(size=(4, 3, 500)).astype(np.float32)


@pytest.mark.parametrize("noise_level", [10.0, 0.3, 1e-3])
def test_si_sdr_equals_its_definition(rng, references, noise_level):
    estimates = references + noise_level * rng.normal(size=references.shape).astype(np.float32)
    expected = [[defined(e, r) for e, r in zip(*pair, strict=True)] for pair in zip(estimates, references, strict=True)]
    # In float32 a ratio of 1e6 (60 dB) is exact to about 1e-4 dB.
    np.testing.assert_allclose(si_sdr(estimates, references), expected, rtol=0, atol=1e-3)


def test_si_sdr_ignores_gain_and_offset(rng, references):
    estimates = references + 0.1 * rng.normal(size=references.shape).astype(np.float32)
    np.testing.assert_allclose(si_sdr(-0.01 * estimates + 0.5, references), si_sdr(estimates, references), atol=1e-2)


@pytest.mark.parametrize("level", [1e-3, 1e-5, 1e-6])
def test_si_sdr_of_quiet_signals_is_not_biased(rng, references, level):
    estimates = references + 0.17 * rng.normal(size=references.shape).astype(np.float32)
    scores = si_sdr(level * estimates, level * references)
    np.testing.assert_allclose(scores, si_sdr(estimates, references), rtol=0, atol=1e-3)
    assert 13.0 < float(scores.mean()) < 18.0


@pytest.mark.medium
def test_the_best_permutation_is_found_and_returned(rng, references):
    orders = list(itertools.permutations(range(3)))
    for order in orders:
        shuffled = references[:, order] + 0.1 * rng.normal(size=references.shape).astype(np.float32)
        scores, permutation = pit_si_sdr(shuffled, references)
        expected = np.argsort(order)
        np.testing.assert_array_equal(permutation, np.tile(expected, (4, 1)))
        np.testing.assert_allclose(scores, si_sdr(shuffled[:, expected], references).mean(-1), rtol=1e-5)


def test_pairwise_scores_have_estimates_in_rows(references):
    scores = pairwise_si_sdr(references[:, ::-1], references)
    assert scores.shape == (4, 3, 3)
    np.testing.assert_array_equal(jnp.argmax(scores, axis=1), np.tile([2, 1, 0], (4, 1)))


@pytest.mark.medium
def test_padding_after_a_signals_end_does_not_count(rng, references):
    estimates = references + rng.normal(size=references.shape).astype(np.float32)
    lengths = np.array([500, 400, 300, 7])
    padded_estimates, padded_references = estimates.copy(), references.copy()
    for b, length in enumerate(lengths):
        padded_estimates[b, :, length:] = np.nan
        padded_references[b, :, length:] = 1e3
    scores, _ = pit_si_sdr(padded_estimates, padded_references, lengths)
    expected = [
        pit_si_sdr(estimates[b : b + 1, :, :length], references[b : b + 1, :, :length])[0][0]
        for b, length in enumerate(lengths)
    ]
    np.testing.assert_allclose(scores, expected, atol=1e-3)
    gradient = jax.grad(lambda e: pit_si_sdr_loss(e, padded_references, lengths))(padded_estimates)
    assert np.isfinite(gradient).all()


@pytest.mark.medium
def test_silent_and_perfect_estimates_score_the_limits_with_a_finite_gradient(references):
    silence = np.zeros_like(references)
    cases = [(silence, references, MIN_DB), (references, silence, MIN_DB), (silence, silence, MIN_DB)]
    for estimates, truth, expected in [*cases, (references, references, MAX_DB)]:
        np.testing.assert_array_equal(pit_si_sdr(estimates, truth)[0], expected)
        gradient = jax.grad(lambda e, truth=truth: pit_si_sdr_loss(e, truth, threshold_db=1e9))(estimates)
        assert np.isfinite(gradient).all()


@pytest.mark.medium
def test_the_loss_excludes_mixtures_above_the_threshold(rng, references):
    noise = rng.normal(size=references.shape).astype(np.float32)
    levels = np.array([1.0, 1.0, 1e-3, 1e-3])[:, None, None].astype(np.float32)  # about 0, 0, 60 and 60 dB
    estimates = references + levels * noise
    below = pit_si_sdr(estimates, references)[0][:2]
    assert float(pit_si_sdr_loss(estimates, references)) == pytest.approx(-float(below.mean()), rel=1e-5)
    assert float(pit_si_sdr_loss(estimates[2:], references[2:])) == 0.0


@pytest.mark.parametrize(
    ("shape", "message"),
    [((4, 2, 500), "2 estimates cannot be assigned to 3 references"), ((4, 3, 499), "estimate has 499 samples")],
)
@pytest.mark.own_checks
def test_mismatched_signals_are_rejected(references, shape, message):
    with pytest.raises(ValueError, match=message):
        pit_si_sdr(np.zeros(shape, np.float32), references)


def test_too_many_sources_are_rejected():
    with pytest.raises(ValueError, match="at most 6 are supported"):
        pit_si_sdr(np.zeros((1, 7, 100)), np.zeros((1, 7, 100)))


@pytest.mark.medium
def test_the_official_estimates_reach_the_published_scores(libri2mix_samples):
    def read(item, name):
        return soundfile.read(libri2mix_samples / f"item{item}_{name}.wav", dtype="float32")[0]

    scores, improvements = [], []
    for item in (2, 7, 12, 19, 25, 33):
        references = np.stack([read(item, f"source{k}") for k in (1, 2)])
        estimates = np.stack([read(item, f"source{k}hat") for k in (1, 2)])
        score = float(pit_si_sdr(estimates[None], references[None])[0][0])
        scores.append(score)
        improvements.append(score - float(si_sdr(read(item, "mix"), references).mean()))
    # The scores published with the recordings, to as many digits.
    np.testing.assert_allclose(scores, [22.691, 17.945, 22.539, 16.448, 22.646, 17.678], atol=1e-3)
    assert np.mean(improvements) == pytest.approx(19.936, abs=1e-3)
