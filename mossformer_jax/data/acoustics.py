"""Acoustic conditions of training mixtures: rooms, noise, babble and level drift.

Each condition is a frozen dataclass with a `share`, the probability that it is applied to a mixture. All random draws
use the generator of the mixture, so that the same seed gives the same mixture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy  # loads scipy.signal at its first use, because that takes more than a second
from jaxtyping import Float

from mossformer_jax.data.random_draws import check_range, check_share, draw_crop
from mossformer_jax.data.speech import Speech

TARGETS = ("dry", "early")
# Sound within this time after the peak of the response counts as direct, because the response of a loudspeaker and
# microphone, simulated or measured, is longer than one sample.
DIRECT_SECONDS = 0.0025


class ResponseParts(NamedTuple):
    """A room impulse response and its parts.

    Attributes:
        response: the whole response.
        direct: position of the direct sound in samples.
        kept: end of the part that the target includes, in samples.
        norm: square root of the energy up to the end of the early part.
    """

    response: Float[np.ndarray, " _"]
    direct: int
    kept: int
    norm: float


@dataclass(frozen=True)
class Reverberation:
    """Convolves the sources of a mixture with room impulse responses.

    Attributes:
        responses: room impulse responses; their `speakers` are the rooms. All sources of a mixture are in the same
            room, each with a different response if the room has enough of them.
        share: probability that a mixture is reverberant.
        target: "dry": the target is the direct sound only. "early": the target also includes the reflections of the
            first `early_seconds`. Both are aligned with the direct sound in the mixture.
        early_seconds: time after the direct sound up to which reflections count as early.

    Raises:
        ValueError: an option is out of range; the message names it.
    """

    responses: Speech
    share: float = 0.5
    target: str = "early"
    early_seconds: float = 0.05

    def __post_init__(self) -> None:
        check_share("reverberation share", self.share)
        if self.target not in TARGETS:
            raise ValueError(
                f"reverberation target={self.target!r} is not allowed: must be one of {', '.join(TARGETS)}"
            )
        if not 0 <= self.early_seconds < math.inf:
            raise ValueError(f"early_seconds={self.early_seconds!r} is not allowed: must be 0 or more")

    def __call__(
        self, sources_ct: Float[np.ndarray, "c t"], rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "c t"], Float[np.ndarray, "c t"]]:
        """Draws a room and convolves the dry sources with its responses.

        Each response is scaled to unit energy up to the end of its early part.

        Returns:
            The reverberant sources and the targets, both (c, t).
        """
        room = rng.integers(len(self.responses.speaker_names))
        choices = np.flatnonzero(self.responses.speakers == room)
        drawn = rng.choice(choices, len(sources_ct), replace=len(choices) < len(sources_ct))
        reverberant_ct, targets_ct = np.empty_like(sources_ct), np.empty_like(sources_ct)
        for source, index, reverberant, target in zip(sources_ct, drawn, reverberant_ct, targets_ct, strict=True):
            parts = self.parts(int(index))
            response = parts.response / parts.norm
            reverberant[:] = _convolve_from(source, response, parts.direct)
            target[:] = _convolve_from(source, response[: parts.kept], parts.direct)
        return reverberant_ct, targets_ct

    def parts(self, index: int) -> ResponseParts:
        """Reads an impulse response and finds its parts.

        Raises:
            ValueError: the response is silent; the message names it.
        """
        response, rate = self.responses.read(index).astype(np.float64), self.responses.sample_rate
        direct = int(np.argmax(np.abs(response)))
        early = direct + 1 + round(self.early_seconds * rate)
        kept = direct + 1 + round(DIRECT_SECONDS * rate) if self.target == "dry" else early
        norm = math.sqrt(np.sum(np.square(response[:early])))
        if not norm > 0:
            raise ValueError(
                f"{self.responses.name(index)}: is silent, so it is not a room impulse response; remove it"
            )
        return ResponseParts(response, direct, kept, norm)


@dataclass(frozen=True)
class RecordedNoise:
    """Recorded noise for a mixture.

    Attributes:
        noise: the recordings, of which one is drawn and cropped; a recording that is too short is repeated.
        share: probability that noise is added to a mixture.
        snr_db: lowest and highest SNR of the sum of the sources to the noise in dB, drawn uniformly.
    """

    noise: Speech
    share: float = 0.5
    snr_db: tuple[float, float] = (0.0, 20.0)

    def __post_init__(self) -> None:
        check_share("recorded noise share", self.share)
        check_range("recorded noise snr_db", self.snr_db)

    def __call__(self, clean: Float[np.ndarray, " t"], rng: np.random.Generator) -> Float[np.ndarray, " t"]:
        """The noise (t,) to add to `clean`, the sum of the sources; silent if `clean` is silent."""
        index = int(rng.integers(len(self.noise)))
        length = min(len(clean), self.noise.num_samples(index))
        crop = draw_crop(self.noise, index, length, rng)
        repeated = np.resize(crop, len(clean))
        return at_snr(repeated, clean, rng.uniform(*self.snr_db))


@dataclass(frozen=True)
class Babble:
    """Babble for a mixture: voices of speakers of the corpus that are not sources of the mixture.

    Attributes:
        share: probability that babble is added to a mixture.
        num_speakers: lowest and highest number of voices, drawn uniformly.
        snr_db: lowest and highest SNR of the sum of the sources to the babble in dB, drawn uniformly.
    """

    share: float = 0.2
    num_speakers: tuple[int, int] = (4, 8)
    snr_db: tuple[float, float] = (5.0, 20.0)

    def __post_init__(self) -> None:
        check_share("babble share", self.share)
        check_range("babble snr_db", self.snr_db)
        low, high = self.num_speakers
        if not 1 <= low <= high:
            raise ValueError(
                f"babble num_speakers={self.num_speakers!r} is not allowed: must be two numbers, 1 or more, the "
                "smaller first"
            )

    def __call__(
        self, clean: Float[np.ndarray, " t"], speech: Speech, targets: Sequence[int], rng: np.random.Generator
    ) -> Float[np.ndarray, " t"]:
        """The babble (t,) to add to `clean`; silent if `clean` is silent.

        Args:
            clean: the sum of the sources, (t,).
            speech: the corpus.
            targets: the speakers of the sources, as positions in `speech.speaker_names`.
            rng: random generator.

        Raises:
            ValueError: the corpus has no other speakers.
        """
        others = np.setdiff1d(np.unique(speech.speakers), np.asarray(targets))
        if not len(others):
            raise ValueError("babble needs more speakers than the sources have; add speakers to the corpus")
        count = int(rng.integers(self.num_speakers[0], self.num_speakers[1] + 1))
        total = np.zeros(len(clean), np.float32)
        for speaker in rng.choice(others, count, replace=count > len(others)):
            index = int(rng.choice(np.flatnonzero(speech.speakers == speaker)))
            voice = draw_crop(speech, index, min(len(clean), speech.num_samples(index)), rng)
            voice = np.roll(np.resize(voice, len(clean)), int(rng.integers(len(clean))))
            total += voice / max(float(np.sqrt(np.mean(np.square(voice)))), 1e-6)
        return at_snr(total, clean, rng.uniform(*self.snr_db))


@dataclass(frozen=True)
class LevelDrift:
    """Makes the level of each source drift, as if the talker moved or turned away. The targets drift in the same way.

    Attributes:
        share: probability that the levels of a mixture drift.
        range_db: largest deviation from the original level, in dB.
        seconds: largest time between two random points of the level curve, which is linear in dB between them.
    """

    share: float = 0.2
    range_db: float = 6.0
    seconds: float = 1.0

    def __post_init__(self) -> None:
        check_share("level drift share", self.share)
        for name in ("range_db", "seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"level drift {name}={getattr(self, name)!r} is not allowed: must be above 0")

    def __call__(
        self, sources_ct: Float[np.ndarray, "c t"], sample_rate: int, rng: np.random.Generator
    ) -> Float[np.ndarray, "c t"]:
        """The sources (c, t) with drifting levels."""
        num_sources, num_samples = sources_ct.shape
        points = 2 + int(num_samples / (self.seconds * sample_rate))
        at = np.linspace(0, num_samples - 1, points)
        drifts_db = rng.uniform(-self.range_db, self.range_db, (num_sources, points))
        curves_db = np.stack([np.interp(np.arange(num_samples), at, drift_db) for drift_db in drifts_db])
        return (sources_ct * 10 ** (curves_db / 20)).astype(np.float32)


def at_snr(noise: Float[np.ndarray, " t"], clean: Float[np.ndarray, " t"], snr_db: float) -> Float[np.ndarray, " t"]:
    """The noise, scaled to an SNR in dB relative to `clean`; silent if either of them is silent."""
    wanted = np.mean(np.square(clean, dtype=np.float64)) * 10 ** (-snr_db / 10)
    power = np.mean(np.square(noise, dtype=np.float64))
    return (noise * math.sqrt(wanted / max(power, 1e-20))).astype(np.float32)


def _convolve_from(
    source: Float[np.ndarray, " t"], response: Float[np.ndarray, " _"], start: int
) -> Float[np.ndarray, " t"]:
    """The convolution from sample `start` on, cut to the length of the source."""
    return scipy.signal.oaconvolve(source, response)[start : start + len(source)].astype(np.float32)
