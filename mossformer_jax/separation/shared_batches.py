"""Batches of windows that several threads separate at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

Mixtures = Sequence[Float[np.ndarray, " _"]]
Separated = tuple[list[Float[np.ndarray, "c _"]], float]


@dataclass(eq=False)
class _Call:
    """A call of one thread, and what it returns once `done`."""

    mixtures: Mixtures
    num_samples: int
    alone: bool = False  # after a failure; the call is then no longer among those that wait
    done: bool = False
    separated: Separated = field(default_factory=lambda: ([], 0.0))


class SharedBatches:
    """Separates one batch at a time; calls that arrive meanwhile share the next batches.

    A thread never waits for others to fill a batch, so a single thread is as fast as without sharing. If a shared batch
    fails, each of its calls is repeated alone: an error reaches only the thread whose mixture caused it.

    Args:
        run: separates mixtures in a batch of a padded length, as `Network` does.
        largest_batch: the largest number of mixtures for a padded length.
    """

    def __init__(self, run: Callable[[Mixtures, int], Separated], largest_batch: Callable[[int], int]):
        self._run, self._largest_batch = run, largest_batch
        self._waiting: list[_Call] = []
        self._changing = threading.Lock()
        self._running = threading.Lock()

    def __call__(self, mixtures: Mixtures, num_samples: int) -> Separated:
        """Separates mixtures, possibly in a batch with those of other threads.

        Args:
            mixtures: waveforms (t,).
            num_samples: padded length, at least that of the longest mixture.

        Returns:
            The sources (c, t) of each mixture, and the compile time in seconds. The compile time of a shared batch is
            reported to one of its threads.
        """
        call = _Call(mixtures, num_samples)
        with self._changing:
            self._waiting.append(call)
        try:
            with self._running:
                while not call.done:
                    self._run_with_others(call)
        finally:
            with self._changing:
                self._waiting = [other for other in self._waiting if other is not call]  # if interrupted
        return call.separated

    def _run_with_others(self, call: _Call) -> None:
        """Runs the call and, in the same batch, as many of the waiting ones as fit."""
        with self._changing:
            calls = [call, *self._companions(call)]
            self._waiting = [other for other in self._waiting if other not in calls]
        try:
            sources, compile_seconds = self._run([each for one in calls for each in one.mixtures], call.num_samples)
        except Exception:
            if len(calls) == 1:
                raise
            for one in calls:
                one.alone = True
            return
        rest = iter(sources)
        for one in calls:
            one.separated = [next(rest) for _ in one.mixtures], compile_seconds if one is call else 0.0
            one.done = True

    def _companions(self, call: _Call) -> list[_Call]:
        """Waiting calls for the same batch. More than half of each row must be used."""
        if call.alone:
            return []
        companions: list[_Call] = []
        room = self._largest_batch(call.num_samples) - len(call.mixtures)
        for other in self._waiting:
            similar = call.num_samples // 2 < other.num_samples <= call.num_samples
            if other is not call and similar and len(other.mixtures) <= room:
                companions.append(other)
                room -= len(other.mixtures)
        return companions
