"""The compiled network: mixtures of any length, padded to a few static shapes that are compiled once each."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import jax
import numpy as np
from jaxtyping import Float

from mossformer_jax.audio.lengths import Ladder
from mossformer_jax.model.memory import activation_bytes
from mossformer_jax.separation.shared_batches import SharedBatches
from mossformer_jax.weights import LoadedModel
from mossformer_jax.weights.loaded import CompiledModel

CPU_MEMORY = 1e9
DEVICE_SHARE = 0.5
# Above four groups of frames, at most a fifth of a pass is padding; two dozen programs cover all lengths up to 1 min.
LADDER_GROWTH = 1.25
ACCELERATOR_BATCH = 8


class Network:
    """Separates mixtures of any lengths, a batch at a time, in compiled programs of few shapes.

    Lengths are rounded up to whole groups of frames on a geometric ladder, batches to powers of two. Padding does
    not change the result, so a separation does not depend on its padded length or on its batch.

    Args:
        model: the network and its weights.
        memory: bytes for the activations; None takes 1 GB on a CPU, half of the device's memory elsewhere.
        batch_size: most windows per call; None takes 1 on a CPU, where more are no faster, and 8 elsewhere.
        ladder_growth: ratio of consecutive padded lengths, above 1.

    Attributes:
        config: the model's sizes and options.
        memory: bytes for the activations, or None if the device does not report its memory.
        batch_size: maximum number of mixtures per call.
    """

    def __init__(
        self,
        model: LoadedModel,
        memory: float | None = None,
        batch_size: int | None = None,
        ladder_growth: float = LADDER_GROWTH,
    ):
        self.config = model.config
        on_cpu = model.device.platform == "cpu"
        self.memory = device_memory(model.device) if memory is None else memory
        self.batch_size = (1 if on_cpu else ACCELERATOR_BATCH) if batch_size is None else batch_size
        self._lengths = Ladder(self.config.group_size * self.config.stride, ladder_growth)
        self._batches = Ladder(1, growth=2.0)
        self._model = model
        self._programs: dict[tuple[int, int], CompiledModel] = {}
        self._lock = threading.Lock()
        # On an accelerator, two programs at once would take twice the memory and be no faster than one. On a CPU,
        # threads are independent unless batches were requested.
        one_at_a_time = self.batch_size > 1 or not on_cpu
        self._separate = SharedBatches(self._run, self.largest_batch) if one_at_a_time else self._run

    def padded_length(self, num_samples: int) -> int:
        """The padded length for a mixture, in samples."""
        return self._lengths.rung(num_samples)

    def fits(self, num_samples: int, batch: int = 1) -> bool:
        """Whether a batch of this padded length fits the memory budget."""
        return self.memory is None or activation_bytes(self.config, batch, num_samples) <= self.memory

    def largest_batch(self, num_samples: int) -> int:
        """The largest batch of this padded length for one call, at least 1."""
        batches = range(self.batch_size, 1, -1)
        return next((batch for batch in batches if self.fits(num_samples, self._batches.rung(batch))), 1)

    def compile(self, batch: int, num_samples: int) -> tuple[CompiledModel, float]:
        """The program for a padded shape, and the compile time in seconds (0 if it was compiled before)."""
        shape = batch, num_samples
        if shape in self._programs:
            return self._programs[shape], 0.0
        start = time.perf_counter()
        with self._lock:  # one thread compiles a shape, the others wait for it
            if shape not in self._programs:
                self._programs[shape] = self._model.compile(batch, num_samples)
                _return_free_memory()
        return self._programs[shape], time.perf_counter() - start

    def __call__(
        self, mixtures: Sequence[Float[np.ndarray, " _"]], num_samples: int
    ) -> tuple[list[Float[np.ndarray, "c _"]], float]:
        """Separates a batch. Mixtures of several threads share batches of up to `batch_size`.

        Args:
            mixtures: waveforms (t,) at the level that the weights expect.
            num_samples: padded length, at least that of the longest mixture.

        Returns:
            The sources (c, t) of each mixture, at its length, and the compile time in seconds.

        Raises:
            ValueError: the network's output is not finite.
        """
        return self._separate(mixtures, num_samples)

    def _run(
        self, mixtures: Sequence[Float[np.ndarray, " _"]], num_samples: int
    ) -> tuple[list[Float[np.ndarray, "c _"]], float]:
        batch = self._batches.rung(len(mixtures))
        program, compile_seconds = self.compile(batch, num_samples)
        padded_bt = np.zeros((batch, num_samples), np.float32)
        # Rows without a mixture get the shortest length that the network allows.
        lengths_b = np.full(batch, self.config.kernel_size, np.int32)
        for row, mixture in enumerate(mixtures):
            padded_bt[row, : len(mixture)] = mixture
            lengths_b[row] = len(mixture)
        sources_bct = np.asarray(program(padded_bt, lengths_b))
        separated = [sources_bct[row, :, : len(mixture)] for row, mixture in enumerate(mixtures)]
        if not all(np.isfinite(sources).all() for sources in separated):
            raise ValueError("the network's output holds NaN or infinity; check the model's weights and the recording")
        return separated, compile_seconds


def _return_free_memory() -> None:
    """Returns memory to the system that the compiler has freed but the C library has kept (about 80 MB)."""
    with suppress(AttributeError, OSError, TypeError):  # not the C library of Linux
        ctypes.CDLL(None).malloc_trim(0)


def device_memory(device: jax.Device) -> float | None:
    """The default budget for activations on a device, in bytes; None if it does not report its memory."""
    if device.platform == "cpu":
        return CPU_MEMORY
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return None if limit is None else DEVICE_SHARE * limit
