"""Dynamic mixing: mixtures drawn anew from single utterances.

A mixture is a pure function of a `numpy.random.Generator`: whoever seeds the same way gets the same one, in any
process, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from mossformer_jax.data.acoustics import Babble, Channel, LevelDrift, RecordedNoise, Reverberation
from mossformer_jax.data.drawing import (
    check_range,
    check_share,
    check_speeds,
    draw_crop,
    draw_joined,
    draw_noise,
    place,
)
from mossformer_jax.data.records import Mixture
from mossformer_jax.data.utterances import Speech

# The recipe of dynamic mixing that the field took over from SpeechBrain's SepFormer on WSJ0-mix.
FIRST_LEVEL_DB = (-27.43, 2.57)
RELATIVE_LEVEL_DB = (-2.51, 2.66)
LEVEL_RANGE_DB = (-45.0, 0.0)
PEAK = 0.9
# A crop fainter than this holds no speech: bringing it to level would make a source of its rounding errors.
SILENCE_DB = -80.0
# Where sources overlap in part only, each is heard for a share of the mixture between these.
PARTIAL_LENGTHS = (0.3, 1.0)
_ATTEMPTS = 20


@runtime_checkable
class TrainingMixtures(Protocol):
    """What batches for training are drawn from. It can be pickled, for worker processes."""

    @property
    def num_sources(self) -> int:
        """Sources of every mixture."""

    @property
    def sample_rate(self) -> int:
        """In Hz."""

    def __len__(self) -> int:
        """How many mixtures make an epoch."""

    def draw(self, index: int, num_samples: int, rng: np.random.Generator) -> Mixture:
        """Draws a mixture of at most `num_samples`.

        Raises:
            FileNotFoundError, ValueError: a file is missing or corrupt; the message names it.
        """


def level_db(waveform: Float[np.ndarray, "*c t"]) -> Float[np.ndarray, "*c"]:
    """The loudness of dynamic mixing: the mean magnitude of the samples, in dB of full scale.

    The recipe's figures were taken with this measure. It is neither RMS (which for speech is 3 to 5 dB higher) nor the
    LUFS of ITU-R BS.1770.
    """
    return 20 * np.log10(np.abs(waveform).mean(axis=-1) + 1e-12)


@dataclass(frozen=True)
class DynamicMixing:
    """Mixtures of utterances of different speakers, drawn anew every time.

    A speaker's chance is proportional to the number of its utterances. The first source is brought to a level of
    N(-27.43, 2.57) dB, every other one to N(-2.51, 2.66) dB relative to the first, all within [-45, 0] dB (`level_db`
    of the crop); if the mixture or a source then peaks above 0.9, everything is scaled down to that. Each source is a
    random crop; a mixture is no longer than its shortest utterance. Noise is added at the level it is stored at.

    That is the published recipe. The options after `epoch_size` depart from it, each only where it is given.

    Attributes:
        speech: the utterances.
        num_sources: speakers of every mixture.
        noise: recordings of noise, one of which is added to each mixture.
        speeds: percentages, one of which is drawn for each source: it is resampled so as to run that fast.
        epoch_size: how many mixtures count as an epoch; None stands for as many as use each utterance once.
        single_share: share of the mixtures in which all sources but one are silent.
        partial_share: share of the mixtures in which each source is heard for a part of the time only, 30 % to all of
            it, anywhere in the mixture; its level is that of this part.
        fill: whether every mixture has the full length: other utterances of the same speaker follow one that is too
            short, and where there are none, it lies anywhere in silence.
        relative_range_db: lowest and highest level of the sources relative to the first, drawn evenly, instead of
            N(-2.51, 2.66) dB.
        noise_share: share of the mixtures to which noise between white and pink is added, beside any recorded one.
        noise_snr_db: lowest and highest level of the sum of the sources above that noise (powers, over the whole
            mixture), drawn evenly.
        min_level_db: a mixture with a crop fainter than this (`level_db`, as it is stored) is drawn again.
        max_speaker_seconds: makes a speaker's chance proportional to the seconds of its speech, of which no more than
            this many count, instead of to the number of its utterances.
        level_drift: lets the levels of the sources drift.
        reverberation: puts the sources into a room; the sources of the mixture are then its targets.
        recorded_noise: adds recorded noise at a drawn SNR.
        babble: adds the voices of other speakers of the corpus.
        channel: sends the mixture through a telephone line or a codec.

    Raises:
        ValueError: there are fewer speakers than sources, a speed or the epoch's size is not positive, the noise has
            another sample rate, or another option is out of its range; the message names it.
    """

    speech: Speech
    num_sources: int = 2
    noise: Speech | None = None
    speeds: Sequence[int] = (100,)
    epoch_size: int | None = None
    single_share: float = 0.0
    partial_share: float = 0.0
    fill: bool = False
    relative_range_db: tuple[float, float] | None = None
    noise_share: float = 0.0
    noise_snr_db: tuple[float, float] = (20.0, 50.0)
    min_level_db: float = SILENCE_DB
    max_speaker_seconds: float | None = None
    level_drift: LevelDrift | None = None
    reverberation: Reverberation | None = None
    recorded_noise: RecordedNoise | None = None
    babble: Babble | None = None
    channel: Channel | None = None

    def __post_init__(self) -> None:
        check_speeds(self.speeds)
        for name in ("single_share", "partial_share", "noise_share"):
            check_share(name, getattr(self, name))
        check_range("noise_snr_db", self.noise_snr_db)
        if self.relative_range_db is not None:
            check_range("relative_range_db", self.relative_range_db)
        if not SILENCE_DB <= self.min_level_db < 0:
            raise ValueError(
                f"min_level_db={self.min_level_db!r} is not allowed: must be from {SILENCE_DB:g} to below 0"
            )
        if self.max_speaker_seconds is not None and not self.max_speaker_seconds > 0:
            raise ValueError(
                f"max_speaker_seconds={self.max_speaker_seconds!r} is not allowed: must be above 0, or None"
            )
        if not 1 <= self.num_sources <= len(self.speech.speaker_names):
            raise ValueError(
                f"num_sources={self.num_sources} is not allowed: must be from 1 to the number of different speakers, "
                f"{len(self.speech.speaker_names)}"
            )
        if self.epoch_size is not None and self.epoch_size < 1:
            raise ValueError(f"epoch_size={self.epoch_size} is not allowed: must be 1 or more, or None")
        recordings = {
            "noise": self.noise,
            "recorded_noise": None if self.recorded_noise is None else self.recorded_noise.noise,
            "reverberation": None if self.reverberation is None else self.reverberation.responses,
        }
        for name, recording in recordings.items():
            if recording is not None and recording.sample_rate != self.sample_rate:
                raise ValueError(
                    f"{name} is at {recording.sample_rate} Hz, the speech at {self.sample_rate} Hz; open both at one"
                )

    @property
    def sample_rate(self) -> int:
        """That of the speech, in Hz."""
        return self.speech.sample_rate

    def __len__(self) -> int:
        return self.epoch_size or max(len(self.speech) // self.num_sources, 1)

    def draw(self, index: int, num_samples: int, rng: np.random.Generator) -> Mixture:
        """Draws a mixture; the index plays no part."""
        for _ in range(_ATTEMPTS):
            utterances, crops, length, noise = self._draw_crops(num_samples, rng)
            levels = np.array([level_db(crop) for crop in crops])
            if levels.min() > self.min_level_db:
                break
        else:
            faint = self.speech.name(utterances[int(levels.argmin())])
            raise ValueError(
                f"{faint}: silent (below {self.min_level_db:g} dB), as other utterances before it; check the level of "
                "the speech files"
            )
        gains = 10 ** ((self._draw_levels(rng) - levels) / 20).astype(np.float32)
        sources_ct = np.stack(
            [place(crop, length, self.sample_rate, rng) * gain for crop, gain in zip(crops, gains, strict=True)]
        )
        if _falls(self.single_share, rng):
            sources_ct[np.arange(self.num_sources) != rng.integers(self.num_sources)] = 0.0
        speakers = [int(self.speech.speakers[i]) for i in utterances]
        if self.level_drift is not None and _falls(self.level_drift.share, rng):
            sources_ct = self.level_drift(sources_ct, self.sample_rate, rng)
        heard_ct, heard_as_sources = sources_ct, True
        if self.reverberation is not None and _falls(self.reverberation.share, rng):
            heard_ct, sources_ct = self.reverberation(sources_ct, rng)
            heard_as_sources = False
        noise = self._add_noise(heard_ct.sum(axis=0), noise, speakers, rng)
        mixture = heard_ct.sum(axis=0) if noise is None else heard_ct.sum(axis=0) + noise
        peak = max(mixture.max(), -mixture.min(), sources_ct.max(), -sources_ct.min())
        if peak > PEAK:
            scale = np.float32(PEAK / peak)
            sources_ct, mixture = sources_ct * scale, mixture * scale
            noise = None if noise is None else noise * scale
        if self.channel is not None and _falls(self.channel.share, rng):
            mixture, heard_as_sources = self.channel(mixture, self.sample_rate, rng), False
        return Mixture(
            id="_".join(self.speech.name(i) for i in utterances),
            sources=sources_ct,
            sample_rate=self.sample_rate,
            # After a room or a channel, the mixture is no longer the sum of the sources and the noise.
            mixture=None if heard_as_sources else mixture,
            noise=noise,
            speakers=tuple(self.speech.speaker_names[speaker] for speaker in speakers),
        )

    def _add_noise(
        self,
        clean: Float[np.ndarray, " t"],
        noise: Float[np.ndarray, " t"] | None,
        speakers: Sequence[int],
        rng: np.random.Generator,
    ) -> Float[np.ndarray, " t"] | None:
        """The sum of all noises of a mixture: the stored one, and those that are drawn."""
        parts = [] if noise is None else [noise]
        if _falls(self.noise_share, rng):
            parts.append(draw_noise(clean, self.noise_snr_db, rng))
        if self.recorded_noise is not None and _falls(self.recorded_noise.share, rng):
            parts.append(self.recorded_noise(clean, rng))
        if self.babble is not None and _falls(self.babble.share, rng):
            parts.append(self.babble(clean, self.speech, speakers, rng))
        return np.stack(parts).sum(axis=0) if parts else None

    def _draw_crops(
        self, num_samples: int, rng: np.random.Generator
    ) -> tuple[list[int], list[Float[np.ndarray, " _"]], int, Float[np.ndarray, " t"] | None]:
        """Utterances of different speakers, a crop of each, the mixture's length, and a crop of a noise."""
        utterances = self._draw_utterances(rng)
        speeds = rng.choice(self.speeds, self.num_sources).tolist()
        lengths = [self.speech.num_samples(i) * 100 // speed for i, speed in zip(utterances, speeds, strict=True)]
        length = num_samples if self.fill else min(num_samples, *lengths)
        noise = None
        if self.noise is not None:
            index = int(rng.integers(len(self.noise)))
            length = min(length, self.noise.num_samples(index))
            noise = draw_crop(self.noise, index, length, rng)
        draw = draw_joined if self.fill else draw_crop
        crops = [draw(self.speech, i, length, rng, speed) for i, speed in zip(utterances, speeds, strict=True)]
        if _falls(self.partial_share, rng):
            crops = [crop[: math.ceil(rng.uniform(*PARTIAL_LENGTHS) * length)] for crop in crops]
        return utterances, crops, length, noise

    def _draw_utterances(self, rng: np.random.Generator) -> list[int]:
        """Any utterance is as likely as another: that makes a speaker's chance proportional to their number."""
        if self.max_speaker_seconds is not None:
            chances = self._chances
            speakers = rng.choice(len(chances), self.num_sources, replace=False, p=chances)
            return [int(rng.choice(np.flatnonzero(self.speech.speakers == speaker))) for speaker in speakers]
        drawn: list[int] = []
        seen: set[int] = set()
        while len(drawn) < self.num_sources:
            utterance = int(rng.integers(len(self.speech)))
            if (speaker := int(self.speech.speakers[utterance])) not in seen:
                seen.add(speaker)
                drawn.append(utterance)
        return drawn

    @cached_property
    def _chances(self) -> Float[np.ndarray, " speakers"]:
        """Of each speaker, going by seconds of speech."""
        lengths = [self._length_if_known(index) for index in range(len(self.speech))]
        seconds = np.bincount(self.speech.speakers, lengths) / self.sample_rate
        counted = np.minimum(seconds, self.max_speaker_seconds or math.inf)
        return counted / counted.sum()

    def _length_if_known(self, index: int) -> int:
        """A file that cannot be read counts as none here; where it is drawn, it is told and replaced."""
        try:
            return self.speech.num_samples(index)
        except (OSError, ValueError):
            return 0

    def _draw_levels(self, rng: np.random.Generator) -> Float[np.ndarray, " c"]:
        first = np.clip(rng.normal(*FIRST_LEVEL_DB), *LEVEL_RANGE_DB)
        if self.relative_range_db is None:
            relative = rng.normal(*RELATIVE_LEVEL_DB, self.num_sources - 1)
        else:
            relative = rng.uniform(*self.relative_range_db, self.num_sources - 1)
        return np.array([first, *np.clip(first + relative, *LEVEL_RANGE_DB)])


def _falls(share: float, rng: np.random.Generator) -> bool:
    """Whether a draw falls into a share; none is made for a share of nothing, so that it changes no later draw."""
    return share > 0 and rng.random() < share


class DrawnMixtures:
    """A fixed set of mixtures that a seed stands for: one can validate without a data set of mixtures.

    Attributes:
        num_sources: sources of every mixture.
        sample_rate: in Hz.
    """

    def __init__(self, mixtures: TrainingMixtures, count: int, max_samples: int, seed: int = 0):
        """Notes what to draw; each mixture is drawn when it is read.

        Args:
            mixtures: what they are drawn from.
            count: how many they are.
            max_samples: the longest that one can be.
            seed: another seed makes another set.

        Raises:
            ValueError: a number is out of its range.
        """
        for name, number in (("count", count), ("max_samples", max_samples)):
            if number < 1:
                raise ValueError(f"{name}={number} is not allowed: must be 1 or more")
        self.mixtures, self.count, self.max_samples, self.seed = mixtures, count, max_samples, seed
        self.num_sources, self.sample_rate = mixtures.num_sources, mixtures.sample_rate

    def __len__(self) -> int:
        return self.count

    def mixture_id(self, index: int) -> str:
        """Its number with the names of its utterances, which must be drawn for that."""
        return self.read(index).id

    def num_samples(self, index: int) -> int:
        """Its length; it must be drawn for that."""
        return self.read(index).sources.shape[1]

    def read(self, index: int, start: int = 0, num_samples: int | None = None) -> Mixture:
        """Draws it again and cuts `num_samples` from `start` out of it.

        Raises:
            FileNotFoundError, ValueError: a file is missing or corrupt; the message names it.
        """
        mixture = self.mixtures.draw(index, self.max_samples, np.random.default_rng((self.seed, index)))
        stop = None if num_samples is None else start + num_samples
        return replace(
            mixture,
            id=f"{index:05d}_{mixture.id}",
            sources=mixture.sources[:, start:stop],
            mixture=mixture.mixed()[start:stop],
            noise=None if mixture.noise is None else mixture.noise[start:stop],
        )
