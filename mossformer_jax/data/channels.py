"""Channels that a training mixture passes through: a telephone band or a codec."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import scipy
import soundfile
from jaxtyping import Float

from mossformer_jax.audio.resampling import fit_length
from mossformer_jax.data.random_draws import check_share

# Codecs by name: libsndfile's container and subtype, and the range of the compression level if the format has one.
CODECS: dict[str, tuple[str, str, tuple[float, float] | None]] = {
    "mu-law": ("WAV", "ULAW", None),
    "a-law": ("WAV", "ALAW", None),
    "gsm": ("WAV", "GSM610", None),
    "mp3": ("MP3", "MPEG_LAYER_III", (0.5, 0.99)),
    "opus": ("OGG", "OPUS", (0.5, 0.99)),
    "vorbis": ("OGG", "VORBIS", (0.5, 0.99)),
}
# The pass band of a telephone line (ITU-T G.712), in Hz.
TELEPHONE_BAND = (300.0, 3400.0)


@dataclass(frozen=True)
class Channel:
    """Passes the mixture through a telephone band or a codec. The targets are unchanged.

    Attributes:
        share: probability that a mixture passes through a channel.
        codecs: names to draw from: those of `CODECS`, and "telephone" for the band from 300 to 3,400 Hz.
    """

    share: float = 0.2
    codecs: tuple[str, ...] = ("telephone", *CODECS)

    def __post_init__(self) -> None:
        check_share("channel share", self.share)
        unknown = [name for name in self.codecs if name != "telephone" and name not in CODECS]
        if unknown or not self.codecs:
            raise ValueError(
                f"channel codecs={self.codecs!r} is not allowed: choose from telephone, {', '.join(CODECS)}"
            )

    def __call__(
        self, mixture: Float[np.ndarray, " t"], sample_rate: int, rng: np.random.Generator
    ) -> Float[np.ndarray, " t"]:
        """The received mixture (t,), aligned with the original."""
        name = self.codecs[int(rng.integers(len(self.codecs)))]
        if name == "telephone":
            return band_limited(mixture, sample_rate, TELEPHONE_BAND)
        container, subtype, levels = CODECS[name]
        options = {} if levels is None else {"compression_level": rng.uniform(*levels)}
        return coded(mixture, sample_rate, container, subtype, **options)


def band_limited(
    waveform: Float[np.ndarray, " t"], sample_rate: int, band_hz: tuple[float, float]
) -> Float[np.ndarray, " t"]:
    """The waveform after a linear-phase band-pass filter without delay."""
    taps = band_pass_filter(sample_rate, band_hz)
    return scipy.signal.oaconvolve(waveform, taps, mode="same").astype(np.float32)


def band_pass_filter(sample_rate: int, band_hz: tuple[float, float]) -> Float[np.ndarray, " taps"]:
    """The filter of `band_limited`, with an odd number of taps."""
    upper = min(band_hz[1], 0.98 * sample_rate / 2)
    return scipy.signal.firwin(2 * (sample_rate // 100) + 1, (band_hz[0], upper), pass_zero=False, fs=sample_rate)


def coded(
    waveform: Float[np.ndarray, " t"], sample_rate: int, container: str, subtype: str, **options: float
) -> Float[np.ndarray, " t"]:
    """The waveform after encoding and decoding by libsndfile, at its original length.

    Raises:
        ValueError: the codec does not support the sample rate.
    """
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, waveform, sample_rate, format=container, subtype=subtype, **options)
        buffer.seek(0)
        decoded, _ = soundfile.read(buffer, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ValueError(f"codec {subtype} failed at {sample_rate} Hz ({error}); choose other codecs") from error
    return fit_length(decoded, len(waveform))
