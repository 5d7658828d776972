"""A recording resampled and measured: constant offsets."""

from __future__ import annotations

import numpy as np
import pytest

from mossformer_jax.audio import resample
from mossformer_jax.separation.resampled import ResampledRecording

RATE = 8000


def _recording(waveform, rate=RATE, block=300, mix=True):
    blocks = [waveform[:, start : start + block] for start in range(0, waveform.shape[1], block)]
    return ResampledRecording(blocks, rate, RATE, mix=mix)


def _all(recording):
    return recording.read(0, recording.length)


@pytest.fixture
def speech(rng):
    """Two channels of noise with a mean of exactly zero."""
    waveform = 0.05 * rng.standard_normal((2, 4000))
    return (waveform - waveform.mean(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize("offsets", [(0.05, 0.05), (0.5, -0.3), (0.0, 0.4)])
def test_the_offset_of_each_channel_is_removed(speech, rate, offsets):
    """Up to the random mean of the first block. Resampling the offset's steps would leave half of it at both ends."""
    shifted = speech + np.array(offsets, np.float32)[:, None]
    each = _recording(shifted, rate, mix=False)
    np.testing.assert_allclose(each.offsets_k, offsets, atol=1e-5)
    expected = resample(speech, rate, RATE)
    np.testing.assert_allclose(_all(each), expected, rtol=0, atol=0.01)
    np.testing.assert_allclose(_all(each)[:, 50:-50], expected[:, 50:-50], rtol=0, atol=2e-5)
    assert each.rms == pytest.approx(np.sqrt(np.square(expected).mean()), rel=1e-2)
    mixed = _recording(shifted, rate)
    np.testing.assert_allclose(_all(mixed)[:, 50:-50], expected.mean(axis=0)[None, 50:-50], rtol=0, atol=2e-5)


def test_level_is_measured_without_the_offset(speech):
    assert _recording(speech + 0.5).loudness == pytest.approx(_recording(speech).loudness, rel=1e-5)


def test_an_offset_that_begins_after_the_first_block_is_removed(speech):
    speech = np.tile(speech, 4)
    speech[:, :300] -= speech[:, :300].mean(axis=1, keepdims=True)
    speech[:, 300:] += 0.2
    recording = _recording(speech)
    assert recording.offsets_k == pytest.approx(0.2 * (1 - 300 / 16000), abs=1e-3)
    assert _all(recording).mean() == pytest.approx(0.0, abs=1e-6)


def test_a_recording_without_an_offset_is_not_changed(rng):
    waveform = 0.1 * rng.standard_normal((1, 4000)).astype(np.float32) + np.float32(0.005)
    recording = _recording(waveform)
    assert not recording.offsets_k.any()
    np.testing.assert_array_equal(_all(recording), waveform)


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_a_constant_is_silence(rate):
    recording = _recording(np.full((1, 4000), 0.3, np.float32), rate)
    assert (recording.rms, recording.loudness) == (0.0, 0.0)
    assert recording.offsets_k == pytest.approx(0.3)
