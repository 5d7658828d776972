"""Where the audio is in a file, according to its header, compared with the size of the file.

libsndfile believes the header. After a recorder crash, or in a WAV file above 4 GiB (whose 32-bit sizes wrap around),
the header declares less audio than the file contains, and the rest would be dropped silently.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mossformer_jax.audio.sources import BinaryFile

# Programs that write to a pipe declare one of these sizes, because they cannot update the header at the end.
LENGTH_NOT_KNOWN = (0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF)
_WRAP = 2**32
_W64_TAIL = bytes.fromhex("f3acd311 8cd100c0 4f8edb8a")
# Tags that programs append to a file without a chunk header.
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"3DI")
_CHUNKS = (b"LIST", b"id3 ", b"bext", b"iXML", b"JUNK", b"PAD ", b"cue ", b"smpl", b"fact", b"PEAK", b"afsp", b"_PMX")
# Some recorders fill the last disk sector with zeros.
_MAX_ZEROS = 2**16


@dataclass(frozen=True)
class AudioBytes:
    """The audio of a file, in bytes.

    Attributes:
        start: position of the first byte.
        declared: size according to the header.
        present: size up to the end of the file, or up to the chunks after the audio.
        certain: whether everything that is present is audio: the declared size is zero or unknown, or it has wrapped
            around at 2**32.
        big_endian: byte order of the samples.
    """

    start: int
    declared: int
    present: int
    certain: bool
    big_endian: bool


@dataclass(frozen=True)
class _Chunk:
    start: int
    size: int


def find_audio(file: BinaryFile, size: int) -> AudioBytes | None:
    """Finds the audio of a WAV, RF64, W64, AIFF, AU or CAF file.

    Args:
        file: the file; its position changes.
        size: size of the file in bytes.

    Returns:
        The audio; None if the file has another format, or no audio chunk.
    """
    head = _read(file, 0, 16)
    for matches, find in (
        (head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE", _find_wav),
        (head[:4] == b"riff" and head[4:8] == b"\x2e\x91\xcf\x11", _find_w64),
        (head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"), _find_aiff),
        (head[:4] in (b".snd", b"dns."), _find_au),
        (head[:4] == b"caff", _find_caf),
    ):
        if matches:
            return find(file, size)
    return None


def _find_wav(file: BinaryFile, size: int) -> AudioBytes | None:
    kind = _read(file, 0, 4)
    order = ">" if kind == b"RIFX" else "<"
    long_size = None
    for name, chunk in _chunks(file, 12, size, order + "4sI"):
        if name == b"ds64" and kind == b"RF64":
            long_size = struct.unpack("<Q", _read(file, chunk.start + 8, 8).ljust(8, b"\0"))[0]
        if name == b"data":
            declared = chunk.size
            if kind == b"RF64" and declared == 0xFFFFFFFF and long_size is not None:
                declared = long_size
            return _compared(file, size, chunk.start, declared, order + "4sI", big_endian=kind == b"RIFX")
    return None


def _find_w64(file: BinaryFile, size: int) -> AudioBytes | None:
    for name, chunk in _chunks(file, 40, size, "<16sQ"):
        if name[:4] == b"data":
            return _compared(file, size, chunk.start, chunk.size, "<16sQ", big_endian=False)
    return None


def _find_aiff(file: BinaryFile, size: int) -> AudioBytes | None:
    little = False
    for name, chunk in _chunks(file, 12, size, ">4sI"):
        if name == b"COMM":
            little = _read(file, chunk.start + 18, 4) == b"sowt"
        if name == b"SSND":  # begins with an offset and a block size
            declared = chunk.size - 8 if chunk.size >= 8 else 0
            return _compared(file, size, chunk.start + 8, declared, ">4sI", big_endian=not little)
    return None


def _find_au(file: BinaryFile, size: int) -> AudioBytes | None:
    big_endian = _read(file, 0, 4) == b".snd"
    head = _read(file, 4, 8)
    if len(head) < 8:
        return None
    start, declared = struct.unpack(">II" if big_endian else "<II", head)
    return _compared(file, size, start, declared, None, big_endian=big_endian)


def _find_caf(file: BinaryFile, size: int) -> AudioBytes | None:
    little = False
    for name, chunk in _chunks(file, 8, size, ">4sq"):
        if name == b"desc":
            little = bool(struct.unpack(">I", _read(file, chunk.start + 12, 4).ljust(4, b"\0"))[0] & 2)
        if name == b"data":  # begins with the number of edits
            declared = chunk.size - 4 if chunk.size >= 4 else 0
            unknown = chunk.size == -1
            start = chunk.start + 4
            return _compared(file, size, start, size - start if unknown else declared, ">4sq", big_endian=not little)
    return None


def unclosed_caf(file: BinaryFile, size: int) -> bytes | None:
    """The header of a CAF file whose audio has the size 0, with the true size instead."""
    if _read(file, 0, 4) != b"caff":
        return None
    for name, chunk in _chunks(file, 8, size, ">4sq"):
        if name == b"data" and chunk.size == 0 and size > chunk.start + 4:
            return _read(file, 0, chunk.start - 8) + struct.pack(">q", size - chunk.start)
    return None


def _compared(
    file: BinaryFile, size: int, start: int, declared: int, form: str | None, *, big_endian: bool
) -> AudioBytes | None:
    """Compares the declared size of the audio with what follows its first byte."""
    rest = size - start
    if rest <= 0:
        return None
    if declared >= rest:
        return AudioBytes(start, declared, rest, certain=True, big_endian=big_endian)
    if declared in LENGTH_NOT_KNOWN:
        return AudioBytes(start, declared, rest, certain=True, big_endian=big_endian)
    if declared > 0 and _ends(file, start + declared, size, form):
        return AudioBytes(start, declared, declared, certain=True, big_endian=big_endian)
    if declared == 0:
        empty = _ends(file, start, size, form)
        return AudioBytes(start, 0, 0 if empty else rest, certain=True, big_endian=big_endian)
    # Sizes of 32 bits wrap around at 4 GiB.
    for wrapped in range(declared + _WRAP, rest + 1, _WRAP):
        if _ends(file, start + wrapped, size, form):
            return AudioBytes(start, declared, wrapped, certain=True, big_endian=big_endian)
    return AudioBytes(start, declared, rest, certain=False, big_endian=big_endian)


def _ends(file: BinaryFile, position: int, size: int, form: str | None) -> bool:
    """Whether the audio may end at `position`: the file ends there, or chunks, a tag or a few zeros follow."""
    if size - position < 8:
        return True
    head = _read(file, position, 16)
    if head.startswith(_TAGS):
        return True
    if size - position <= _MAX_ZEROS and not any(_read(file, position, size - position)):
        return True
    if form is None:
        return False
    # Some programs do not pad a chunk of an odd size.
    return any(_is_chain(file, start, size, form) for start in {position, _padded(position, form)})


def _is_chain(file: BinaryFile, position: int, size: int, form: str) -> bool:
    """Whether the rest of the file consists of chunks. The last one may be cut short if its name is a common one."""
    end = position
    for name, chunk in _chunks(file, position, size, form):
        if not all(0x20 <= byte < 0x7F for byte in name[:4]) or (len(name) == 16 and name[4:] != _W64_TAIL):
            return False
        end = chunk.start + chunk.size
        if end > size:
            return name[:4] in _CHUNKS
    return 0 <= size - end < 8


def _chunks(file: BinaryFile, position: int, size: int, form: str) -> Iterator[tuple[bytes, _Chunk]]:
    """Yields the name and the content of each chunk. The sizes of W64 include the chunk's header."""
    length = struct.calcsize(form)
    while position + length <= size:
        name, content = struct.unpack(form, _read(file, position, length).ljust(length, b"\0"))
        start = position + length
        if form == "<16sQ":
            content = max(content - length, 0)
        yield name, _Chunk(start, content)
        if content < 0:
            return
        position = _padded(start + content, form)


def _padded(position: int, form: str) -> int:
    """The start of the next chunk: at an even position, in W64 at a multiple of 8, in CAF anywhere."""
    step = {"<16sQ": 8, ">4sq": 1}.get(form, 2)
    return -(-position // step) * step


def _read(file: BinaryFile, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)
