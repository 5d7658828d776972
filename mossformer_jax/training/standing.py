"""How a training stands: what its validations have shown, and how it ended."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from mossformer_jax.fields import from_fields
from mossformer_jax.training.optimizer import Plateau
from mossformer_jax.weights.folders import BEST


@dataclasses.dataclass(frozen=True)
class Standing:
    """What validations have shown so far; plain numbers, kept in checkpoints.

    Attributes:
        plateau: of the learning rate.
        best_si_sdri_db: best mean SI-SDR improvement on the validation set; None before the first.
        best_step: when that was.
        output_gains: factors on the outputs, one a source, that bring them to the level of the sources, at the last
            validation; None before the first.
        validated_step: when that was.
        last_si_sdri_db: mean SI-SDR improvement then; None where it has no figure.
    """

    plateau: Plateau = dataclasses.field(default_factory=Plateau)
    best_si_sdri_db: float | None = None
    best_step: int = 0
    output_gains: tuple[float, ...] | None = None
    validated_step: int = 0
    last_si_sdri_db: float | None = None

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Standing:
        """Reads what `dataclasses.asdict` made of one, and JSON of that.

        Checkpoints of earlier versions have one gain for all outputs: the next validation measures them again.

        Raises:
            ValueError: a field is unknown: the checkpoint is of a later version.
        """
        fields = {name: value for name, value in fields.items() if name != "output_gain"}
        return from_fields(cls, {**fields, "plateau": Plateau(**fields["plateau"])}, "checkpoint")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        step: steps done.
        total_steps: steps wanted.
        best_si_sdri_db: best mean SI-SDR improvement on the validation set; None if there was no validation.
        best_step: when that was.
        stopped_by: the signal that stopped it, else "".
    """

    step: int
    total_steps: int
    best_si_sdri_db: float | None
    best_step: int
    stopped_by: str

    def summary(self, workdir: Path) -> str:
        """The last line of the log."""
        known = ""
        if self.best_si_sdri_db is not None:
            known = (
                f", best validation SI-SDRi {self.best_si_sdri_db:.2f} dB at step {self.best_step} in {workdir / BEST}"
            )
        if self.stopped_by:
            done = f"stopped by {self.stopped_by} after step {self.step} of {self.total_steps}"
            return f"{done}, all saved{known}; the same command goes on"
        return f"finished after step {self.step}{known}"
