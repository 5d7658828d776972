"""Finding and reading the files of an official checkpoint, without PyTorch; writing them needs it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mossformer_jax.atomic import write_atomically
from mossformer_jax.weights.folders import is_model_folder
from mossformer_jax.weights.torch_mapping import strip_wrappers
from mossformer_jax.weights.torch_reader import read_torch_file

# Text files of family A; their first line is the name of a checkpoint in the same folder.
POINTERS = ("last_best_checkpoint", "last_checkpoint")
WRAPPED = "model"
# Training state in the files of family A. It is ignored, because other optimizers cannot use it.
TRAINING_STATE = {"optimizer", "epoch", "step"}
PARTS = ("encoder", "masknet", "decoder")  # one file each, in families C and D
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
WHOLE = tuple("pytorch_model" + suffix for suffix in SUFFIXES)


@dataclass(frozen=True)
class Contents:
    """The contents of a checkpoint.

    Attributes:
        source: path of the checkpoint, for messages.
        state_dict: arrays or tensors by official name.
        from_clearervoice: whether the checkpoint was written by ClearerVoice (wrapped, or with a pointer file).
        settings: contents of config.json in the same folder; None if there is no such file.
    """

    source: str
    state_dict: Mapping[str, Any]
    from_clearervoice: bool = False
    settings: Mapping[str, Any] | None = None


def read(path: Path) -> Contents:
    """Finds and reads the checkpoint at a path."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; check the path")
    if is_model_folder(path):
        raise ValueError(f"{path}: is already a mossformer-jax model; to convert it to PyTorch, add --to-torch")
    file = _find(path) if path.is_dir() else path
    if file.name in POINTERS:
        name = file.read_text(errors="replace").strip().split("\n")[0]
        named = file.parent / name
        if not named.is_file():
            raise FileNotFoundError(f"{file}: refers to {name!r}, which is not in the same folder; copy it there")
        return unwrap(_load(named), str(named), from_clearervoice=True)
    settings = _read_settings(file.parent / "config.json")
    if file.stem not in PARTS:
        return unwrap(_load(file), str(file), settings=settings)

    parts = {part: _load(_existing(file.with_name(part + file.suffix))) for part in PARTS}
    # The mask net is `masknet` in family C and `mask_net` in family D; their separate files omit this name.
    roots = dict(zip(PARTS, PARTS, strict=True))
    if not any(key.startswith("dual_mdl.") for key in strip_wrappers(parts["masknet"])):
        roots["masknet"] = "mask_net"
    joined = {f"{roots[part]}.{k}": v for part in PARTS for k, v in strip_wrappers(parts[part]).items()}
    return Contents(str(file.parent), joined, settings=settings)


def _find(folder: Path) -> Path:
    """The checkpoint in a folder: a pointer file, otherwise a whole checkpoint, otherwise one in parts."""
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    whole = [file for file in files if file.stem not in PARTS]
    parts = [file for file in files if file.stem in PARTS]
    preferred = [folder / name for name in (*POINTERS, *WHOLE) if (folder / name).is_file()]
    if preferred or len(whole) == 1 or (parts and not whole):
        return (preferred or whole or parts)[0]
    if whole:
        raise ValueError(
            f"{folder}: contains several checkpoints; give one of {', '.join(file.name for file in whole)}"
        )
    raise FileNotFoundError(
        f"{folder}: contains no checkpoint ({POINTERS[0]}, pytorch_model.bin, encoder|masknet|decoder.ckpt|bin, "
        f"or another file ending in {', '.join(SUFFIXES)}); give another folder"
    )


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; {', '.join(PARTS)} must be in the same folder")
    return file


def _read_settings(file: Path) -> Mapping[str, Any] | None:
    if not file.is_file():
        return None
    try:
        settings = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: is not valid JSON ({error})") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: must contain a JSON object, not {type(settings).__name__}")
    return settings


def unwrap(loaded: Mapping[str, Any], source: str, **found: Any) -> Contents:
    """Extracts the state dict from a training checkpoint of family A."""
    if not isinstance(loaded.get(WRAPPED), Mapping):
        return Contents(source, loaded, **found)
    if unknown := sorted(map(str, loaded.keys() - TRAINING_STATE - {WRAPPED})):
        raise ValueError(
            f"{source}: unknown entries besides '{WRAPPED}': {', '.join(unknown)}; save only the entry '{WRAPPED}'"
        )
    return Contents(source, loaded[WRAPPED], **(found | {"from_clearervoice": True}))


def _load(file: Path) -> Mapping[str, Any]:
    """Reads one file of tensors, without torch."""
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (SafetensorError, TypeError, KeyError) as error:  # the last two: a dtype that numpy does not have
            raise ValueError(f"{file}: cannot be read ({error})") from None
    loaded = read_torch_file(file)
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{file}: contains a {type(loaded).__name__}, not a state dict; save its state dict")
    return loaded


def to_numpy(key: str, value: Any) -> np.ndarray:
    """Converts a torch tensor or an array to an array; all floating-point types become float32."""
    if hasattr(value, "detach"):
        tensor = value.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{key} is of type {type(value).__name__}, not a tensor")
    # Not np.issubdtype, for which bfloat16 is no floating-point type.
    return value.astype(np.float32) if jnp.issubdtype(value.dtype, jnp.floating) else value


def save(file: Path, loaded: Mapping[str, Any]) -> None:
    """Writes a torch file atomically."""
    buffer = io.BytesIO()
    import_torch().save(loaded, buffer)
    write_atomically(file, buffer.getvalue())


def import_torch() -> ModuleType:
    """Imports torch; without it, raises a ValueError with the command to install it."""
    try:
        import torch
    except ImportError:
        raise ValueError("PyTorch is not installed; run: pip install 'mossformer-jax[convert]'") from None
    return torch
