"""Players for a page of HTML: the signals of examples as Ogg Vorbis, shortened until they fit a budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape

import numpy as np
import soundfile
from jaxtyping import Float

from mossformer_jax.audio.resampling import resample

# Bytes of all encoded audio of a page; base64 adds a third.
BUDGET = 800_000
# Longer examples are cut from the start, and shorter ones only if the budget requires it.
LONGEST_SECONDS, SHORTEST_SECONDS = 20.0, 1.0
# Level of the loudest sample of an example, where full scale is 1.
PEAK = 0.9
# Vorbis at a variable rate; 1 is the strongest compression. About 20 kbit/s for speech at 8 kHz.
_COMPRESSION = 0.7
_HIGHEST_RATE = 48_000
_BLOCK_SAMPLES = 4096

Signals = Mapping[str, Float[np.ndarray, " t"]]


def player_tables(examples: Mapping[str, Signals], sample_rate: int, budget: int = BUDGET) -> dict[str, str]:
    """A table of players for each example.

    Args:
        examples: the signals of each example, by name. The signals of an example are scaled by one factor to a peak of
            `PEAK`.
        sample_rate: in Hz.
        budget: bytes of audio in all tables together. If they exceed it, all signals are cut to the same length.
    """
    seconds = LONGEST_SECONDS
    while True:
        encoded = {
            heading: {name: _ogg(signal_t, sample_rate) for name, signal_t in _excerpt(signals, sample_rate, seconds)}
            for heading, signals in examples.items()
        }
        size = sum(len(data) for signals in encoded.values() for data in signals.values())
        if size <= budget or seconds <= SHORTEST_SECONDS:
            break
        seconds = max(min(seconds * 0.9 * budget / size, seconds / 1.2), SHORTEST_SECONDS)
    tables = {}
    for heading, signals in encoded.items():
        whole = max(map(len, examples[heading].values())) <= seconds * sample_rate
        tables[heading] = _table(signals) + ("" if whole else f"<p>The first {seconds:.1f} s.</p>")
    return tables


def _excerpt(signals: Signals, sample_rate: int, seconds: float) -> list[tuple[str, Float[np.ndarray, " u"]]]:
    length = round(seconds * sample_rate)
    cut = {name: signal_t[:length] for name, signal_t in signals.items()}
    peak = max(float(np.abs(signal_t).max(initial=0.0)) for signal_t in cut.values())
    return [(name, signal_t * (PEAK / (peak or 1.0))) for name, signal_t in cut.items()]


def _ogg(signal_t: Float[np.ndarray, " t"], sample_rate: int) -> bytes:
    # Vorbis has no encoder for rates above 200 kHz, and players have no use for more than 48 kHz.
    if sample_rate > _HIGHEST_RATE:
        signal_t, sample_rate = resample(signal_t[None], sample_rate, _HIGHEST_RATE)[0], _HIGHEST_RATE
    data = io.BytesIO()
    with soundfile.SoundFile(data, "w", sample_rate, 1, "VORBIS", format="OGG", compression_level=_COMPRESSION) as file:
        # libsndfile overflows its stack if it gets a long signal at once.
        for start in range(0, len(signal_t), _BLOCK_SAMPLES):
            file.write(signal_t[start : start + _BLOCK_SAMPLES])
    return data.getvalue()


def _table(signals: Mapping[str, bytes]) -> str:
    lines = ["<table>"]
    for name, data in signals.items():
        source = f"data:audio/ogg;base64,{base64.b64encode(data).decode()}"
        lines.append(f'<tr><td>{escape(name)}<td><audio controls preload="none" src="{source}"></audio>')
    return "\n".join([*lines, "</table>"])
