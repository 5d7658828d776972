"""Mutated checkpoints: no code runs, nothing crashes, one line each, memory in proportion to the file.

The corpus is drawn from SEED. MUTATIONS is the number of files: a few hundred in the test suite,
thousands in `make fuzz`.
"""

from __future__ import annotations

import os
import random
import sys
import tracemalloc
import warnings
from types import FrameType

import numpy as np
import pytest

from mossformer_jax.weights.torch_checkpoints import load_torch_checkpoint
from mossformer_jax.weights.torch_reader import read_torch_file
from tests.weights import mutations

SEED = 20260
COUNT = int(os.environ.get("MUTATIONS", "300"))
# A one-byte opcode makes an object of up to 240 bytes. The rest is the reader's own.
BYTES_PER_BYTE, OWN_BYTES = 256, 2**21
RUNS_CODE = {
    "compile",
    "exec",
    "import",
    "os.exec",
    "os.posix_spawn",
    "os.system",
    "pickle.find_class",
    "subprocess.Popen",
}
_seen_events: list[tuple[str, str]] | None = None


def _is_by_checks(frame: FrameType) -> bool:
    """Whether the code is compiled directly by the run-time checks of annotations, for a function in a function."""
    while frame.f_globals["__name__"] == "typing":
        frame = frame.f_back
    return frame.f_globals["__name__"].startswith(("beartype.", "jaxtyping."))


def _note_event(event: str, arguments) -> None:
    if _seen_events is not None and event in RUNS_CODE and not _is_by_checks(sys._getframe(1)):
        _seen_events.append((event, str(arguments)[:80]))


@pytest.fixture
def events():
    """The audit events of running code, from now on. A hook cannot be removed, so it is switched off instead."""
    global _seen_events
    if not getattr(sys, "_mossformer_jax_mutations_hook", False):
        sys.addaudithook(_note_event)
        sys._mossformer_jax_mutations_hook = True
    "".encode("cp437")  # the encoding of names in zip files is imported on its first use
    _seen_events = []
    yield _seen_events
    _seen_events = None


def outcome(file):
    """The contents of the file, or the line of the error."""
    try:
        return read_torch_file(file), None
    except ValueError as error:
        return None, str(error)


def same(left, right) -> bool:
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return left == right


@pytest.mark.medium
@pytest.mark.own_checks  # checks at each opcode would triple the time
def test_mutated_checkpoints_run_no_code_and_give_one_line_each(tmp_path, monkeypatch, events):
    monkeypatch.chdir(tmp_path)
    rng = random.Random(SEED)
    sources = mutations.sources()
    originals = {}
    for name, data in sources.items():
        (tmp_path / name).write_bytes(data)  # stays, because the arrays are views of it
        originals[name] = outcome(tmp_path / name)[0]
    zipped = [name for name in sources if name.endswith("zip")]
    read, lines = 0, set()
    tracemalloc.start()
    for number in range(COUNT):
        mutate = (mutations.mutate_bytes, mutations.mutate_records, mutations.mutate_opcodes)[number % 3]
        name = rng.choice(zipped if mutate is mutations.mutate_records else list(sources))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile's, about records of the same name, while the file is made
            data = mutate(sources[name], rng)
        file = tmp_path / "file.pt"
        file.unlink(missing_ok=True)  # an array of the previous file may still be mapped
        file.write_bytes(data)
        events.clear()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        result, line = outcome(file)
        peak = tracemalloc.get_traced_memory()[1] - before
        context = f"seed {SEED}, number {number}, {name}, {mutate.__name__}: {line}"
        assert events == [], context
        assert peak < BYTES_PER_BYTE * len(data) + OWN_BYTES, context
        if line is not None:
            assert line.startswith(f"{file}: "), context
            assert "\n" not in line, context
            assert len(line) < len(str(file)) + 300, context
            lines.add(line)
        else:
            read += 1
            # The zip format has checksums, so damaged bytes are never read as numbers.
            if mutate is mutations.mutate_bytes and name in zipped:
                assert same(result, originals[name]), context
            with pytest.raises(ValueError, match="file") as caught:  # the files are not of an official family
                load_torch_checkpoint(file)
            assert "\n" not in str(caught.value), context
            assert len(str(caught.value)) < 1000, context
    tracemalloc.stop()
    assert not (tmp_path / "called").exists()
    # The corpus must reach past the first checks: many different errors, and some files that are still read.
    assert len(lines) > 30
    assert 0 < read < COUNT // 2
