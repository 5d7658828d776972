"""Reading the files of an official checkpoint, without PyTorch; writing them needs it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as save_safetensors

from mossformer_jax.atomic import write_atomically
from mossformer_jax.weights.folders import is_model_folder
from mossformer_jax.weights.pickles import printable
from mossformer_jax.weights.torch_folders import PARTS, Found, find, several_checkpoints
from mossformer_jax.weights.torch_mapping import split_networks, strip_wrappers
from mossformer_jax.weights.torch_reader import lfs_advice, read_torch_file

WRAPPED = "model"  # the entry of the network in the files of family A
SHARED_TENSOR = "rotary_pos_emb.freqs"  # one tensor with a name in each block
_MAX_NESTING = 4


@dataclass(frozen=True)
class Contents:
    """The contents of a checkpoint.

    Attributes:
        source: path of the checkpoint, for messages.
        state_dict: arrays or tensors by official name, without prefixes.
        from_clearervoice: whether the checkpoint was written by ClearerVoice (wrapped, or with a pointer file).
        settings: contents of config.json in the same folder; None if there is no such file.
        note: how it was chosen among others; may be empty.
    """

    source: str
    state_dict: Mapping[str, Any]
    from_clearervoice: bool = False
    settings: Mapping[str, Any] | None = None
    note: str = ""


def read(path: Path, network: str | None = None) -> Iterator[Contents]:
    """Finds and reads the checkpoint at a path; one after the other if several may be meant (`torch_folders.find`)."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; check the path")
    if is_model_folder(path):
        raise ValueError(f"{path}: is already a mossformer-jax model; to convert it to PyTorch, add --to-torch")
    candidates = find(path)
    for found in candidates:
        try:
            yield _read_found(found, network)
        except ValueError:
            if len(candidates) > 1:
                raise several_checkpoints(path, candidates) from None
            raise


def _read_found(found: Found, network: str | None) -> Contents:
    file = found.files[0]
    settings = None if found.from_clearervoice else _read_settings(file.parent / "config.json")
    if file.stem not in PARTS:
        contents = unwrap(_load(file), str(file), network)
        is_clearervoice = found.from_clearervoice or contents.from_clearervoice
        return replace(contents, from_clearervoice=is_clearervoice, settings=settings, note=found.note)
    parts = {file.stem: strip_wrappers(_load(file)) for file in found.files}
    # The mask net is `masknet` in family C and `mask_net` in family D; their separate files omit this name.
    roots = dict(zip(PARTS, PARTS, strict=True))
    if not any(key.startswith("dual_mdl.") for key in parts.get("masknet", {})):
        roots["masknet"] = "mask_net"
    joined = {f"{roots[part]}.{k}": v for part, tensors in parts.items() for k, v in tensors.items()}
    return Contents(str(file.parent), joined, settings=settings, note=found.note)


def _read_settings(file: Path) -> Mapping[str, Any] | None:
    if not file.is_file():
        return None
    text = file.read_bytes()
    if advice := lfs_advice(text):
        raise ValueError(f"{file}: {advice}")
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file}: is not valid JSON ({error})") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: must contain a JSON object, not {type(settings).__name__}")
    return settings


def unwrap(loaded: Mapping[str, Any], source: str, network: str | None = None) -> Contents:
    """Extracts the state dict of the network, which may be nested in other entries and have a prefix.

    Args:
        loaded: the contents of a file.
        source: its path, for messages.
        network: which network to take if there are several, by the name that the error lists.

    Raises:
        ValueError: there are several networks, or none with this name.
    """
    networks = dict(_find_networks(loaded, (), set()))
    names = ", ".join(networks) or "(no network)"
    if network is not None and network not in networks:
        raise ValueError(f"{source}: has no network {network!r}; give one of {names}")
    if network is None and len(networks) > 1:
        raise ValueError(f"{source}: contains several networks: {names}; choose one with --network")
    if not networks:
        return Contents(source, strip_wrappers(loaded))
    name = network or next(iter(networks))
    return Contents(source, networks[name], from_clearervoice=name.split(".")[0] == WRAPPED)


def _find_networks(
    loaded: Mapping[Any, Any], path: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """All networks in nested dicts, by the names of their entries and, if several share a dict, the prefix of keys."""
    if id(loaded) in seen or len(path) > _MAX_NESTING:
        return  # a file can contain a dict many times
    seen.add(id(loaded))
    networks = split_networks(loaded)
    for prefix, state_dict in networks.items():
        names = (*path, prefix.rstrip(".")) if len(networks) > 1 else path
        yield ".".join(names) or "(top level)", state_dict
    if not networks:
        for key, value in loaded.items():
            if isinstance(value, Mapping):
                yield from _find_networks(value, (*path, printable(str(key))), seen)


def _load(file: Path) -> Mapping[str, Any]:
    """Reads one file of tensors, without torch."""
    if file.suffix == ".safetensors":
        with file.open("rb") as opened:
            if advice := lfs_advice(opened.read(2**9)):
                raise ValueError(f"{file}: {advice}")
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
    # Not np.issubdtype, which does not treat bfloat16 as a floating-point type.
    return value.astype(np.float32) if jnp.issubdtype(value.dtype, jnp.floating) else value


def to_safetensors(state_dict: Mapping[str, Any]) -> bytes:
    """A state dict as `safetensors.torch.save_model` stores it: shared tensors once, their other names as metadata."""
    kept, *dropped = sorted(name for name in state_dict if name.endswith(SHARED_TENSOR))
    stored = {name: to_numpy(name, value) for name, value in state_dict.items() if name not in dropped}
    metadata = {"format": "pt", **dict.fromkeys(dropped, kept)}
    return save_safetensors(stored, metadata=metadata)


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
