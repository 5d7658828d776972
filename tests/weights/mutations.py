"""Mutated PyTorch files, drawn from a seed: bytes, records of the zip file, and opcodes of the pickle."""

from __future__ import annotations

import io
import pickletools
import random
import zipfile

import torch

# Opcodes that refer to or call objects which no checkpoint needs, with their arguments.
HOSTILE = (
    b"cos\nsystem\n(X\x0b\x00\x00\x00touch calledtR",
    b"cposix\nsystem\n(X\x0b\x00\x00\x00touch calledtR",
    b"c__builtin__\neval\n(X\x11\x00\x00\x00open('called','w')tR",
    b"cbuiltins\nexec\n(X\x11\x00\x00\x00open('called','w')tR",
    b"csubprocess\nPopen\n(X\x0c\x00\x00\x00touch\x20called\x00tR",
    b"ctorch\nload\n(X\x01\x00\x00\x00atR",
    b"ccollections\nOrderedDict\n(X\x01\x00\x00\x00atR",
    b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02tR",
    b"(S'touch called'\nios\nsystem\n.",
    b"\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch called\x85R",
    b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"X\xff\xff\xff\x7f",
    b"\x8b\xff\xff\xff\x7f",
    b"r\xff\xff\xff\xff",
    b"(" * 500,
    b"}q\x07h\x07h\x07s",
    b")\x86" * 3,
    b"K\x01" * 200 + b"t",
)


def sources() -> dict[str, bytes]:
    """Small files to mutate, in both formats: a state dict, and the state of a training run."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.PReLU(), torch.nn.Conv1d(2, 2, 3))
    run = {"model": module.state_dict(), "optimizer": torch.optim.Adam(module.parameters()).state_dict(), "epoch": 3}
    mixed = {
        "half": torch.randn(3, 4).bfloat16().t(),
        "new": torch.zeros(3, dtype=torch.uint16),
        "size": torch.Size([2]),
    }
    files = {}
    for name, saved in (("state", module.state_dict()), ("run", run), ("mixed", mixed)):
        for zipped in (True, False):
            buffer = io.BytesIO()
            torch.save(saved, buffer, _use_new_zipfile_serialization=zipped)
            files[f"{name} {'zip' if zipped else 'older'}"] = buffer.getvalue()
    return files


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Changes, inserts, removes or cuts a few bytes anywhere in the file."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(len(changed))
        match rng.randrange(5):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                changed[at:at] = rng.randbytes(rng.choice((1, 4, 64)))
            case 3:
                del changed[at : at + rng.choice((1, 4, 64))]
            case 4:
                del changed[rng.randrange(len(changed) // 2, len(changed)) :]
        if not changed:
            break
    return bytes(changed)


def mutate_records(data: bytes, rng: random.Random) -> bytes:
    """Removes, repeats, renames, replaces, compresses or reorders records; the checksums are right."""
    records = _records(data)
    names = [name for name, _ in records]
    compression = zipfile.ZIP_STORED
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(records))
        name, content = records[at]
        match rng.randrange(6):
            case 0:
                del records[at]
            case 1:
                records.append((name, content + b"\x00"))
            case 2:
                new_name = rng.choice((*names, "../../called", "/called", "other/data.pkl", "é" * 300, " "))
                records[at] = new_name, content
            case 3:
                records[at] = name, rng.choice((b"", content[:-1], content * 3, rng.randbytes(len(content))))
            case 4:
                rng.shuffle(records)
            case 5:
                compression = zipfile.ZIP_DEFLATED
        if not records:
            break
    return _zip(records, compression)


def mutate_opcodes(data: bytes, rng: random.Random) -> bytes:
    """Removes, repeats, swaps, changes or inserts opcodes of the pickle; the checksums are right."""
    if not data.startswith(b"PK"):
        ends = _pickle_ends(data)
        start, end = ends[2], ends[3]
        return data[:start] + _mutate_pickle(data[start:end], rng) + data[end:]
    records = [
        (name, _mutate_pickle(content, rng) if name.endswith("data.pkl") else content)
        for name, content in _records(data)
    ]
    return _zip(records, zipfile.ZIP_STORED)


def _mutate_pickle(pickle: bytes, rng: random.Random) -> bytes:
    starts = [position for _, _, position in pickletools.genops(pickle)]
    parts = [pickle[start:end] for start, end in zip(starts, [*starts[1:], len(pickle)], strict=True)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, other = rng.randrange(len(parts)), rng.randrange(len(parts))
        match rng.randrange(6):
            case 0:
                del parts[at]
            case 1:
                parts.insert(at, parts[other])
            case 2:
                parts[at], parts[other] = parts[other], parts[at]
            case 3:
                parts.insert(at, rng.choice(HOSTILE))
            case 4:
                parts[at] = parts[at][:1] + rng.randbytes(max(len(parts[at]) - 1, 0))
            case 5:
                parts[at] = bytes([rng.randrange(256)]) + parts[at][1:]
    return b"".join(parts)


def _pickle_ends(data: bytes) -> list[int]:
    file, ends = io.BytesIO(data), []
    for _ in range(5):
        for _ in pickletools.genops(file):
            pass
        ends.append(file.tell())
    return ends


def _records(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _zip(records: list[tuple[str, bytes]], compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in records:
            archive.writestr(name, content)
    return buffer.getvalue()
