"""A profile of some steps of a training, written by JAX's profiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax


class Profiler:
    """Profiles a range of steps, counted from 1 in this process.

    Args:
        folder: the folder of the profile.
        steps: first and last step to profile; None: no profile.
    """

    def __init__(self, folder: Path, steps: tuple[int, int] | None):
        self._folder, self._steps = folder, steps
        self._running = False

    def before_step(self, step: int, state: Any) -> None:
        """Starts or stops the profile if it is due.

        Args:
            step: the step that begins, counted from 1 in this process.
            state: arrays that the profiled steps compute; the profile waits for them.
        """
        if self._steps is None:
            return
        first, last = self._steps
        if step == first:
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        elif step == last + 1:
            self.stop(state)

    def stop(self, state: Any) -> None:
        """Stops the profile if it is running, after `state` is computed."""
        if self._running:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self._running = False
