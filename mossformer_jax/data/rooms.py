"""Simulated rooms: a folder of impulse responses for `Reverberation`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mossformer_jax.audio.files import write_audio

# Offices, living rooms and meeting rooms, with ranges similar to those of WHAMR!; in metres and seconds.
FLOOR = (3.0, 10.0)
HEIGHT = (2.4, 4.0)
T60 = (0.1, 0.5)
MICROPHONE_HEIGHT = (0.7, 1.6)
TALKER_HEIGHT = (1.0, 1.9)
WALL_DISTANCE = 0.4
# Distance to the microphone. Closer talkers would sound like a headset, almost without reverberation.
TALKER_DISTANCE = (0.4, 2.0)
_ATTEMPTS = 100


def make_rooms(
    folder: str | os.PathLike[str], num_rooms: int, places: int, sample_rate: int, seed: int = 0
) -> Iterator[Path]:
    """Simulates rooms and writes `folder/ROOM/PLACE.wav`, one impulse response for each talker position.

    Rooms are boxes whose sizes and reverberation times are drawn uniformly from `FLOOR`, `HEIGHT` and `T60`, simulated
    with the image source method of pyroomacoustics. Each room has one microphone.

    Args:
        folder: output folder; must be new or empty.
        num_rooms: number of rooms.
        places: talker positions per room.
        sample_rate: in Hz.
        seed: seed of the rooms.

    Yields:
        The folder of each room after it is written.

    Raises:
        FileExistsError: the folder is not empty.
        ModuleNotFoundError: pyroomacoustics is not installed.
        ValueError: a number is below 1.
    """
    import pyroomacoustics

    for name, number in (("rooms", num_rooms), ("places", places), ("sample rate", sample_rate)):
        if number < 1:
            raise ValueError(f"{name}={number} is not allowed: must be 1 or more")
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder}: is not empty; give a new folder")
    for number in range(num_rooms):
        responses = _simulate(pyroomacoustics, np.random.default_rng((seed, number)), places, sample_rate)
        room = folder / f"room{number:04d}"
        room.mkdir(parents=True)
        for place, response in enumerate(responses):
            write_audio(room / f"{place}.wav", response, sample_rate, "FLOAT")
        yield room


def _simulate(
    pyroomacoustics: Any, rng: np.random.Generator, places: int, sample_rate: int
) -> list[Float[np.ndarray, " _"]]:
    size = np.array([*rng.uniform(*FLOOR, 2), rng.uniform(*HEIGHT)])
    # Sabine's formula has no solution for a short reverberation time in a large room; a new time is drawn then.
    for _ in range(_ATTEMPTS):
        t60 = rng.uniform(*T60)
        try:
            absorption, order = pyroomacoustics.inverse_sabine(t60, size)
            break
        except ValueError:
            continue
    room = pyroomacoustics.ShoeBox(
        size, fs=sample_rate, materials=pyroomacoustics.Material(absorption), max_order=min(order, 40)
    )
    microphone = _place(rng, size, MICROPHONE_HEIGHT)
    room.add_microphone(microphone.tolist())
    for _ in range(places):
        for _ in range(_ATTEMPTS):
            talker = _place(rng, size, TALKER_HEIGHT)
            if TALKER_DISTANCE[0] <= np.linalg.norm(talker - microphone) <= TALKER_DISTANCE[1]:
                break
        room.add_source(talker.tolist())
    room.compute_rir()
    return [np.asarray(response, np.float32)[: round(t60 * 1.2 * sample_rate)] for response in room.rir[0]]


def _place(rng: np.random.Generator, size: Float[np.ndarray, 3], height: tuple[float, float]) -> Any:
    floor = rng.uniform(WALL_DISTANCE, size[:2] - WALL_DISTANCE)
    return np.array([*floor, rng.uniform(height[0], min(height[1], size[2] - WALL_DISTANCE))])
