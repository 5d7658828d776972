"""Reads PyTorch's files without PyTorch: the zip format, and the one before version 1.6.

Tensors become NumPy arrays that are views of the mapped file. Nothing in the file is executed (`pickles`). In the zip
format, the place, size and checksum of every record that is used are checked; the older format has no checksums.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mossformer_jax.weights.pickles import MAX_PICKLE_BYTES, PickleError, printable, unpickle
from mossformer_jax.weights.torch_tensors import Storage, Tensors, storage_dtype

_ZIP_START = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_ENCRYPTED, _UTF_8 = 1, 2**11  # flags of a record
_MAX_RECORDS = 10**6
# The first number in a file of the older format, and the version of that format.
_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_OLD_VERSION = 1001
_DAMAGED = "download or copy it again"


def read_torch_file(file: Path) -> Any:
    """Reads a file written by `torch.save`.

    Returns:
        What was saved. Tensors and parameters are read-only NumPy arrays (bfloat16 and float8 with JAX's types), all
        kinds of dicts are dicts, sizes are tuples, devices are text, and dtypes are `Global`s.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is damaged, has another format, or contains objects other than tensors, numbers, text and
            containers; the message is one line.
    """
    with file.open("rb") as opened:
        start = opened.read(2**9)
    try:
        if start.startswith(_ZIP_START):
            return _read_zip(file)
        if start.startswith(b"\x80") and _OLD_MAGIC.to_bytes(10, "little") in start[:40]:
            return _read_old(file)
    except PickleError as error:
        reason = str(error)
        advice = _DAMAGED if reason.startswith("is damaged") else "save its state dict"
        raise ValueError(f"{file}: {reason}; {advice}") from None
    raise ValueError(f"{file}: {_describe(start)}")


def is_torch_file(file: Path) -> bool:
    """Whether a file has the start of a PyTorch file, whatever its name."""
    with file.open("rb") as opened:
        return opened.read(len(_ZIP_START)).startswith((_ZIP_START, b"\x80\x02"))


def lfs_advice(start: bytes) -> str | None:
    """What to do if a file that starts with these bytes is a Git LFS pointer; None if it is not."""
    if not start.startswith(b"version https://git-lfs"):
        return None
    return "is a Git LFS pointer, not the file itself; run: git lfs pull, or download the file"


def _describe(start: bytes) -> str:
    """What a file is that PyTorch did not write, by its first bytes; they are not shown."""
    if advice := lfs_advice(start):
        return advice
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return f"is a web page; {_DAMAGED}"
    if not start:
        return f"is empty; {_DAMAGED}"
    if start[8:10] == b'{"':
        return "is a safetensors file; rename it to end in .safetensors"
    if start[257:262] == b"ustar" or start.startswith(b"\x80"):
        return "is a PyTorch file of an unsupported kind (older than 0.4, or a bare pickle); save it with torch.save"
    return f"is damaged, or not a PyTorch file; {_DAMAGED}"


def _map(file: Path) -> np.ndarray:
    return np.asarray(np.memmap(file, np.uint8, mode="r"))


class _Archive:
    """The records of a zip file, uncompressed and apart from each other."""

    def __init__(self, file: Path):
        self._data = _map(file)
        try:
            with zipfile.ZipFile(file) as archive:
                entries, end = archive.infolist(), archive.start_dir
        # Damaged numbers and names in the directory raise all of these.
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OSError, OverflowError) as error:
            reason = printable(str(error)) or type(error).__name__
            raise PickleError(f"is damaged (its zip directory cannot be read: {reason})") from None
        if len(entries) > _MAX_RECORDS:
            raise PickleError(f"is damaged (it has more than {_MAX_RECORDS:,} records)")
        entries.sort(key=lambda entry: entry.header_offset)
        limits = [entry.header_offset for entry in entries[1:]] + [end]
        self._places = {e.filename: self._place(e, limit) for e, limit in zip(entries, limits, strict=True)}
        if len(self._places) < len(entries):
            raise PickleError("is damaged (two of its records have the same name)")
        # torch.serialization.set_crc32_options(False) writes zeros.
        self.has_checksums = any(entry.CRC for entry in entries)

    def _place(self, entry: zipfile.ZipInfo, limit: int) -> tuple[int, int, int]:
        """Where the data of a record start, their number of bytes, and their checksum."""
        name, at = printable(entry.filename), entry.header_offset
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
            raise PickleError(f"contains {name} in compressed form, which is not supported")
        if at < 0 or at + _LOCAL_HEADER.size > len(self._data):
            raise PickleError(f"is damaged (its record {name} is outside the file)")
        header = self._data[at : at + _LOCAL_HEADER.size].tobytes()
        signature, *_, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
        start = at + _LOCAL_HEADER.size + name_bytes + extra_bytes
        encoding = "utf-8" if entry.flag_bits & _UTF_8 else "cp437"
        own_name = self._data[at + _LOCAL_HEADER.size :][:name_bytes].tobytes()
        is_same = signature == _ZIP_START and own_name == entry.orig_filename.encode(encoding, "replace")
        if not is_same or entry.file_size != entry.compress_size or start + entry.file_size > limit:
            raise PickleError(f"is damaged (its record {name} has a wrong size or place)")
        return start, entry.file_size, entry.CRC

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def names(self) -> list[str]:
        return list(self._places)

    def size(self, name: str) -> int:
        return self._places[name][1]

    def read(self, name: str) -> np.ndarray:
        if name not in self._places:
            raise PickleError(f"is damaged (it has no record {printable(name)})")
        start, count, checksum = self._places[name]
        data = self._data[start : start + count]
        if self.has_checksums and zlib.crc32(data.data) != checksum:
            raise PickleError(f"is damaged (the checksum of its record {printable(name)} is wrong)")
        return data


def _read_zip(file: Path) -> Any:
    archive = _Archive(file)
    roots = [name.removesuffix("data.pkl") for name in archive.names() if name.endswith("/data.pkl")]
    if len(roots) != 1 or roots[0].count("/") != 1:
        raise PickleError("is a zip file, but not one of torch.save (no record data.pkl, or several)")
    root = roots[0]
    if root + "constants.pkl" in archive:
        raise PickleError("is a TorchScript program, which is not supported")
    if root + "byteorder" in archive and archive.read(root + "byteorder").tobytes() != b"little":
        raise PickleError("was written on a big-endian machine, which is not supported")
    if archive.size(root + "data.pkl") > MAX_PICKLE_BYTES:
        raise PickleError(f"contains a pickle of more than {MAX_PICKLE_BYTES:,} bytes")
    tensors = Tensors(file.stat().st_size)
    records: dict[str, np.ndarray] = {}

    def load_storage(identity: Any) -> Storage:
        kind, key, count = _check_identity(identity)
        dtype = storage_dtype(kind)
        if key not in records:
            records[key] = archive.read(f"{root}data/{key}")
        if records[key].nbytes != count * (dtype.itemsize if dtype else 1):
            raise PickleError(f"is damaged (its storage {printable(key)} has a wrong size)")
        return Storage(records[key], dtype)

    pickle = archive.read(root + "data.pkl").tobytes()
    return unpickle(pickle, tensors.globals_by_name, load_storage)[0]


def _check_identity(identity: Any) -> tuple[Any, str, int]:
    """The class, key and number of elements in the persistent id of a storage."""
    if type(identity) is not tuple or not 5 <= len(identity) <= 6:
        raise PickleError("is damaged (an unknown persistent id)")
    what, kind, key, _, count = identity[:5]
    has_valid_types = type(what) is str and type(key) is str and type(count) is int
    if not has_valid_types or what != "storage" or not 0 <= count < 2**62:
        raise PickleError("is damaged (a storage without a name or size)")
    if len(identity) == 6 and identity[5] is not None:
        raise PickleError("contains views of storages in the format of PyTorch 0.3, which are not supported")
    return kind, key, count


def _read_old(file: Path) -> Any:
    """The format before PyTorch 1.6: five pickles, then each storage with its number of elements before it."""
    data = _map(file)
    buffer = data.data
    tensors = Tensors(data.nbytes)
    places, position = _old_storages(buffer)

    def load_storage(identity: Any) -> Storage:
        kind, key, count = _check_identity(identity)
        dtype = storage_dtype(kind)
        size = count * (dtype.itemsize if dtype else 1)
        if key not in places or places[key][1] != size:
            raise PickleError(f"is damaged (its storage {printable(key)} has a wrong size, or is missing)")
        start = places[key][0]
        return Storage(data[start : start + size], dtype)

    return unpickle(buffer, tensors.globals_by_name, load_storage, position)[0]


def _old_storages(buffer: memoryview) -> tuple[dict[str, tuple[int, int]], int]:
    """Where each storage starts and its number of bytes, by key; and where the pickle of the object starts."""
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}

    def note_storage(identity: Any) -> Storage:
        kind, key, count = _check_identity(identity)
        dtype = storage_dtype(kind)
        size = count * (dtype.itemsize if dtype else 1)
        if size > len(buffer) or sizes.setdefault(key, size) != size:
            raise PickleError(f"is damaged (its storage {printable(key)} has a wrong size)")
        counts[key] = count
        # The places are not known yet. A broadcast zero has the right size and takes no memory.
        return Storage(np.broadcast_to(np.uint8(0), (size,)), dtype)

    sketch = _Sketch(len(buffer))
    magic, position = unpickle(buffer, {}, _no_storage)
    version, position = unpickle(buffer, {}, _no_storage, position)
    if (magic, version) != (_OLD_MAGIC, _OLD_VERSION):
        raise PickleError("is a PyTorch file of an unknown version")
    system, start = unpickle(buffer, {}, _no_storage, position)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise PickleError("was written on a big-endian machine, which is not supported")
    _, position = unpickle(buffer, sketch.globals_by_name, note_storage, start)
    keys, position = unpickle(buffer, {}, _no_storage, position)
    if type(keys) is not list or any(type(key) is not str for key in keys) or set(keys) != set(sizes):
        raise PickleError("is damaged (its list of storages does not match its tensors)")
    places = {}
    for key in keys:
        if int.from_bytes(buffer[position : position + 8], "little") != counts[key]:
            raise PickleError(f"is damaged (its storage {printable(key)} has a wrong size, or is missing)")
        places[key] = position + 8, sizes[key]
        position += 8 + sizes[key]
    if position > len(buffer) or len(places) < len(keys):
        raise PickleError("is damaged (it is cut off)")
    return places, start


class _Sketch(Tensors):
    """Reads the same pickle without looking at the data, to find out how large the storages are."""

    def _view(self, data, dtype, offset, size, stride):
        return np.empty(0, dtype)


def _no_storage(identity: Any) -> Any:
    raise PickleError("is damaged (a storage where none is allowed)")
