"""The stored format: a folder with `config.json` and `model.safetensors`, arrays with dotted names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mossformer_jax.atomic import write_atomically
from mossformer_jax.model import ModelConfig
from mossformer_jax.weights.folders import BEST, CONFIG_FILE, FORMAT, WEIGHTS_FILE, is_model_folder, is_training_run
from mossformer_jax.weights.hub import fetch_model, is_repo_id, suggestion
from mossformer_jax.weights.parameters import Parameters, buffer_names, flatten, parameter_problems
from mossformer_jax.weights.torch_checkpoints import load_torch_checkpoint

FORMAT_VERSION = 1
STORAGE_DTYPES = ("float32", "float16")
DEFAULT_MODEL = Path(__file__).parent.parent / "assets" / "default"


def save_model(
    path: str | os.PathLike[str], config: ModelConfig, params: Mapping[str, Any], *, storage: str = "float32"
) -> None:
    """Writes a model folder for `load_model`. Each file is written atomically.

    An existing model in the folder is replaced; other files are kept.

    Args:
        path: the folder; created if necessary.
        config: the model's sizes and options.
        params: all parameters and frequency tables, as `nnx.state(model)`, nested dicts or a dict with dotted names.
        storage: "float32", or "float16" for half the size. Frequency tables are always float32, because rounding them
            would change the phase of late frames by whole radians.

    Raises:
        ValueError: parameters are missing, unknown, of the wrong shape, not finite or outside float16's range; or the
            folder contains a different kind of model.
    """
    folder = Path(path)
    if storage not in STORAGE_DTYPES:
        raise ValueError(f"storage={storage!r} is not allowed: must be one of {', '.join(STORAGE_DTYPES)}")
    if folder.is_file() or ((folder / CONFIG_FILE).exists() and not is_model_folder(folder)):
        raise ValueError(f"{folder}: exists and is not a {FORMAT} model; give another folder")
    parameters = flatten(params)
    problems = parameter_problems(config, parameters)
    if problems:
        raise ValueError(f"cannot save {folder}: {'; '.join(problems)}")

    exact = buffer_names(config)
    with np.errstate(over="ignore"):  # reported below, by name
        stored = {
            name: np.array(array, np.float32 if name in exact else storage, order="C")
            for name, array in parameters.items()
        }
    overflown = [name for name, array in stored.items() if not np.isfinite(array).all()]
    if overflown:
        raise ValueError(f"cannot save {folder}: outside the range of {storage}: {', '.join(overflown)}; use float32")

    folder.mkdir(parents=True, exist_ok=True)
    description = {"format": FORMAT, "format_version": FORMAT_VERSION, "model": config.to_dict()}
    # The config is written last: after an interruption, a new folder has no config and is not taken for a model.
    write_atomically(folder / WEIGHTS_FILE, save(stored, metadata={"format": FORMAT}))
    write_atomically(folder / CONFIG_FILE, (json.dumps(description, indent=2) + "\n").encode())


def model_folder(path: str | os.PathLike[str]) -> Path:
    """The model folder for a name, a path or an id on a hub; for a training run, its best weights.

    A published name, "owner/name" (Hugging Face) or "modelscope:owner/name" is downloaded and converted on first use.

    Raises:
        FileNotFoundError: there is no such model.
        OSError: the hub cannot be reached.
        ValueError: the path is not a model folder.
    """
    if path == "default":  # never true for a Path, which refers to a folder of that name
        if not is_model_folder(DEFAULT_MODEL):
            raise FileNotFoundError(
                "the default model is not part of this installation; give the path of a model folder"
            )
        return DEFAULT_MODEL
    folder = Path(path)
    if not folder.exists():
        if isinstance(path, str) and is_repo_id(path):
            return fetch_model(path, _convert_official)
        raise FileNotFoundError(
            f"{folder}: no such model; give 'default' or the path of a model folder{suggestion(str(path))}"
        )
    if not is_model_folder(folder) and (is_training_run(folder) or is_model_folder(folder / BEST)):
        if not is_model_folder(folder / BEST):
            last = folder / "last"
            instead = f"give {last}" if is_model_folder(last) else "train longer"
            raise FileNotFoundError(
                f"{folder}: is a training run without {BEST}/ weights, which its first validation writes; {instead}"
            )
        return folder / BEST
    if not is_model_folder(folder):
        raise ValueError(
            f'{folder}: is not a {FORMAT} model folder ({CONFIG_FILE} with "format": "{FORMAT}", and {WEIGHTS_FILE}); '
            "to convert an official PyTorch checkpoint, run: "
            f"mossformer-jax convert --input {folder} --output FOLDER"
        )
    return folder


def _convert_official(source: Path, target: Path, options: Mapping[str, Any]) -> tuple[str, ModelConfig]:
    """Converts the official files in a folder to a model folder; returns their family and the config."""
    checkpoint = load_torch_checkpoint(source, **options)
    save_model(target, checkpoint.config, checkpoint.parameters)
    return checkpoint.family, checkpoint.config


def read_config(path: str | os.PathLike[str]) -> ModelConfig:
    """Reads the config of "default", of a model folder, or of a model on a hub (`model_folder`).

    Raises:
        FileNotFoundError: there is no such model.
        OSError: the hub cannot be reached.
        ValueError: it is not a model folder, or its config.json is not valid.
    """
    file = model_folder(path) / CONFIG_FILE
    description = json.loads(file.read_text())
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{file}: has format_version={version!r}, but this version reads {FORMAT_VERSION}; update mossformer-jax"
        )
    fields = description.get("model")
    if not isinstance(fields, dict):
        raise ValueError(f'{file}: "model" must be an object with the model config\'s fields, not {fields!r}')
    try:
        return ModelConfig.from_dict(fields)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def load_parameters(path: str | os.PathLike[str]) -> tuple[ModelConfig, Parameters]:
    """Reads "default", a model folder, or a model on a hub (`model_folder`).

    Returns:
        The config, and all parameters and frequency tables by dotted name, in float32.

    Raises:
        FileNotFoundError: there is no such model.
        OSError: the hub cannot be reached.
        ValueError: the model cannot be read, or its tensors do not match its config; one error lists all differences.
    """
    folder = model_folder(path)
    config = read_config(folder)
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; the model folder is incomplete, save or convert it again")
    try:
        stored = load_file(file)
    except (SafetensorError, TypeError, KeyError) as error:  # the last two: a dtype that numpy does not have
        raise ValueError(f"{file}: is damaged ({error}); save or convert the model again") from None
    problems = [
        f"{name} is stored as {array.dtype}, not {' or '.join(STORAGE_DTYPES)}"
        for name, array in stored.items()
        if array.dtype.name not in STORAGE_DTYPES
    ]
    problems += parameter_problems(config, stored)
    if problems:
        raise ValueError(f"{file}: does not match {CONFIG_FILE}: {'; '.join(problems)}")
    return config, {name: array.astype(np.float32) for name, array in stored.items()}
