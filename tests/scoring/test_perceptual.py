"""STOI and PESQ call their packages correctly, and give NaN where they are not defined."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from mossformer_jax.scoring import pesq, stoi


@pytest.fixture
def speech(rng):
    """Noise in syllables, 1.5 s at 8 kHz."""
    return rng.normal(size=12_000) * np.abs(np.sin(np.arange(12_000) * np.pi / 2000))


class StandIn(SimpleNamespace):
    """Replaces the package pesq, which needs a compiler to install, and records the arguments of the last call."""

    class NoUtterancesError(Exception):
        pass

    class BufferTooShortError(Exception):
        pass

    error: Exception | None = None

    def pesq(self, *arguments):
        self.arguments = arguments
        if self.error is not None:
            raise self.error
        return 3.0


@pytest.fixture
def package(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "pesq", stand_in)
    return stand_in


@pytest.mark.parametrize("extended", [False, True])
def test_stoi_is_one_for_the_reference_and_falls_with_noise(rng, speech, extended):
    noise = rng.normal(size=speech.shape)
    figures = [stoi(speech + level * noise, speech, 8000, extended=extended) for level in (0.0, 0.3, 3.0)]
    assert figures[0] == pytest.approx(1.0, abs=1e-6)
    assert figures[0] > figures[1] > figures[2] > -0.1


def test_stoi_and_estoi_of_the_official_estimates(libri2mix_samples):
    reference, estimate = (
        soundfile.read(libri2mix_samples / f"item2_{name}.wav")[0] for name in ("source1", "source2hat")
    )
    # Computed with pystoi 0.4.1, which takes the reference first. Swapped signals score 2e-3 and 5e-3 higher.
    assert stoi(estimate, reference, 8000) == pytest.approx(0.97912, abs=1e-4)
    assert stoi(estimate, reference, 8000, extended=True) == pytest.approx(0.95411, abs=1e-4)


@pytest.mark.parametrize("length", [1, 100, 205, 300, 2000])
def test_stoi_of_a_signal_shorter_than_its_window_is_nan(speech, length):
    assert np.isnan(stoi(speech[:length], speech[:length], 8000))


def test_stoi_and_pesq_of_silence_are_nan(speech, package):
    silence = np.zeros_like(speech)
    assert np.isnan(stoi(speech, silence, 8000))
    assert np.isnan(pesq(speech, silence, 8000))
    assert np.isnan(pesq(silence, speech, 8000))


@pytest.mark.parametrize(("rate", "mode"), [(8000, "nb"), (16_000, "wb")])
def test_the_sample_rate_selects_narrow_or_wide_band_pesq(speech, package, rate, mode):
    assert pesq(2 * speech, speech, rate) == 3.0
    called_rate, reference, estimate, called_mode = package.arguments
    assert (called_rate, called_mode) == (rate, mode)
    assert reference is speech
    assert estimate[1] == 2 * speech[1]


@pytest.mark.parametrize("error", [StandIn.NoUtterancesError(), StandIn.BufferTooShortError()])
def test_pesq_without_speech_is_nan(speech, package, error):
    package.error = error
    assert np.isnan(pesq(speech, speech, 8000))


def test_pesq_of_the_official_estimates(libri2mix_samples):
    pytest.importorskip("pesq")
    reference, estimate = (
        soundfile.read(libri2mix_samples / f"item2_{name}.wav")[0] for name in ("source1", "source2hat")
    )
    # Computed with pesq 0.0.4.
    assert pesq(estimate, reference, 8000) == pytest.approx(3.9792, abs=1e-3)


def test_pesq_is_not_defined_at_other_rates(speech):
    with pytest.raises(ValueError, match="not defined at 44100 Hz; resample to 8000 or 16000 Hz"):
        pesq(speech, speech, 44_100)


@pytest.mark.own_checks
def test_signals_of_different_lengths_are_rejected(speech, package):
    for figure in (stoi, pesq):
        with pytest.raises(ValueError, match="estimate has 11999 samples and reference 12000"):
            figure(speech[:-1], speech, 8000)
