"""Synthetic talkers, and windows of them in random order."""

from __future__ import annotations

import numpy as np

from mossformer_jax.separation.tying import SpeakerTies

RATE = 8000
WINDOW, HOP = 8 * RATE, 4 * RATE
LOUDNESS = 0.1


def talk(rng: np.random.Generator, talker: int, seconds: float) -> np.ndarray:
    """Syllables of a talker (0, 1, ...) with an individual, gliding pitch and an individual resonance."""
    t = np.arange(round(seconds * RATE)) / RATE
    pitch = (100 + 45 * talker) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.5, 1.5) * t + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    resonance = 600 + 500 * talker
    voice = sum(
        np.exp(-(((k * pitch - resonance) / 600) ** 2)) * np.sin(k * phase + rng.uniform(0, 6)) for k in range(1, 16)
    )
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * rng.uniform(3, 5) * t + rng.uniform(0, 6))
    voice = syllables * voice + 0.01 * rng.standard_normal(len(t))
    return LOUDNESS * voice / np.sqrt(np.square(voice).mean())


def timeline(rng: np.random.Generator, turns: list[tuple[int, float, float]], num_talkers: int, seconds: float):
    """Sources (c, t) in which each (talker, from, to), in seconds, talks."""
    sources = np.zeros((num_talkers, round(seconds * RATE)))
    for talker, begin, end in turns:
        voice = talk(rng, talker, end - begin)
        sources[talker, round(begin * RATE) :][: len(voice)] = voice
    return sources


def starts_of(num_samples: int) -> list[int]:
    """First samples of the windows; the last window ends with the recording."""
    return [*range(0, max(num_samples - WINDOW, 0), HOP), max(num_samples - WINDOW, 0)]


def tie(windows: list[np.ndarray], starts: list[int], permutations: list[np.ndarray], loudness: float = LOUDNESS):
    """Ties windows with source `permutation[q]` in output q; returns the source in each stream, and the ties."""
    ties = SpeakerTies(len(permutations[0]), RATE, loudness)
    for window, start, permutation in zip(windows, starts, permutations, strict=True):
        ties.add(window[permutation], start)
    order_wc, report = ties.solve()
    return np.take_along_axis(np.array(permutations), order_wc, axis=1), report


def tie_swapped(rng: np.random.Generator, sources: np.ndarray, leak: float = 0.0, loudness: float = LOUDNESS):
    """Cuts sources into windows, adds leakage between them, swaps them at random, and ties them.

    Returns:
        speakers: (w, c), the source in each stream in each window.
        report: the ties.
        talking: (w, c), whether this source talks in this window for more than 0.1 s.
    """
    starts = starts_of(sources.shape[1])
    clean = [sources[:, start : start + WINDOW] for start in starts]
    windows = [(1 - leak) * window + leak * window.sum(axis=0) for window in clean]
    permutations = [rng.permutation(len(sources)) for _ in starts]
    speakers, report = tie(windows, starts, permutations, loudness)
    talking = np.array([(np.abs(window) > 0.05 * LOUDNESS).sum(axis=1) > 0.1 * RATE for window in clean])
    return speakers, report, talking


def num_flips(speakers: np.ndarray, talking: np.ndarray) -> int:
    """How often a talking source appears in a different stream than before."""
    last: dict[int, int] = {}
    flips = 0
    for streams, talks in zip(speakers, talking, strict=True):
        for stream, speaker in enumerate(streams):
            if talks[speaker]:
                flips += last.get(speaker, stream) != stream
                last[speaker] = stream
    return flips
