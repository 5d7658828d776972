"""Shapes that do not fit the annotations are refused with jaxtyping's message when the functions are checked."""

from __future__ import annotations

import numpy as np
import pytest
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from mossformer_jax import audio

check = jaxtyped(typechecker=beartype)


def test_integers_are_not_resampled():
    with pytest.raises(TypeCheckError, match="waveform"):
        check(audio.resample)(np.zeros(100, np.int16), 16000, 8000)


def test_what_is_resampled_has_an_axis_of_channels_and_one_of_time():
    with pytest.raises(TypeCheckError, match="waveform"):
        check(audio.resample)(np.float32(0.0), 16000, 8000)
    assert check(audio.resample)(np.zeros((2, 100)), 16000, 8000).shape == (2, 50)


def test_what_is_mixed_down_has_channels():
    with pytest.raises(TypeCheckError, match="waveform"):
        check(audio.to_mono)(np.zeros(100))
    assert check(audio.to_mono)(np.zeros((2, 100))).shape == (100,)


def test_lists_are_not_written(tmp_path):
    with pytest.raises(TypeCheckError, match="waveform"):
        check(audio.write_audio)(tmp_path / "a.wav", [0.0, 0.1], 8000)
