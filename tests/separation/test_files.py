"""Separating files into files. A stand-in for the separator shows what becomes of its sources."""

from __future__ import annotations

import numpy as np
import pytest

from mossformer_jax.data import read_audio, write_audio
from mossformer_jax.separation import Separation, Timings, separate_file


@pytest.fixture
def mixture_path(tmp_path, rng):
    path = tmp_path / "two people.flac"
    write_audio(path, 0.1 * rng.standard_normal((2, 1600)), 16_000)
    return path


def _separating_into(sources):
    return lambda waveform, sample_rate: Separation(sources.astype(np.float32), sample_rate, Timings(0.0, 1.0))


def test_sources_are_written_beside_the_mixture_at_its_rate_and_length(mixture_path, tiny_separator):
    separated = separate_file(tiny_separator, mixture_path)
    assert separated.paths == [mixture_path.with_name(f"two people_s{number}.wav") for number in (1, 2)]
    assert (separated.sample_rate, separated.duration, separated.gain) == (16_000, 0.1, 1.0)
    expected = tiny_separator(*read_audio(mixture_path)).sources
    for path, source in zip(separated.paths, expected, strict=True):
        waveform, sample_rate = read_audio(path)
        assert sample_rate == 16_000
        np.testing.assert_allclose(waveform, source[None], rtol=0, atol=0.5 / 2**15 + 1e-9)  # 16-bit rounding


def test_sources_that_would_clip_are_turned_down_together(mixture_path, tmp_path, rng):
    sources = np.stack([np.linspace(-2.0, 2.0, 1600), np.linspace(-0.5, 0.5, 1600)])
    separated = separate_file(_separating_into(sources), mixture_path, tmp_path / "new" / "folder")
    assert separated.gain == pytest.approx(0.99 / 2)
    written = np.concatenate([read_audio(path)[0] for path in separated.paths])
    np.testing.assert_allclose(written, sources * separated.gain, rtol=0, atol=0.5 / 2**15 + 1e-6)


def test_float_files_keep_sources_beyond_full_scale(mixture_path, tmp_path):
    sources = np.stack([np.linspace(-2.0, 2.0, 1600), np.zeros(1600)])
    separated = separate_file(_separating_into(sources), mixture_path, tmp_path, "FLOAT")
    assert separated.gain == 1.0
    np.testing.assert_array_equal(read_audio(separated.paths[0])[0], sources[:1].astype(np.float32))


def test_an_error_names_the_mixture(tmp_path, tiny_separator):
    write_audio(tmp_path / "short.wav", np.full(9, 0.1), 8000)
    with pytest.raises(ValueError, match=r"short\.wav: waveform has 9 samples") as raised:
        separate_file(tiny_separator, tmp_path / "short.wav")
    assert "\n" not in str(raised.value)


def test_a_file_in_place_of_the_output_folder_is_refused_before_the_work(mixture_path, tmp_path):
    (tmp_path / "file").touch()

    def separator(waveform, sample_rate):
        raise AssertionError("separated for nothing")

    with pytest.raises(ValueError, match=r"is a file; name a folder"):
        separate_file(separator, mixture_path, tmp_path / "file")
