"""Runs the command, which is sent a signal at an exact place in the code: interrupted.py SIGNAL PLACE STEP FLAGS...

The places, in the order in which a step reaches them: after its validation ("validated"), when the files of its
checkpoint are written but not yet named ("unnamed"), when the checkpoint is complete ("saved"), at the end ("step").
"""

from __future__ import annotations

import os
import signal
import sys

from mossformer_jax.cli import main as command
from mossformer_jax.training.checkpoints import Checkpoints
from mossformer_jax.training.loop import Training


def main(name: str, place: str, step: str, *flags: str) -> int:
    """Runs `mossformer-jax train` with these flags in this process, and returns its exit status."""
    owner, method = {
        "validated": (Training, "_save"),
        "unnamed": (Checkpoints, "_write_checksums"),
        "saved": (Checkpoints, "save"),
        "step": (Training, "_is_asked_to_stop"),
    }[place]
    original = getattr(owner, method)

    def interrupted(self, *arguments, **options):
        now = {"unnamed": lambda: self._saving, "saved": lambda: arguments[0]}.get(place, lambda: self.step)()
        if now == int(step):
            if place == "saved":
                original(self, *arguments, **options)
                self.wait()
            os.kill(os.getpid(), signal.Signals[name])
        return original(self, *arguments, **options)

    setattr(owner, method, interrupted)
    try:
        return command(["train", *flags])
    finally:
        setattr(owner, method, original)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
