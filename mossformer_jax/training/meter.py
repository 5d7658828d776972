"""Averages over the steps between two journal records, and a journal without output for non-primary processes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mossformer_jax.training.journal import Progress
from mossformer_jax.training.step import Metrics


class Meter:
    """Averages over the steps between two records.

    Args:
        batch_size: mixtures per step, over all devices.
        steps_per_epoch: length of an epoch in steps.
        log_every: steps between two records.
        unrecorded: metrics of the steps since the last record, from the checkpoint that the run resumes from.

    Attributes:
        unrecorded: metrics of the steps since the last record.
    """

    def __init__(self, batch_size: int, steps_per_epoch: int, log_every: int, unrecorded: Iterable[list[float]] = ()):
        self._batch_size, self._steps_per_epoch, self._log_every = batch_size, steps_per_epoch, log_every
        self.unrecorded = [Metrics(*figures) for figures in unrecorded]
        self._num_timed = 0
        self._seconds = self._waited = 0.0
        self.restart()

    def restart(self) -> None:
        """Excludes the time since the last step, which was spent on validation and checkpoints."""
        self._since = time.perf_counter()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside the context as waiting for data."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def add(self, step: int, figures: Metrics) -> Progress | None:
        """Adds a step; returns a record if one is due."""
        now = time.perf_counter()
        self._seconds, self._since = self._seconds + now - self._since, now
        self._num_timed += 1
        self.unrecorded.append(figures)
        if step % self._log_every:
            return None
        # Skipped steps, and steps in which all mixtures are above the threshold, are excluded from the mean loss.
        trained = [each for each in self.unrecorded if not each.skipped_in_a_row and each.num_mixtures]
        trained = trained or self.unrecorded
        loss, gradient_norm, rate, *_ = np.mean(trained, axis=0).tolist()
        record = Progress(
            step=step,
            epoch=step / self._steps_per_epoch,
            loss=loss,
            learning_rate=rate,
            gradient_norm=gradient_norm,
            mixtures_per_second=self._num_timed * self._batch_size / max(self._seconds, 1e-9),
            waiting_share=min(self._waited / max(self._seconds, 1e-9), 1.0),
            skipped=int(figures.skipped),
        )
        self.unrecorded.clear()
        self._num_timed, self._seconds, self._waited = 0, 0.0, 0.0
        return record


class SilentJournal:
    """A journal that writes nothing, for all processes but the first."""

    def __enter__(self) -> SilentJournal:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Does nothing."""

    def progress(self, record: Progress) -> None:
        """Does nothing."""

    def validated(self, step: int, figures: Any, *, best: bool, examples: Any = (), why_undefined: str = "") -> None:
        """Does nothing."""
