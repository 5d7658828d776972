"""Temporary storage for audio of any length between two passes, in bounded memory."""

from __future__ import annotations

import tempfile
import weakref

import numpy as np
from jaxtyping import Float

MEMORY_BYTES = 64 * 2**20


class Spool:
    """A float32 waveform to which samples are appended, and which can be read at any position.

    Up to 64 MiB are kept in memory. Larger waveforms move to an unnamed temporary file (in the folder of TMPDIR), which
    is deleted with the object, even if the process is killed.

    Args:
        rows: shape of the waveform without the time axis, for example (channels,) or (sources, channels).

    Attributes:
        length: number of samples stored.
    """

    def __init__(self, rows: tuple[int, ...]):
        self.length = 0
        self._rows = rows
        self._sample_bytes = int(np.prod(rows)) * 4
        self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def append(self, waveform: Float[np.ndarray, "*rows t"]) -> None:
        """Adds samples at the end.

        Raises:
            OSError: the disk with the temporary file is full.
        """
        samples = np.moveaxis(waveform, -1, 0)
        self._file.seek(self.length * self._sample_bytes)
        self._file.write(np.ascontiguousarray(samples, np.float32).data.cast("B"))
        self.length += len(samples)

    def read(self, start: int, stop: int) -> Float[np.ndarray, "*rows t"]:
        """The samples from `start` to before `stop`, (*rows, stop - start); both must be within `length`."""
        self._file.seek(start * self._sample_bytes)
        samples = np.frombuffer(self._file.read((stop - start) * self._sample_bytes), np.float32)
        return np.moveaxis(samples.reshape(-1, *self._rows), 0, -1)
