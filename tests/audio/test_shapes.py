"""Shapes that do not match the annotations are jaxtyping errors, because every test run checks them."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from mossformer_jax import audio


def test_resampling_integers_is_an_error():
    with pytest.raises(TypeCheckError, match="waveform"):
        audio.resample(np.zeros(100, np.int16), 16000, 8000)


def test_resampling_an_array_with_a_wrong_number_of_axes_is_an_error():
    with pytest.raises(TypeCheckError, match="waveform"):
        audio.resample(np.float32(0.0), 16000, 8000)
    assert audio.resample(np.zeros((2, 100)), 16000, 8000).shape == (2, 50)


def test_down_mixing_without_a_channel_axis_is_an_error():
    with pytest.raises(TypeCheckError, match="waveform"):
        audio.to_mono(np.zeros(100))
    assert audio.to_mono(np.zeros((2, 100))).shape == (100,)


def test_writing_a_list_is_an_error(tmp_path):
    with pytest.raises(TypeCheckError, match="waveform"):
        audio.write_audio(tmp_path / "a.wav", [0.0, 0.1], 8000)
