"""Dynamic mixing: random mixtures of single utterances, created during training.

A mixture is a pure function of a `numpy.random.Generator`: the same seed gives the same mixture, in any process and in
any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from mossformer_jax.data.acoustics import Babble, LevelDrift, RecordedNoise, Reverberation
from mossformer_jax.data.channels import Channel
from mossformer_jax.data.random_draws import (
    check_range,
    check_share,
    check_speeds,
    draw_crop,
    draw_joined,
    draw_noise,
    falls,
    place_randomly,
)
from mossformer_jax.data.records import Mixture
from mossformer_jax.data.scenes import draw_background, draw_scene
from mossformer_jax.data.speech import Speech

# The usual recipe of dynamic mixing, from SpeechBrain's SepFormer on WSJ0-mix.
FIRST_LEVEL_DB = (-27.43, 2.57)
RELATIVE_LEVEL_DB = (-2.51, 2.66)
LEVEL_RANGE_DB = (-45.0, 0.0)
PEAK = 0.9
# A crop fainter than this contains no speech: scaling it to its level would only amplify rounding errors.
SILENCE_DB = -80.0
# In partially overlapping mixtures: shortest and longest duration of a source, as a fraction of the mixture.
PARTIAL_LENGTHS = (0.3, 1.0)
# After so many draws with a crop that is too faint, the speech itself is considered too faint.
ATTEMPTS = 20


@runtime_checkable
class TrainingMixtures(Protocol):
    """Mixtures that training batches are drawn from. It must be picklable, for worker processes."""

    @property
    def num_sources(self) -> int:
        """Number of sources per mixture."""

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz."""

    def __len__(self) -> int:
        """Number of mixtures per epoch."""

    def draw(self, index: int, num_samples: int, rng: np.random.Generator) -> Mixture:
        """Draws a mixture of at most `num_samples` samples.

        Raises:
            FileNotFoundError, ValueError: a file is missing or corrupt; the message names it.
        """


def level_db(waveform: Float[np.ndarray, "*c t"]) -> Float[np.ndarray | np.floating, "*c"]:
    """The level used in dynamic mixing: mean magnitude of the samples, in dB relative to full scale.

    The levels in the published recipe refer to this measure. It differs from RMS (3 to 5 dB higher for speech) and from
    LUFS (ITU-R BS.1770).
    """
    return 20 * np.log10(np.abs(waveform).mean(axis=-1) + 1e-12)


@dataclass(frozen=True)
class DynamicMixing:
    """Random mixtures of utterances of different speakers.

    The probability of a speaker is proportional to the number of their utterances. The first source is scaled to a
    level of N(-27.43, 2.57) dB, the others to N(-2.51, 2.66) dB relative to the first, all clipped to [-45, 0] dB
    (`level_db` of the crop). If the mixture or a source then peaks above 0.9, all signals are scaled down to this peak.
    Each source is a random crop; a mixture is no longer than its shortest utterance. Noise is added at its stored
    level.

    This is the published recipe. The options after `epoch_size` extend it and are off by default.

    Attributes:
        speech: the utterances.
        num_sources: number of speakers per mixture.
        noise: noise recordings, one of which is added to each mixture.
        speeds: speeds in percent, one of which is drawn for each source; the source is resampled to that speed.
        epoch_size: number of mixtures per epoch; None: as many as are needed to use each utterance once.
        single_share: fraction of the mixtures in which only one source is active.
        partial_share: fraction of the mixtures in which each source is active for only 30 to 100 % of the time, at a
            random position. Its level is measured over the active part.
        fill: whether every mixture has the full length. An utterance that is too short is followed by others of the
            same speaker; if there are no others, it is placed at a random position in silence.
        relative_range_db: lowest and highest level relative to the first source, drawn uniformly, instead of
            N(-2.51, 2.66) dB.
        noise_share: fraction of the mixtures to which synthetic noise, between white and pink, is added. Recorded noise
            is added independently of it.
        noise_snr_db: lowest and highest SNR of the sum of the sources to that noise over the whole mixture, in dB,
            drawn uniformly.
        min_level_db: a mixture with a crop fainter than this (`level_db` as stored) is drawn again.
        max_speaker_seconds: makes the probability of a speaker proportional to the duration of their speech, up to this
            many seconds, instead of the number of their utterances.
        level_drift: makes the levels of the sources drift.
        reverberation: makes the sources reverberant; the sources of the mixture are then the targets it defines.
        recorded_noise: adds recorded noise at a random SNR.
        babble: adds the voices of other speakers of the corpus.
        channel: passes the mixture through a telephone channel or a codec.

    Raises:
        ValueError: there are fewer speakers than sources, a speed or the epoch size is not positive, the noise has
            a different sample rate, or another option is out of range; the message names it.
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
                    f"{name} has a sample rate of {recording.sample_rate} Hz, the speech {self.sample_rate} Hz; open "
                    "both at the same rate"
                )

    @property
    def sample_rate(self) -> int:
        """Sample rate of the speech in Hz."""
        return self.speech.sample_rate

    def __len__(self) -> int:
        return self.epoch_size or max(len(self.speech) // self.num_sources, 1)

    def draw(self, index: int, num_samples: int, rng: np.random.Generator) -> Mixture:
        """Draws a mixture. The index is ignored."""
        for _ in range(ATTEMPTS):
            utterances, crops, length, noise = self._draw_crops(num_samples, rng)
            levels = np.array([level_db(crop) for crop in crops])
            if levels.min() > self.min_level_db:
                break
        else:
            faint = self.speech.name(utterances[int(levels.argmin())])
            raise ValueError(
                f"{faint}: drew a crop below min_level_db={self.min_level_db:g} in each of {ATTEMPTS} attempts; check "
                "the level of the speech files, or lower min_level_db"
            )
        gains = 10 ** ((self._draw_levels(rng) - levels) / 20).astype(np.float32)
        sources_ct = np.stack(
            [
                place_randomly(crop, length, self.sample_rate, rng) * gain
                for crop, gain in zip(crops, gains, strict=True)
            ]
        )
        if falls(self.single_share, rng):
            sources_ct[np.arange(self.num_sources) != rng.integers(self.num_sources)] = 0.0
        speakers = [int(self.speech.speakers[i]) for i in utterances]
        heard_ct, sources_ct = draw_scene(sources_ct, self.level_drift, self.reverberation, self.sample_rate, rng)
        heard_as_sources = heard_ct is sources_ct
        noise = self._add_noise(heard_ct.sum(axis=0), noise, speakers, rng)
        mixture = heard_ct.sum(axis=0) if noise is None else heard_ct.sum(axis=0) + noise
        peak = max(mixture.max(), -mixture.min(), sources_ct.max(), -sources_ct.min())
        if peak > PEAK:
            scale = np.float32(PEAK / peak)
            sources_ct, mixture = sources_ct * scale, mixture * scale
            noise = None if noise is None else noise * scale
        if self.channel is not None and falls(self.channel.share, rng):
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
        """The sum of all noises of a mixture: the stored noise and the random ones."""
        parts = [] if noise is None else [noise]
        if falls(self.noise_share, rng):
            parts.append(draw_noise(clean, self.noise_snr_db, rng))
        parts += draw_background(clean, self.recorded_noise, self.babble, self.speech, speakers, rng)
        return np.stack(parts).sum(axis=0) if parts else None

    def _draw_crops(
        self, num_samples: int, rng: np.random.Generator
    ) -> tuple[list[int], list[Float[np.ndarray, " _"]], int, Float[np.ndarray, " t"] | None]:
        """Utterances of different speakers, a crop of each, the length of the mixture, and a crop of noise."""
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
        if falls(self.partial_share, rng):
            crops = [crop[: math.ceil(rng.uniform(*PARTIAL_LENGTHS) * length)] for crop in crops]
        return utterances, crops, length, noise

    def _draw_utterances(self, rng: np.random.Generator) -> list[int]:
        """Draws utterances of different speakers: uniformly, or by speaker if `max_speaker_seconds` is set."""
        if self.max_speaker_seconds is not None:
            chances = self.speaker_chances
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
    def speaker_chances(self) -> Float[np.ndarray, " speakers"]:
        """Probability of each speaker, proportional to their utterances or their seconds of speech."""
        if self.max_speaker_seconds is None:
            counted = np.bincount(self.speech.speakers, minlength=len(self.speech.speaker_names)).astype(np.float64)
        else:
            lengths = [self._length_if_known(index) for index in range(len(self.speech))]
            seconds = np.bincount(self.speech.speakers, lengths, len(self.speech.speaker_names)) / self.sample_rate
            counted = np.minimum(seconds, self.max_speaker_seconds)
        return counted / counted.sum()

    def _length_if_known(self, index: int) -> int:
        """Length of an utterance, or 0 if its file cannot be read. Such files are reported when they are drawn."""
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
