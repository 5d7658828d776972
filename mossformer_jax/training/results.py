"""The validation results of a training so far, and its final outcome."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mossformer_jax.fields import from_fields
from mossformer_jax.training.optimizer import Plateau
from mossformer_jax.weights.folders import BEST

if TYPE_CHECKING:
    from mossformer_jax.training.recipe import Recipe
    from mossformer_jax.training.validation import Validated


@dataclasses.dataclass(frozen=True)
class Results:
    """The validation results so far; plain numbers, stored in checkpoints.

    Attributes:
        plateau: plateau state of the learning rate.
        best_si_sdri_db: best mean SI-SDR improvement on the validation set, in dB; None before the first validation.
        best_step: step of the best validation.
        output_gains: factors, one per source, that bring the outputs to the level of the sources, from the last
            validation; None before the first.
        validated_step: step of the last validation.
        last_si_sdri_db: mean SI-SDR improvement of the last validation, in dB; None if it was not finite.
    """

    plateau: Plateau = dataclasses.field(default_factory=Plateau)
    best_si_sdri_db: float | None = None
    best_step: int = 0
    output_gains: tuple[float, ...] | None = None
    validated_step: int = 0
    last_si_sdri_db: float | None = None

    def after(self, validated: Validated, step: int, epoch: float, recipe: Recipe) -> Results:
        """The results after one more validation.

        Args:
            validated: its result.
            step: number of steps done.
            epoch: `step` in epochs, fractional in the middle of an epoch.
            recipe: provides the options of the plateau.
        """
        score = validated.si_sdri_db
        best = math.isfinite(score) and (self.best_si_sdri_db is None or score > self.best_si_sdri_db)
        plateau = self.plateau
        if not validated.silent:
            plateau = plateau.after(-validated.si_sdr_db, epoch, recipe)
        return Results(
            plateau,
            score if best else self.best_si_sdri_db,
            step if best else self.best_step,
            validated.output_gains,
            step,
            score if math.isfinite(score) else None,
        )

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Results:
        """Reads the output of `dataclasses.asdict`, also after a round trip through JSON.

        Checkpoints of earlier versions have one gain for all outputs. It is ignored; the next validation measures one
        per output.

        Raises:
            ValueError: a field is unknown, so the checkpoint was written by a later version.
        """
        fields = {name: value for name, value in fields.items() if name != "output_gain"}
        return from_fields(cls, {**fields, "plateau": Plateau(**fields["plateau"])}, "checkpoint")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        step: number of steps done.
        total_steps: number of steps configured.
        best_si_sdri_db: best mean SI-SDR improvement on the validation set, in dB; None if there was no validation.
        best_step: step of the best validation.
        stopped_by: the signal that stopped the training, "" if it finished.
        validated: whether there was a validation, even if its SI-SDRi was undefined.
    """

    step: int
    total_steps: int
    best_si_sdri_db: float | None
    best_step: int
    stopped_by: str
    validated: bool = False

    @classmethod
    def of(cls, results: Results, step: int, total_steps: int, stopped_by: str) -> Outcome:
        """The outcome of a training with these validation results."""
        best_si_sdri_db, best_step, validated_step = results.best_si_sdri_db, results.best_step, results.validated_step
        return cls(step, total_steps, best_si_sdri_db, best_step, stopped_by, validated=validated_step > 0)

    def summary(self, workdir: Path) -> str:
        """The last line of the log."""
        known = ""
        if self.best_si_sdri_db is not None:
            known = (
                f", best validation SI-SDRi {self.best_si_sdri_db:.2f} dB at step {self.best_step} in {workdir / BEST}"
            )
        elif self.validated:
            known = f", SI-SDRi was undefined in every validation; {workdir / BEST} holds the last weights"
        if self.stopped_by:
            done = f"stopped by {self.stopped_by} after step {self.step} of {self.total_steps}"
            return f"{done}, all saved{known}; run the same command again to resume"
        return f"finished after step {self.step}{known}"
