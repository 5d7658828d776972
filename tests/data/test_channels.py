"""Telephone bands and codecs: length, alignment and pass band."""

from __future__ import annotations

import numpy as np
import pytest

from mossformer_jax.data.channels import CODECS, Channel, band_limited

RATE = 8000


@pytest.mark.parametrize("codec", ["telephone", *CODECS])
def test_every_channel_keeps_length_and_alignment(codec, rng):
    noise = band_limited(rng.standard_normal(4 * RATE), RATE, (500.0, 2500.0))
    envelope = np.repeat(rng.uniform(0.1, 1.0, 40), RATE // 10)
    sent = (0.2 * noise * envelope / noise.std()).astype(np.float32).clip(-1, 1)
    arrived = Channel(codecs=(codec,))(sent, RATE, rng)
    assert arrived.shape == sent.shape
    assert not np.array_equal(arrived, sent)
    spectrum = np.fft.rfft(arrived, 2 * len(sent)) * np.fft.rfft(sent, 2 * len(sent)).conj()
    correlation = np.fft.irfft(spectrum)
    assert abs((int(correlation.argmax()) + len(sent)) % (2 * len(sent)) - len(sent)) <= 1
    assert correlation.max() / (np.linalg.norm(sent) * np.linalg.norm(arrived)) > 0.6


def test_the_telephone_channel_removes_low_frequencies(rng):
    noise = rng.standard_normal(4 * RATE).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(Channel(codecs=("telephone",))(noise, RATE, rng))) ** 2
    hz = np.fft.rfftfreq(len(noise), 1 / RATE)
    assert spectrum[hz < 150].mean() < 1e-3 * spectrum[(hz > 600) & (hz < 3000)].mean()


def test_an_unknown_codec_is_an_error():
    with pytest.raises(ValueError, match=r"codecs=\('g729',\) is not allowed: choose from telephone, mu-law"):
        Channel(codecs=("g729",))
