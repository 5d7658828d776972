"""Mutated inputs, drawn from a seed: files like those that crashes, bad disks and attackers produce."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable

import numpy as np
import soundfile

# Container, subtype and channels of the recordings that are mutated.
FORMATS = (
    ("WAV", "PCM_16", 1), ("WAV", "PCM_24", 2), ("WAV", "FLOAT", 1), ("WAV", "ULAW", 1), ("WAV", "IMA_ADPCM", 1),
    ("WAV", "MS_ADPCM", 2), ("WAV", "GSM610", 1), ("WAV", "G721_32", 1), ("WAVEX", "PCM_16", 2), ("RF64", "PCM_16", 1),
    ("W64", "PCM_16", 1), ("AIFF", "PCM_16", 1), ("AIFF", "FLOAT", 1), ("AU", "PCM_16", 1), ("AU", "G723_24", 1),
    ("CAF", "PCM_16", 1), ("CAF", "ALAC_16", 1), ("FLAC", "PCM_16", 1), ("FLAC", "PCM_24", 2), ("OGG", "VORBIS", 1),
    ("OGG", "OPUS", 1), ("MP3", "MPEG_LAYER_III", 1), ("VOC", "PCM_16", 1), ("NIST", "PCM_16", 1), ("AVR", "PCM_16", 1),
    ("IRCAM", "PCM_16", 1), ("PAF", "PCM_16", 1), ("SVX", "PCM_16", 1),
)  # fmt: skip
# Values that overflow, wrap around, or are zero.
_ABSURD = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 1024, 2**20, 2**30)
_JSON_VALUES = (
    None, True, -1, 0, 1, 1.5, 10**9, 10**30, -(10**30), 1e308, float("nan"), float("inf"), "", "x", "\0", "\ud800", [],
    {}, [1], {"a": 1}, [[[]]], "9" * 5000,
)  # fmt: skip


def recordings() -> list[bytes]:
    """One short recording per format."""
    rng = np.random.default_rng(0)
    found = []
    for container, subtype, channels in FORMATS:
        buffer = io.BytesIO()
        waveform = rng.uniform(-0.5, 0.5, (4000, channels))
        soundfile.write(buffer, waveform, 8000, format=container, subtype=subtype)
        found.append(buffer.getvalue())
    return found


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three mutations of a file; most of them in its header."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        if not changed:
            break
        _MUTATIONS[rng.integers(len(_MUTATIONS))](changed, rng)
    return bytes(changed)


def _place(data: bytearray, rng: np.random.Generator) -> int:
    header = rng.random() < 0.7
    return int(rng.integers(min(len(data), 128) if header else len(data)))


def _flip(data: bytearray, rng: np.random.Generator) -> None:
    data[_place(data, rng)] ^= 1 << int(rng.integers(8))


def _set(data: bytearray, rng: np.random.Generator) -> None:
    data[_place(data, rng)] = int(rng.integers(256))


def _number(data: bytearray, rng: np.random.Generator) -> None:
    place = _place(data, rng)
    form = ("<I", ">I", "<H", ">H", "<Q", ">Q")[rng.integers(6)]
    size = struct.calcsize(form)
    value = _ABSURD[rng.integers(len(_ABSURD))] % 256**size
    data[place : place + size] = struct.pack(form, value)[: len(data) - place]


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[_place(data, rng) :]


def _extend(data: bytearray, rng: np.random.Generator) -> None:
    data += rng.bytes(int(rng.integers(1, 3000)))


def _zeros(data: bytearray, rng: np.random.Generator) -> None:
    place = _place(data, rng)
    size = min(int(rng.integers(1, 2000)), len(data) - place)
    data[place : place + size] = bytes(size)


def _remove(data: bytearray, rng: np.random.Generator) -> None:
    place = _place(data, rng)
    del data[place : place + int(rng.integers(1, 20))]


def _repeat(data: bytearray, rng: np.random.Generator) -> None:
    place = _place(data, rng)
    data[place:place] = data[place : place + int(rng.integers(1, 40))]


_MUTATIONS: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    _flip, _set, _number, _number, _cut, _extend, _zeros, _remove, _repeat,
)  # fmt: skip


def mutated_json(fields: dict, rng: np.random.Generator) -> str:
    """A JSON object with one field set to a value of another kind or size, removed, or renamed."""
    changed = dict(fields)
    name = list(changed)[rng.integers(len(changed))]
    value = changed[name]
    kind = rng.integers(5)
    if isinstance(value, dict) and kind:
        changed[name] = json.loads(mutated_json(value, rng))
    elif kind == 1:
        del changed[name]
    elif kind == 2:
        changed[f"{name}x"] = changed.pop(name)
    else:
        changed[name] = _JSON_VALUES[rng.integers(len(_JSON_VALUES))]
    return json.dumps(changed)


def mutated_text(text: str, rng: np.random.Generator) -> bytes:
    """A text file with fields repeated, removed, or replaced, or with bytes that are not text."""
    if rng.random() < 0.4:
        return mutated(text.encode(), rng)
    lines = text.splitlines()
    line = int(rng.integers(len(lines)))
    cells = lines[line].split(",")
    cell = int(rng.integers(len(cells)))
    odd = ("", '"', "..", "\0", "/", "~", "9" * 5000, "\ud800", "a b", ";", "\t", "nan", "1e400", "-1", "é", "{k}", "*")
    cells[cell] = odd[rng.integers(len(odd))]
    lines[line] = ",".join(cells)
    if rng.random() < 0.3:
        lines.insert(line, lines[int(rng.integers(len(lines)))])
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def argument(rng: np.random.Generator) -> str:
    """A name or a template as an argument of the command, with characters that have a special meaning somewhere."""
    parts = (
        "{stem}", "{source}", "{suffix}", "{folder}", "{", "}", "{{", "{id}", "{k}", "{source:03d}", "{source!r}", "..",
        "/", "\\", "\0", "\n", "\udcff", "*", "?", "[", "]", "~", "$HOME", "://", "http://", "é", "x" * 5000, "a", " ",
        ".", "-", "--", ":", "%s", "{source:>9}", "{stem[0]}", "{0}", "CON", "'",
    )  # fmt: skip
    return "".join(parts[rng.integers(len(parts))] for _ in range(rng.integers(1, 6)))
