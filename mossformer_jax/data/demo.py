"""Speech-like voices from a small synthesiser, for training without a data set.

They are unintelligible, but have the cues that separation relies on: an individual pitch, harmonics shaped by formants
that change from syllable to syllable, fricative-like noise, and pauses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from mossformer_jax.audio.resampling import check_sample_rate
from mossformer_jax.data.drawn import DrawnMixtures
from mossformer_jax.data.mixing import DynamicMixing

SPLITS = {"train": 0, "dev": 1, "test": 2}
# F1 to F3 of the vowels of an adult male speaker, in Hz.
_VOWELS_HZ = np.array(
    [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410), (490, 1350, 1690)]
)
# About 1.6 GB at 8 kHz.
_MOST_UTTERANCES = 10_000
_BANDWIDTHS_HZ = (60.0, 90.0, 150.0)


@dataclass(frozen=True)
class Voice:
    """The parameters of a synthetic speaker.

    Attributes:
        pitch: mean fundamental frequency in Hz.
        formant_scale: factor on the formant frequencies of an adult male speaker.
        syllables_per_second: speaking rate.
        breath: level of the noise added to the glottal pulses, relative to the pulses.
    """

    pitch: float
    formant_scale: float
    syllables_per_second: float
    breath: float


class DemoUtterances:
    """Utterances of synthetic speakers, held in memory; deterministic for given arguments.

    All splits have the same speakers but different utterances.

    Attributes:
        sample_rate: in Hz.
        speaker_names: names of all speakers.
        speakers: speaker of each utterance, as a position in `speaker_names`.
    """

    def __init__(
        self,
        *,
        split: str = "train",
        sample_rate: int = 8000,
        num_speakers: int = 2,
        utterances_per_speaker: int = 40,
        seed: int = 0,
    ):
        """Synthesises all utterances.

        Args:
            split: train, dev or test.
            sample_rate: in Hz.
            num_speakers: number of speakers, ordered from low to high pitch.
            utterances_per_speaker: number of utterances per speaker, of 4 to 6 s each.
            seed: seed of the voices and utterances.

        Raises:
            ValueError: the split is unknown, or a number is out of its range.
        """
        check_sample_rate(sample_rate)
        if split not in SPLITS:
            raise ValueError(f"split={split!r} is not allowed: must be one of {', '.join(SPLITS)}")
        for name, number in (("num_speakers", num_speakers), ("utterances_per_speaker", utterances_per_speaker)):
            if number < 1:
                raise ValueError(f"{name}={number} is not allowed: must be 1 or more")
        if num_speakers * utterances_per_speaker > _MOST_UTTERANCES:
            raise ValueError(
                f"num_speakers={num_speakers} times utterances_per_speaker={utterances_per_speaker} is not allowed: "
                f"must be at most {_MOST_UTTERANCES:,}, because all utterances are held in memory"
            )
        self.sample_rate = sample_rate
        self.speaker_names = tuple(f"voice{number:02d}" for number in range(num_speakers))
        self.speakers = np.repeat(np.arange(num_speakers, dtype=np.int32), utterances_per_speaker)
        self._names, self._utterances = [], []
        for number, name in enumerate(self.speaker_names):
            voice = _draw_voice(number, num_speakers, np.random.default_rng((seed, number)))
            for count in range(utterances_per_speaker):
                rng = np.random.default_rng((seed, number, SPLITS[split], count))
                self._names.append(f"{name}-{split}-{count:03d}")
                self._utterances.append(synthesise(voice, rng.uniform(4.0, 6.0), sample_rate, rng))

    def __len__(self) -> int:
        return len(self._utterances)

    def name(self, index: int) -> str:
        """Speaker, split and number."""
        return self._names[index]

    def num_samples(self, index: int) -> int:
        """Length of an utterance."""
        return len(self._utterances[index])

    def read(self, index: int, start: int = 0, num_samples: int | None = None) -> Float[np.ndarray, " t"]:
        """An utterance, or `num_samples` of it from `start`."""
        stop = None if num_samples is None else start + num_samples
        return self._utterances[index][start:stop]


class DemoMixtures(DrawnMixtures):
    """A fixed set of mixtures of synthetic speakers, for validation and testing."""

    def __init__(
        self,
        *,
        split: str = "test",
        num_mixtures: int = 32,
        num_sources: int = 2,
        sample_rate: int = 8000,
        num_speakers: int = 2,
        seconds: float = 4.0,
        seed: int = 0,
    ):
        """Synthesises the utterances of the mixtures.

        Args:
            split: train, dev or test.
            num_mixtures: number of mixtures.
            num_sources: number of speakers per mixture.
            sample_rate: in Hz.
            num_speakers: total number of speakers, as in `DemoUtterances`.
            seconds: length of every mixture, up to 4 s.
            seed: seed of the voices; must equal that of the training data.

        Raises:
            ValueError: the split is unknown, or a number is out of its range.
        """
        num_samples = round(seconds * sample_rate) if 0 < seconds <= 4 else 0
        if num_samples < 1:
            raise ValueError(f"seconds={seconds} is not allowed: must be from one sample up to 4 s")
        speech = DemoUtterances(
            split=split, sample_rate=sample_rate, num_speakers=num_speakers, utterances_per_speaker=8, seed=seed
        )
        super().__init__(DynamicMixing(speech, num_sources), num_mixtures, num_samples, seed)


def synthesise(voice: Voice, seconds: float, sample_rate: int, rng: np.random.Generator) -> Float[np.ndarray, " t"]:
    """Synthesises an utterance: syllables, some with a fricative before the vowel, separated by pauses.

    Args:
        voice: the speaker.
        seconds: length of the utterance.
        sample_rate: in Hz.
        rng: source of all random choices.

    Returns:
        (t,), float32, peaking at 0.5.
    """
    num_samples = round(seconds * sample_rate)
    waveform = np.zeros(num_samples)
    start = int(rng.uniform(0.0, 0.1) * sample_rate)
    while start < num_samples:
        length = int(sample_rate * rng.uniform(0.7, 1.4) / voice.syllables_per_second)
        consonant = int(length * rng.uniform(0.15, 0.35)) if rng.random() < 0.5 else 0
        # The pitch falls in the course of the utterance.
        pitch = voice.pitch * (1.1 - 0.2 * start / num_samples) * rng.uniform(0.92, 1.08)
        syllable = np.concatenate(
            [_hiss(consonant, rng), _vowel(voice, pitch, length - consonant, sample_rate, rng)]
        ) * rng.uniform(0.5, 1.0)
        end = min(start + length, num_samples)
        waveform[start:end] += syllable[: end - start]
        pause = rng.uniform(0.1, 0.3) if rng.random() < 0.12 else 0.01
        start += length + int(pause * sample_rate)
    return (0.5 * waveform / np.abs(waveform).max()).astype(np.float32)


def _draw_voice(number: int, num_speakers: int, rng: np.random.Generator) -> Voice:
    """A voice with a pitch from 90 to 260 Hz, spaced evenly in log frequency, and roughly matching formants."""
    height = (number + rng.uniform(0.35, 0.65)) / num_speakers
    return Voice(
        pitch=90.0 * (260.0 / 90.0) ** height,
        formant_scale=0.95 + 0.3 * height + rng.uniform(-0.05, 0.05),
        syllables_per_second=rng.uniform(3.0, 5.0),
        breath=rng.uniform(0.005, 0.03),
    )


def _vowel(
    voice: Voice, pitch: float, num_samples: int, sample_rate: int, rng: np.random.Generator
) -> Float[np.ndarray, " t"]:
    """A pulse train with gliding pitch, filtered by one resonator per formant."""
    glide = np.linspace(1.0, rng.uniform(0.85, 1.15), num_samples)
    phase = np.cumsum(pitch * glide / sample_rate) + rng.random()
    pulses = np.diff(np.floor(phase), prepend=np.floor(phase[:1]))
    waveform = pulses - pulses.mean() + voice.breath * rng.standard_normal(num_samples)
    for formant, bandwidth in zip(_VOWELS_HZ[rng.integers(len(_VOWELS_HZ))], _BANDWIDTHS_HZ, strict=True):
        frequency = min(formant * voice.formant_scale * rng.uniform(0.95, 1.05), 0.45 * sample_rate)
        radius = np.exp(-np.pi * bandwidth / sample_rate)
        poles = [1.0, -2 * radius * np.cos(2 * np.pi * frequency / sample_rate), radius**2]
        waveform = scipy.signal.lfilter([sum(poles)], poles, waveform)
    return waveform * np.hanning(num_samples) ** 0.5 / (np.abs(waveform).max() + 1e-9)


def _hiss(num_samples: int, rng: np.random.Generator) -> Float[np.ndarray, " t"]:
    noise = np.diff(rng.standard_normal(num_samples + 1))
    return 0.15 * noise * np.hanning(num_samples)
