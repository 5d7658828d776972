"""Batches of mixtures, made by Grain in threads or worker processes.

A training batch depends only on the seed and its number, not on the number of workers, processes or restarts. Its rows
are split over the processes in order: process p of n holds the p-th of n equal parts.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from grain.multiprocessing import SharedMemoryArray

from mossformer_jax.audio.lengths import Ladder, Rungs
from mossformer_jax.data.batch import Batch
from mossformer_jax.data.mixing import TrainingMixtures
from mossformer_jax.data.numbered_batches import NumberedBatches
from mossformer_jax.data.records import Mixture, MixtureSource
from mossformer_jax.data.workers import close_all, iterate, leave_interrupts_to_the_parent

_ATTEMPTS = 10
# Number of rows that counts as endless. Grain's limit of 2**63 overflows when batches have a single row.
_ENDLESS = 2**40

logger = logging.getLogger(__name__)


def train_batches(
    mixtures: TrainingMixtures,
    *,
    batch_size: int,
    num_samples: int,
    seed: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
    max_failed_share: float = 0.001,
) -> TrainingBatches:
    """Endless batches of training crops, reshuffled in every epoch.

    A mixture that cannot be read is logged and replaced by another; the replacement is deterministic.

    Args:
        mixtures: the mixtures to draw from.
        batch_size: rows per batch, over all processes.
        num_samples: length of a row in samples; shorter mixtures are padded with zeros.
        seed: seed of the batches, from 0 to 2**32 - 1.
        process_index: index of this process.
        process_count: number of processes that share the batches.
        num_workers: number of worker processes; with 0, batches are made by threads of this process.
        max_failed_share: allowed number of different unreadable files or mixtures, as a fraction of the mixtures per
            epoch, but at least one. One more stops the training. 0 allows none. Each process counts its own failures.

    Raises:
        ValueError: an argument is out of range, or `batch_size` is not a multiple of `process_count`.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples={num_samples} is not allowed: must be 1 or more")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed} is not allowed: must be from 0 to 2**32 - 1")
    if not 0 <= max_failed_share <= 1:
        raise ValueError(f"max_failed_share={max_failed_share} is not allowed: must be from 0 to 1")
    rows = _local_rows(batch_size, process_index, process_count, num_workers)
    order = grain.MapDataset.range(len(mixtures)).seed(seed).shuffle().repeat(_ENDLESS // len(mixtures) + 1)
    batches = order.batch(rows).map_with_index(_DrawBatch(mixtures, num_samples, seed, shared=num_workers > 0))
    return TrainingBatches(
        batches[process_index::process_count],
        {"seed": seed, "batch_size": batch_size, "epoch_size": len(mixtures)},
        num_workers,
        max_failures=max(int(max_failed_share * len(mixtures)), int(max_failed_share > 0)),
    )


class TrainingBatches(NumberedBatches):
    """Iterator over training batches, returned by `train_batches`.

    Attributes:
        failures: one message, as logged, for each file or mixture that could not be read so far.
    """

    def __init__(self, batches: grain.MapDataset, identity: dict[str, int], num_workers: int, max_failures: int):
        super().__init__(identity)
        self._batches, self._num_workers, self._max_failures = batches, num_workers, max_failures
        self._running: list[Any] = []  # the Grain iterator, once started
        # When the interpreter exits, workers must be stopped before the modules that they need are unloaded.
        weakref.finalize(self, close_all, self._running)
        self.failures: list[str] = []

    def __next__(self) -> Batch:
        """The next batch.

        Raises:
            ValueError: more mixtures than allowed could not be read.
        """
        if not self._running:
            # A batch depends only on its number, so restoring means starting at that number.
            self._running.append(iterate(self._batches[self._step :], self._num_workers))
        batch, failures = next(self._running[0])
        self._step += 1
        for failure in failures:
            self._note(failure)
        return _complete(batch)

    def close(self) -> None:
        """Stops the workers; the next batch starts them again."""
        close_all(self._running)

    def _note(self, failure: str) -> None:
        # Messages start with the name of the file or mixture.
        if failure.partition(": ")[0] in {known.partition(": ")[0] for known in self.failures}:
            return
        self.failures.append(failure)
        logger.warning(
            "mixture replaced (failure %d of %d allowed): %s", len(self.failures), self._max_failures, failure
        )
        if len(self.failures) > self._max_failures:
            raise ValueError(
                f"{len(self.failures)} files or mixtures could not be read, but only {self._max_failures} may fail; "
                f"the last one: {failure}. Fix the data, or raise config.data.max_failed_share"
            )


def evaluation_batches(
    mixtures: MixtureSource,
    *,
    batch_size: int,
    ladder: Ladder | Rungs | None = None,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
) -> EvaluationBatches:
    """Batches of full mixtures of similar length, each mixture once, short ones first.

    All lengths are read from the file headers at the start. If the mixtures of a length do not fill the last batch,
    it is padded with rows of silence (mask false, index -1), so that every process runs the same number of batches
    of the same shapes. A file that cannot be read is an error.

    Args:
        mixtures: the data set.
        batch_size: rows per batch, over all processes.
        ladder: the possible lengths of a batch in samples; None: a ladder with a first step of one second.
        process_index: index of this process.
        process_count: number of processes that share the batches.
        num_workers: number of worker processes; with 0, batches are made by threads of this process.

    Raises:
        ValueError: an argument is out of range, or `batch_size` is not a multiple of `process_count`.
        FileNotFoundError, ValueError: a file is missing or corrupt; the message names it.
    """
    rows = _local_rows(batch_size, process_index, process_count, num_workers)
    ladder = ladder or Ladder(mixtures.sample_rate)
    buckets: dict[int, list[int]] = {}
    for index in range(len(mixtures)):
        buckets.setdefault(ladder.rung(mixtures.num_samples(index)), []).append(index)
    plan = []
    for length, indices in sorted(buckets.items()):
        indices += [-1] * (-len(indices) % batch_size)
        mine = slice(process_index * rows, (process_index + 1) * rows)
        plan += [(length, indices[i : i + batch_size][mine]) for i in range(0, len(indices), batch_size)]
    return EvaluationBatches(mixtures, plan, num_workers)


class EvaluationBatches:
    """The batches of an evaluation, returned by `evaluation_batches`. They can be iterated any number of times.

    Attributes:
        shapes: all shapes (rows, samples) of the mixture arrays, for compiling ahead of time.
        indices: this process's mixtures in the order of the batches, short ones first.
    """

    def __init__(self, mixtures: MixtureSource, plan: list[tuple[int, list[int]]], num_workers: int):
        self._batches = grain.MapDataset.source(plan).map(_ReadBatch(mixtures, shared=num_workers > 0))
        self._num_workers = num_workers
        self.indices = [index for _, indices in plan for index in indices if index >= 0]
        self.shapes = sorted({(len(indices), length) for length, indices in plan})

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        iterator = iterate(self._batches, self._num_workers)
        try:
            for batch, _ in iterator:
                yield _complete(batch)
        finally:
            iterator.close()


@dataclass(frozen=True)
class _DrawBatch:
    """Makes a training batch from its number and mixture indices; unreadable mixtures are replaced."""

    mixtures: TrainingMixtures
    num_samples: int
    seed: int
    shared: bool

    def __call__(self, number: int, indices: np.ndarray) -> tuple[Batch, list[str]]:
        leave_interrupts_to_the_parent()
        batch = _empty_batch(len(indices), self.mixtures.num_sources, self.num_samples, self.shared)
        failures: list[str] = []
        for row, index in enumerate(indices):
            # The number of the row in the whole training, independent of the number of processes.
            rng = np.random.default_rng((self.seed, number * len(indices) + row))
            batch = _fill_row(batch, row, *self._draw(int(index), rng, failures))
        return batch, failures

    def _draw(self, index: int, rng: np.random.Generator, failures: list[str]) -> tuple[int, Mixture]:
        for _ in range(_ATTEMPTS):
            try:
                return index, self.mixtures.draw(index, self.num_samples, rng)
            except (OSError, ValueError) as error:
                failures.append(str(error))
                index = int(rng.integers(len(self.mixtures)))
        raise ValueError(f"{_ATTEMPTS} mixtures in a row could not be read; the last one: {failures[-1]}")


@dataclass(frozen=True)
class _ReadBatch:
    """Makes an evaluation batch from its length and mixture indices; -1 marks a filler row."""

    mixtures: MixtureSource
    shared: bool

    def __call__(self, planned: tuple[int, list[int]]) -> tuple[Batch, list[str]]:
        leave_interrupts_to_the_parent()
        num_samples, indices = planned
        batch = _empty_batch(len(indices), self.mixtures.num_sources, num_samples, self.shared)
        for row, index in enumerate(indices):
            if index >= 0:
                batch = _fill_row(batch, row, index, self.mixtures.read(index))
        return batch, []


def _empty_batch(num_rows: int, num_sources: int, num_samples: int, shared: bool) -> Batch:
    # Shared memory saves a copy between a worker and the main process.
    zeros = SharedMemoryArray if shared else np.zeros
    return Batch(
        None,
        zeros((num_rows, num_sources, num_samples), np.float32),
        np.full(num_rows, num_samples, np.int32),
        np.full(num_rows, -1, np.int32),
    )


def _fill_row(batch: Batch, row: int, index: int, mixture: Mixture) -> Batch:
    """Writes a row. To save memory, mixtures are stored only if one of them is not just the sum of its sources."""
    length = mixture.sources.shape[1]
    batch.sources[row, :, :length] = mixture.sources
    batch.lengths[row] = length
    batch.index[row] = index
    if batch.mixture is None and (mixture.mixture is not None or mixture.noise is not None):
        batch = batch._replace(mixture=batch.sources.sum(axis=1))
    if batch.mixture is not None:
        batch.mixture[row, :length] = mixture.mixed()
    return batch


def _complete(batch: Batch) -> Batch:
    """The batch with its mixtures, copied out of shared memory because JAX may keep a reference to its input."""
    batch = Batch(*(np.array(array) if isinstance(array, SharedMemoryArray) else array for array in batch))
    return batch if batch.mixture is not None else batch._replace(mixture=batch.sources.sum(axis=1))


def _local_rows(batch_size: int, process_index: int, process_count: int, num_workers: int) -> int:
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index={process_index} is not allowed: must be from 0 to process_count - 1={process_count - 1}"
        )
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"batch_size={batch_size} is not allowed: must be a multiple of the {process_count} process(es)"
        )
    if num_workers < 0:
        raise ValueError(f"num_workers={num_workers} is not allowed: must be 0 or more")
    return batch_size // process_count
