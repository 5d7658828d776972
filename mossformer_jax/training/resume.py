"""The beginning of a run: a new state, or that of the newest checkpoint; and the notes in a checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jax.sharding import Mesh

from mossformer_jax.model import ModelConfig
from mossformer_jax.sharding import same_everywhere
from mossformer_jax.training import state as states
from mossformer_jax.training.checkpoints import Checkpoints
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.training.results import Results
from mossformer_jax.training.step import Metrics

if TYPE_CHECKING:
    from ml_collections import ConfigDict


class Begun(NamedTuple):
    """Where a run begins or resumes.

    Attributes:
        step: number of steps done.
        state: the training state.
        results: the validation results so far.
        batches: position of the training batches; None at the beginning of a run.
        unrecorded: metrics of the steps since the last record.
    """

    step: int
    state: states.TrainState
    results: Results
    batches: dict[str, int] | None = None
    unrecorded: Iterable[list[float]] = ()


def begin_or_resume(workdir: Path, checkpoints: Checkpoints, model: ModelConfig, recipe: Recipe, mesh: Mesh) -> Begun:
    """Restores the newest intact checkpoint; without checkpoints, creates a new state.

    Raises:
        ValueError: the hosts see different checkpoints, or they cannot be restored (`Checkpoints.restore`).
        FileNotFoundError, OSError: a checkpoint or the initial weights cannot be read.
    """
    like = states.abstract_state(model, recipe, mesh)
    newest = max(checkpoints.steps(), default=0)
    if not same_everywhere(newest):
        raise ValueError(
            f"{workdir}: the newest checkpoint is of step {newest} on this host but of another step on other "
            "hosts; --workdir must be one folder that all hosts share"
        )
    restored = checkpoints.restore(states.to_arrays(like))
    if restored is None:
        return Begun(0, states.begin(model, recipe, mesh), Results())
    step, arrays, notes = restored
    results = Results.from_dict(notes["standing"])
    return Begun(step, states.from_arrays(like, arrays), results, notes["batches"], notes["unrecorded"])


def checkpoint_notes(
    results: Results, batches: Mapping[str, int], unrecorded: Iterable[Metrics], config: ConfigDict
) -> dict[str, Any]:
    """The contents of a checkpoint besides its arrays, from which `begin_or_resume` continues."""
    return {
        "standing": dataclasses.asdict(results),  # the name in existing checkpoints
        "batches": batches,
        "unrecorded": list(unrecorded),  # a copy, because it is written while the training continues
        "config": config.to_dict(),
    }
