"""The score that training maximises: PIT SI-SDR, and a level measure for silent references."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mossformer_jax.scoring import MAX_DB, pit_si_sdr, pit_si_sdr_loss, pit_training_score, si_sdr

NUM_SAMPLES = 400


@pytest.fixture
def references(rng) -> np.ndarray:
    """Two mixtures of two sources."""
    return rng.standard_normal((2, 2, NUM_SAMPLES)).astype(np.float32)


@pytest.fixture
def estimates(rng, references) -> np.ndarray:
    return references + rng.standard_normal(references.shape).astype(np.float32)


def silenced(references: np.ndarray, *places: tuple[int, int]) -> np.ndarray:
    """Sets the references at the given places to zero."""
    references = references.copy()
    for place in places:
        references[place] = 0.0
    return references


@pytest.mark.medium
def test_without_silent_references_score_and_gradient_equal_pit_si_sdr_bit_for_bit(estimates, references):
    lengths = np.array([NUM_SAMPLES, 250])
    # The last mixture has a silent reference, which must not affect the others.
    estimates, references = (np.concatenate([x, x[:1]]) for x in (estimates, references))
    references, lengths = silenced(references, (2, 0)), np.append(lengths, 300)

    def total(score):
        return jax.jit(jax.value_and_grad(lambda e: jnp.sum(score(e)[:2])))

    ours, gradient = total(lambda e: pit_training_score(e, references, lengths))(estimates)
    plain, expected = total(lambda e: pit_si_sdr(e, references, lengths)[0])(estimates)
    assert ours == plain
    np.testing.assert_array_equal(gradient, expected)
    assert np.abs(gradient[:2]).max() > 0


@pytest.mark.medium
def test_with_one_silent_reference_the_score_is_the_mean_of_si_sdr_and_level_difference(estimates, references):
    # The second output is an estimate of the first reference at a low level; the first output is 20 dB below it.
    estimates[0, 1] = 1e-3 * estimates[0, 0]
    estimates[0, 0] *= 1e-4
    below_db = -10 * np.log10(1e-2 + 1e-3)
    expected = (si_sdr(estimates[0, 1], references[0, 0]) + below_db) / 2
    for order in ([0, 1], [1, 0]):
        truth = silenced(references, (0, 1))[:1, order]
        assert pit_training_score(estimates[:1], truth)[0] == pytest.approx(float(expected), abs=1e-4)
    # The score does not depend on the common level.
    assert pit_training_score(100 * estimates[:1], truth)[0] == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.medium
def test_the_score_of_a_mixture_with_a_silent_reference_is_limited(references):
    truth = silenced(references, (0, 1), (1, 1))
    np.testing.assert_allclose(pit_training_score(truth, truth), 30.0, atol=1e-4)


@pytest.mark.medium
def test_with_three_sources_each_silent_output_is_compared_with_the_total_power_of_the_others(rng):
    truth = silenced(rng.standard_normal((1, 3, NUM_SAMPLES)).astype(np.float32), (0, 0), (0, 1))
    outputs = np.stack([truth[0, 2], 0.1 * truth[0, 2], 0.1 * truth[0, 2]])[None]
    # Two quiet outputs, each 20 dB below the active one. The power of the others includes the other quiet output.
    below_db = -10 * np.log10(0.01 / 1.01 + 1e-3)
    assert pit_training_score(outputs, truth)[0] == pytest.approx((2 * below_db + 30) / 3, abs=1e-3)


@pytest.mark.medium
def test_padding_after_a_signals_end_changes_neither_score_nor_silence(estimates, references):
    lengths = np.array([300, 300])
    truth = silenced(references, (0, 1))
    expected = pit_training_score(estimates[..., :300], truth[..., :300])
    truth[..., 300:] = 1.0
    estimates[..., 300:] = np.nan
    np.testing.assert_allclose(pit_training_score(estimates, truth, lengths), expected, atol=1e-4)
    gradient = jax.grad(lambda e: pit_si_sdr_loss(e, truth, lengths))(estimates)
    assert np.isfinite(gradient).all()


@pytest.mark.medium
def test_the_gradient_makes_the_silent_output_quieter_and_the_other_louder(estimates, references):
    truth = silenced(references, (0, 1))[:1]
    loss = lambda gains: pit_si_sdr_loss(gains[None, :, None] * estimates[:1], truth)  # noqa: E731
    gradient = jax.grad(loss)(jnp.array([1.0, 0.3]))
    assert gradient[1] > 0, "training does not lower the level of the silent output"
    assert gradient[0] < 0, "training does not raise the level of the other output"


@pytest.mark.medium
@pytest.mark.parametrize("scale", [0.0, 1e-12, 1.0, 1e6])
def test_gradients_are_finite_for_any_silent_signals(estimates, references, scale):
    one_hot = np.zeros_like(estimates)
    one_hot[:, 0, 7] = 1.0
    truths = [references, silenced(references, (0, 0)), silenced(references, (0, 0), (0, 1), (1, 1)), 0 * references]
    for outputs in (scale * estimates, scale * one_hot, scale * references):
        for truth in (*truths, one_hot):
            value, gradient = jax.value_and_grad(lambda e, truth=truth: pit_si_sdr_loss(e, truth, threshold_db=1e9))(
                outputs.astype(np.float32)
            )
            assert np.isfinite(value)
            assert np.isfinite(gradient).all()


@pytest.mark.medium
def test_a_mixture_of_silent_references_is_excluded_from_the_loss(estimates, references):
    truth = silenced(references, (0, 0), (0, 1))
    assert pit_training_score(estimates, truth)[0] == MAX_DB
    both = pit_si_sdr_loss(estimates, truth)
    assert both == pytest.approx(float(pit_si_sdr_loss(estimates[1:], truth[1:])), rel=1e-6)


def test_nan_in_an_output_gives_a_score_of_nan(estimates, references):
    estimates[0, 0, 3] = np.nan
    assert np.isnan(pit_training_score(estimates, silenced(references, (0, 1)))[0])
