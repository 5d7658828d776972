"""Trains for a given time: `mossformer-jax train` with a learning rate that falls to zero as the time ends.

    python .gpu/kit/train_gpu.py SECONDS WORKDIR --config NAME [--config.FIELD=VALUE ...]

SECONDS include the preparation. The last fraction DECAY of the training time (an environment variable, default 0.6) is
the decay, however many steps that are, so that the speed of the machine need not be known. `config.train.steps` is an
upper limit. The weights are validated before and after the training. The same WORKDIR continues a training, with its
optimizer's state; DECAY=0 leaves the learning rate constant for that. The project's root must be in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mossformer_jax.data.batch import Batch
from mossformer_jax.sharding import place, replicated
from mossformer_jax.training.configuration import load_config
from mossformer_jax.training.loop import Training
from mossformer_jax.training.results import Outcome
from mossformer_jax.training.signals import StopRequest

# For writing the last weights and the checkpoint, in seconds.
SAVING = 5.0


class TimedTraining(Training):
    """A training that ends at a time.

    Args:
        config: as for `Training`; its schedule should not decay by itself.
        workdir: the run's folder.
        ends_at: time at which it should end, as given by `time.monotonic`.
        decay: last fraction of the time, over which the learning rate falls to zero; 0: it stays constant.
    """

    def __init__(self, config: Any, workdir: str, ends_at: float, decay: float):
        super().__init__(config, workdir)
        self._ends_at, self._decay = ends_at, decay
        self._seconds = 1.0

    def run(self) -> Outcome:
        """Validates, trains and validates."""
        began = time.monotonic()
        before = self._validation(self.state.weights)
        took = time.monotonic() - began
        if before is not None:
            print(f"before: SI-SDRi {before.si_sdri_db:.3f} dB; first validation {took:.1f} s", flush=True)
        # The last validation needs no compilation, which takes most of the time of the first one.
        self._ends_at -= 0.4 * took + SAVING
        return super().run()

    def _compile(self, journal: Any) -> Any:
        program = super()._compile(journal)
        self._seconds = max(self._ends_at - time.monotonic(), 1.0)
        return program

    def _next_batch(self, request: StopRequest) -> Batch | None:
        left = (self._ends_at - time.monotonic()) / self._seconds
        factor = min(max(left, 0.0) / self._decay, 1.0) if self._decay else 1.0
        factor_0 = place(np.asarray(factor, np.float32), replicated(self.mesh))
        self.state = self.state._replace(plateau_factor=factor_0)
        if left <= 0:
            self.total_steps = self.step + 1  # this step is the last one
        return super()._next_batch(request)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float, metavar="SECONDS", help="time limit")
    parser.add_argument("workdir", metavar="WORKDIR", help="folder of the run")
    parser.add_argument("--config", required=True, help="name or file of a config")
    flags, overrides = parser.parse_known_args(arguments)
    config = load_config(flags.config, overrides)
    training = TimedTraining(config, flags.workdir, began + flags.seconds, float(os.environ.get("DECAY", "0.6")))
    print(training.run().summary(training.workdir))
    peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    print(f"peak of the device memory: {peak / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
