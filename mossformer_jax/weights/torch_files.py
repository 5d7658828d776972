"""Finds and reads the files of an official checkpoint; the tensors in them are all that is ever unpickled."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mossformer_jax.atomic import write_atomically
from mossformer_jax.weights.folders import is_model_folder
from mossformer_jax.weights.torch_mapping import strip_wrappers

# Text files of family A; their first line names the checkpoint beside them.
POINTERS = ("last_best_checkpoint", "last_checkpoint")
WRAPPED = "model"
# Training state that family A's files hold beside the network: left out on purpose, no other optimizer can use it.
TRAINING_STATE = {"optimizer", "epoch", "step"}
PARTS = ("encoder", "masknet", "decoder")  # one file each, in families C and D
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
WHOLE = tuple("pytorch_model" + suffix for suffix in SUFFIXES)


@dataclass(frozen=True)
class Contents:
    """What was read.

    Attributes:
        source: where from, for messages.
        state_dict: arrays or tensors by official name.
        from_clearervoice: whether it came the way ClearerVoice writes it (wrapped, or by its pointer file).
        settings: the config.json beside it.
    """

    source: str
    state_dict: Mapping[str, Any]
    from_clearervoice: bool = False
    settings: Mapping[str, Any] | None = None


def read(path: Path) -> Contents:
    """Finds and reads the checkpoint that a path means."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if is_model_folder(path):
        raise ValueError(f"{path}: is a mossformer-jax model already; --to-torch converts it to PyTorch")
    file = _find(path) if path.is_dir() else path
    if file.name in POINTERS:
        name = file.read_text(errors="replace").strip().split("\n")[0]
        named = file.parent / name
        if not named.is_file():
            raise FileNotFoundError(f"{file}: names {name!r}, which is not beside it")
        return unwrap(_load(named), str(named), from_clearervoice=True)
    settings = _read_settings(file.parent / "config.json")
    if file.stem not in PARTS:
        return unwrap(_load(file), str(file), settings=settings)

    parts = {part: _load(_existing(file.with_name(part + file.suffix))) for part in PARTS}
    # Family C calls its mask net `masknet`, family D `mask_net`; their separate files leave the name out.
    roots = dict(zip(PARTS, PARTS, strict=True))
    if not any(key.startswith("dual_mdl.") for key in strip_wrappers(parts["masknet"])):
        roots["masknet"] = "mask_net"
    joined = {f"{roots[part]}.{k}": v for part in PARTS for k, v in strip_wrappers(parts[part]).items()}
    return Contents(str(file.parent), joined, settings=settings)


def _find(folder: Path) -> Path:
    """The one checkpoint of a folder: a pointer, else a whole checkpoint, else one in parts."""
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    whole = [file for file in files if file.stem not in PARTS]
    parts = [file for file in files if file.stem in PARTS]
    preferred = [folder / name for name in (*POINTERS, *WHOLE) if (folder / name).is_file()]
    if preferred or len(whole) == 1 or (parts and not whole):
        return (preferred or whole or parts)[0]
    if whole:
        raise ValueError(f"{folder}: holds several checkpoints, give one of {', '.join(file.name for file in whole)}")
    raise FileNotFoundError(
        f"{folder}: holds no checkpoint ({POINTERS[0]}, pytorch_model.bin, encoder|masknet|decoder.ckpt|bin, "
        f"or another file that ends in {', '.join(SUFFIXES)})"
    )


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing; {', '.join(PARTS)} belong together")
    return file


def _read_settings(file: Path) -> Mapping[str, Any] | None:
    if not file.is_file():
        return None
    try:
        settings = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: is not valid JSON ({error})") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: must hold an object, not {type(settings).__name__}")
    return settings


def unwrap(loaded: Mapping[str, Any], source: str, **found: Any) -> Contents:
    """Takes the state dict out of family A's training checkpoint."""
    if not isinstance(loaded.get(WRAPPED), Mapping):
        return Contents(source, loaded, **found)
    if unknown := sorted(map(str, loaded.keys() - TRAINING_STATE - {WRAPPED})):
        raise ValueError(
            f"{source}: unknown entries beside '{WRAPPED}': {', '.join(unknown)}; save its '{WRAPPED}' alone"
        )
    return Contents(source, loaded[WRAPPED], **(found | {"from_clearervoice": True}))


def _load(file: Path) -> Mapping[str, Any]:
    """Reads one file of tensors; torch is not needed for safetensors."""
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (SafetensorError, TypeError, KeyError) as error:  # the last two: a dtype that numpy does not have
            raise ValueError(f"{file}: cannot be read ({error})") from None
    torch = import_torch()
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception:  # a damaged file can raise nearly anything
        raise ValueError(
            f"{file}: is no PyTorch file of tensors only: damaged, or holding other objects, which are never unpickled"
        ) from None
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{file}: holds a {type(loaded).__name__}, not a state dict")
    return loaded


def to_numpy(key: str, value: Any) -> np.ndarray:
    """A torch tensor or an array as an array; any floating point becomes float32."""
    if hasattr(value, "detach"):
        tensor = value.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{key} is of type {type(value).__name__}, not a tensor")
    return value.astype(np.float32) if np.issubdtype(value.dtype, np.floating) else value


def save(file: Path, loaded: Mapping[str, Any]) -> None:
    """Writes a torch file, whole or not at all."""
    buffer = io.BytesIO()
    import_torch().save(loaded, buffer)
    write_atomically(file, buffer.getvalue())


def import_torch() -> ModuleType:
    """Torch, or a ValueError that says how to install it."""
    try:
        import torch
    except ImportError:
        raise ValueError("PyTorch is missing: pip install 'mossformer-jax[convert]'") from None
    return torch
