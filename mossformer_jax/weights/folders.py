"""The files of a model folder, and checks for the kind of a folder."""

from __future__ import annotations

import json
from pathlib import Path

FORMAT = "mossformer-jax"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
# Subfolder of a training run with its best weights.
BEST = "best"


def is_model_folder(folder: Path) -> bool:
    """Whether the folder is a model folder, according to its config.json."""
    try:
        description = json.loads((folder / CONFIG_FILE).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(description, dict) and description.get("format") == FORMAT


def is_training_run(folder: Path) -> bool:
    """Whether the folder is a training run, whose best weights are in a subfolder."""
    return (folder / CONFIG_FILE).is_file() and (folder / "checkpoints").is_dir()
