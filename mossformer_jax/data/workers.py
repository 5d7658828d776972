"""Grain's threads and worker processes: how they are started, and how they stop."""

from __future__ import annotations

import functools
import multiprocessing
import signal
import threading
from typing import Any

import grain
from absl import flags


def iterate(batches: grain.MapDataset, num_workers: int) -> Any:
    """A Grain iterator over the batches, made by `num_workers` processes, or by threads of this one if it is 0."""
    # Prefetch only a few batches, since they are large (Grain's default is 500). Threads inside workers are slower.
    reading = grain.ReadOptions(num_threads=0 if num_workers else 4, prefetch_buffer_size=4)
    # Small arrays are not sent through shared memory.
    sending = grain.experimental.DatasetOptions(min_shm_size=2**16)
    dataset = grain.experimental.WithOptionsIterDataset(batches.to_iter_dataset(reading), sending)
    if num_workers and not flags.FLAGS.is_parsed():
        # Grain reads its options from absl flags, which fails if the program has not parsed any.
        flags.FLAGS.mark_as_parsed()
    return iter(dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=2)))


def close_all(running: list[Any]) -> None:
    """Closes the Grain iterators in a list and empties it."""
    while running:
        running.pop().close()


@functools.cache
def leave_interrupts_to_the_parent() -> None:
    """Makes workers ignore Ctrl-C, which a terminal also sends to them; the parent process stops them."""
    if multiprocessing.parent_process() is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
