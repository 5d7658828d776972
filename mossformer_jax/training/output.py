"""Writes the weights of a run as stored models. The files contain no timestamps."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mossformer_jax.atomic import write_atomically
from mossformer_jax.model import ModelConfig
from mossformer_jax.training.configuration import TRAINING_FIELDS
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
    """Writes a model folder, with the step and its validation SI-SDRi in result.json.

    Args:
        folder: RUN/best or RUN/last.
        config: the model; options that only affect training are stored with their defaults.
        weights: parameters and frequency tables, by dotted name.
        output_gains: factors on the outputs of this model, one per source, which multiply those in `config`; None
            before the first validation.
        step: number of steps done.
        si_sdri_db: validation SI-SDRi of these weights in dB; None if it was not measured.
    """
    # Only one process writes here, so any temporary files were left by a killed one.
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


def read_result(folder: Path) -> dict[str, Any]:
    """Reads `step` and `si_sdri_db` from a model folder of a run; empty if result.json is missing or damaged."""
    try:
        result = json.loads((folder / RESULT_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return result if isinstance(result, dict) else {}


_DEFAULTS = ModelConfig().to_dict()
