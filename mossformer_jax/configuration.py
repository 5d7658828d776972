"""Config files: `get_config()` in a Python file, with overrides as on the command line of train.py."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import runpy
import traceback
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_collections import ConfigDict

_WANTED = {int: "a whole number", float: "a number", bool: "True or False"}


def section(options: Any) -> ConfigDict:
    """A frozen dataclass of options (`ModelConfig`, `Recipe`) as a part of a config, so that each can be overridden.

    A field that may be None is one that takes a value of its other type, too.
    """
    from ml_collections import ConfigDict, config_dict

    declared = typing.get_type_hints(type(options))
    part = ConfigDict()
    for field in dataclasses.fields(options):
        value, kinds = getattr(options, field.name), declared[field.name]
        if isinstance(kinds, types.UnionType):
            (kind,) = (kind for kind in typing.get_args(kinds) if kind is not type(None))
            part[field.name] = config_dict.placeholder(kind)
        if value is not None:
            part[field.name] = value
    return part


def load_config(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Reads a config file.

    Args:
        path: a Python file with a function `get_config()` that gives an `ml_collections.ConfigDict`. "FILE:NAME" asks
            for a variant: `get_config(NAME=True)`.
        overrides: fields to change, each as "--config.data.root=/data/Libri2Mix"; "None" is no value.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: `ml_collections` is not installed, the file has no `get_config()` or no such variant, it fails, or
            an override names no field (the nearest one is named) or has a value of another type.
    """
    try:
        import ml_collections  # noqa: F401  (the config file needs it)
    except ImportError as error:
        raise ValueError("configs need ml_collections; run: pip install 'mossformer-jax[train]'") from error
    file, variant = path, ""
    if not Path(path).is_file() and ":" in path:
        file, _, variant = path.rpartition(":")
    if not Path(file).is_file():
        raise FileNotFoundError(f"{path}: no such config file; see the files in configs/")
    try:
        get_config = runpy.run_path(file).get("get_config")
        variants = inspect.signature(get_config).parameters if get_config else {}
        config = get_config(**{name: True for name in [variant] if name in variants}) if get_config else None
    except Exception as error:  # whatever a Python file may raise
        raise ValueError(f"{_place(file, error)}: {' '.join(str(error).split())} ({type(error).__name__})") from error
    if config is None:
        raise ValueError(f"{file}: has no function get_config() that gives a config; see the files in configs/")
    if variant and variant not in variants:
        known = ", ".join(variants)
        raise ValueError(f"{file}: has no variant {variant!r}; {f'it has {known}' if known else 'give the file alone'}")
    for override in overrides:
        _apply(config, override)
    return config


def _place(file: str, error: Exception) -> str:
    """The file and the last line in it on the way to the error."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError):
        lines.append(error.lineno)
    return f"{file}, line {lines[-1]}" if lines else file


def _apply(config: ConfigDict, override: str) -> None:
    """Sets a field, which must exist, to a value of the type it has."""
    from ml_collections import ConfigDict

    name, equals, text = override.removeprefix("--config.").partition("=")
    if not override.startswith("--config.") or not equals:
        raise ValueError(f"{override!r} is no override; write them as --config.data.root=/data/Libri2Mix")
    known = dict(_flatten(config.to_dict()))
    if name not in known:
        near = " or ".join(f"--config.{field}" for field in _nearest(name, known))
        raise ValueError(f"--config.{name}: no such field; did you mean {near}?")
    holder: Any = config
    *parents, leaf = name.split(".")
    for parent in parents:
        holder = holder[parent]
    assert isinstance(holder, ConfigDict)
    kind = holder.get_type(leaf)
    try:
        holder[leaf] = None if text == "None" else _parse(text, kind, known[name])
    except (ValueError, TypeError) as error:
        wanted = _WANTED.get(kind, f"a {kind.__name__}, as {known[name]!r}")
        raise ValueError(f"--config.{name}={text}: must be {wanted}") from error


def _nearest(name: str, known: Collection[str]) -> list[str]:
    """Up to three fields that may have been meant: those of this name in other sections, then those that look alike."""
    leaf = name.rpartition(".")[2]
    likeness = {field: difflib.SequenceMatcher(None, name, field).ratio() for field in known}
    return sorted(known, key=lambda field: (field.rpartition(".")[2] != leaf, -likeness[field]))[:3]


def _parse(text: str, kind: type, now: Any) -> Any:
    """A value of that kind, which stands for the one that the field has now; ValueError if the text is none."""
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if kind in (int, float, str):
        return kind(text)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if kind is not tuple:
        return value
    if not isinstance(value, tuple | list):
        value = tuple(value.split(",")) if isinstance(value, str) else (value,)
    if now and not {type(item) for item in value} <= {type(item) for item in now}:
        raise ValueError
    return tuple(value)


def _flatten(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values."""
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
