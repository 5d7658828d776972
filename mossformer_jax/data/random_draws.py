"""Random draws for dynamic mixing: crops of speech, their position, noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mossformer_jax.audio.resampling import fit_length, resample
from mossformer_jax.data.speech import UNKNOWN_SPEAKER, Speech

# Length in seconds of the fades at cuts inside a mixture, which prevent clicks.
FADE_SECONDS = 0.01
_LARGEST_SPEED = 1000


def draw_crop(
    speech: Speech, index: int, num_samples: int, rng: np.random.Generator, speed: int = 100
) -> Float[np.ndarray, " t"]:
    """A random crop of `num_samples` from an utterance played at `speed` percent."""
    length = speech.num_samples(index)
    needed = min(-(-num_samples * speed // 100), length)
    waveform = speech.read(index, int(rng.integers(length - needed + 1)), needed)
    if speed == 100:
        return waveform
    rate = speech.sample_rate
    return fit_length(resample(waveform, rate * speed, rate * 100), num_samples)


def draw_joined(
    speech: Speech, index: int, num_samples: int, rng: np.random.Generator, speed: int = 100
) -> Float[np.ndarray, " t"]:
    """A crop of an utterance. If it is too short, other utterances of the speaker follow in random order.

    The result is shorter than `num_samples` if the speaker has too little speech, or if the speaker is unknown, because
    utterances of unknown speakers cannot be assumed to have the same voice.
    """
    speaker = speech.speakers[index]
    others = np.flatnonzero(speech.speakers == speaker)
    if speech.speaker_names[speaker] == UNKNOWN_SPEAKER:
        others = others[:0]
    pieces, missing = [], num_samples
    for utterance in [index, *rng.permutation(others[others != index]).tolist()]:
        length = min(missing, speech.num_samples(utterance) * 100 // speed)
        pieces.append(draw_crop(speech, utterance, length, rng, speed))
        missing -= length
        if missing == 0:
            break
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate([_fade(piece, speech.sample_rate) for piece in pieces])


def place_randomly(
    waveform: Float[np.ndarray, " t"], num_samples: int, sample_rate: int, rng: np.random.Generator
) -> Float[np.ndarray, " {num_samples}"]:
    """A waveform at a random position in `num_samples` of silence; unchanged if it already has this length."""
    if len(waveform) == num_samples:
        return waveform
    start = int(rng.integers(num_samples - len(waveform) + 1))
    return np.pad(_fade(waveform, sample_rate), (start, num_samples - start - len(waveform)))


def draw_noise(
    mixture: Float[np.ndarray, " t"], snr_db: tuple[float, float], rng: np.random.Generator
) -> Float[np.ndarray, " t"]:
    """Noise with a spectrum between white and pink, at an SNR in dB drawn from a range; zero for a silent mixture."""
    num_samples = len(mixture)
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    # The power spectrum is proportional to f**-a, with a between 0 (white) and 1 (pink).
    spectrum *= np.maximum(np.arange(len(spectrum)), 1) ** (-rng.uniform(0.0, 1.0) / 2)
    noise = np.fft.irfft(spectrum, num_samples)
    power = np.mean(np.square(mixture, dtype=np.float64)) * 10 ** (-rng.uniform(*snr_db) / 10)
    return (noise * math.sqrt(power / max(np.mean(np.square(noise)), 1e-12))).astype(np.float32)


def _fade(waveform: Float[np.ndarray, " t"], sample_rate: int) -> Float[np.ndarray, " t"]:
    """The waveform with a linear fade-in and fade-out."""
    num_faded = min(round(FADE_SECONDS * sample_rate), len(waveform) // 2)
    faded = waveform.copy()
    ramp = np.arange(num_faded, dtype=np.float32) / max(num_faded, 1)
    faded[:num_faded] *= ramp
    faded[len(faded) - num_faded :] *= ramp[::-1]
    return faded


def check_speeds(speeds: Sequence[int]) -> None:
    """Raises a ValueError unless `speeds` is a non-empty sequence of whole percentages from 1 to 1000."""
    if not speeds or not all(isinstance(speed, int) and speed > 0 for speed in speeds):
        raise ValueError(f"speeds={speeds!r} is not allowed: must be whole percentages above 0, such as (95, 100, 105)")
    if max(speeds) > _LARGEST_SPEED:
        raise ValueError(f"speeds={tuple(speeds)} is not allowed: must be at most {_LARGEST_SPEED} percent")


def check_share(name: str, share: float) -> None:
    """Raises a ValueError unless `share` is between 0 and 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name}={share!r} is not allowed: must be from 0 to 1")


def check_range(name: str, ends: Sequence[float]) -> None:
    """Raises a ValueError unless `ends` is the lower and upper end of a range."""
    if len(ends) != 2 or not -math.inf < ends[0] <= ends[1] < math.inf:
        raise ValueError(f"{name}={ends!r} is not allowed: must be two numbers in dB, the smaller first")


def falls(share: float, rng: np.random.Generator) -> bool:
    """True with probability `share`. For 0, nothing is drawn, so that unused options do not change later draws."""
    return share > 0 and rng.random() < share
