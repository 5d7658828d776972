"""What a run gives to others: its weights as stored models, which hold no trace of when they were made."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

from mossformer_jax.atomic import write_atomically
from mossformer_jax.model import ModelConfig
from mossformer_jax.training.state import TRAINING_FIELDS
from mossformer_jax.weights import save_model
from mossformer_jax.weights.parameters import Parameters

RESULT_FILE = "result.json"


def write_weights(
    folder: Path,
    config: ModelConfig,
    weights: Parameters,
    output_gains: Sequence[float] | None,
    step: int,
    si_sdri_db: float | None,
) -> None:
    """Writes a model folder, and in it result.json: the step and the validation SI-SDRi there.

    Args:
        folder: RUN/best or RUN/last.
        config: the model; options that only training knows are stored as if there were none.
        weights: parameters and frequency tables, by dotted name.
        output_gains: factors on the outputs of this model, one a source; None where there was no validation yet.
        step: steps done.
        si_sdri_db: validation SI-SDRi of these weights; None where it was not measured.
    """
    # Only one training writes here: what lies there unfinished is of a process that was killed.
    for unfinished in folder.glob(".*.tmp"):
        unfinished.unlink()
    config = dataclasses.replace(config, **{name: _DEFAULTS[name] for name in TRAINING_FIELDS})
    if output_gains is not None:
        before = config.output_gains or (1.0,) * config.num_sources
        after = tuple(old * new for old, new in zip(before, output_gains, strict=True))
        config = dataclasses.replace(config, output_gains=after)
    save_model(folder, config, weights)
    measured = si_sdri_db is not None and math.isfinite(si_sdri_db)
    result = {"step": step, "si_sdri_db": si_sdri_db if measured else None}
    write_atomically(folder / RESULT_FILE, (json.dumps(result, indent=2) + "\n").encode())


_DEFAULTS = ModelConfig().to_dict()
