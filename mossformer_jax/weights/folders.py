"""The files of a model folder, and how such a folder is recognised."""

from __future__ import annotations

import json
from pathlib import Path

FORMAT = "mossformer-jax"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
# Where a training run keeps its best weights.
BEST = "best"


def is_model_folder(folder: Path) -> bool:
    """Whether the folder's config.json says that it is one of ours."""
    try:
        description = json.loads((folder / CONFIG_FILE).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(description, dict) and description.get("format") == FORMAT


def is_training_run(folder: Path) -> bool:
    """Whether the folder is that of a training run, whose best weights lie in a folder of it."""
    return (folder / CONFIG_FILE).is_file() and (folder / "checkpoints").is_dir()
