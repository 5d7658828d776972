"""Spools return what was stored, in memory or on disk."""

from __future__ import annotations

import numpy as np
import pytest

from mossformer_jax.separation import spool
from mossformer_jax.separation.spool import Spool


@pytest.mark.parametrize("memory_bytes", [1, 2**20])
def test_any_stretch_can_be_read_back_at_any_time(rng, monkeypatch, memory_bytes):
    monkeypatch.setattr(spool, "MEMORY_BYTES", memory_bytes)
    waveform = rng.standard_normal((2, 3, 1000)).astype(np.float32)
    spooled = Spool((2, 3))
    spooled.append(waveform[..., :300])
    np.testing.assert_array_equal(spooled.read(100, 300), waveform[..., 100:300])
    spooled.append(waveform[..., 300:])
    assert spooled.length == 1000
    for start, stop in ((0, 1000), (999, 1000), (250, 350), (5, 5)):
        np.testing.assert_array_equal(spooled.read(start, stop), waveform[..., start:stop])


def test_a_large_spool_leaves_memory_for_the_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(spool, "MEMORY_BYTES", 1000)
    monkeypatch.setattr(spool.tempfile, "tempdir", str(tmp_path))
    small, large = Spool((1,)), Spool((1,))
    small.append(np.zeros((1, 100)))
    large.append(np.zeros((1, 10_000)))
    assert (small._file._rolled, large._file._rolled) == (False, True)
    assert list(tmp_path.iterdir()) == []  # an unnamed file, which even a killed process does not leave
