"""Config files: `get_config()` in a Python file, with overrides as on the command line of train.py."""

from __future__ import annotations

import dataclasses
import runpy
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_collections import ConfigDict


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
        path: a Python file with a function `get_config()` that gives an `ml_collections.ConfigDict`.
        overrides: fields to change, each as "--config.data.train.root=/speech".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: `ml_collections` is not installed, the file has no `get_config()`, or an override names no field
            (the nearest one is named) or has a value of another type.
    """
    try:
        from absl import flags
        from ml_collections.config_flags import config_flags
    except ImportError as error:
        raise ValueError("configs need ml_collections; run: pip install 'mossformer-jax[train]'") from error
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such config file; see the files in configs/")
    names = runpy.run_path(path)
    if "get_config" not in names:
        raise ValueError(f"{path}: has no function get_config(); see the files in configs/")
    config = names["get_config"]()
    arguments = ["mossformer-jax", *overrides]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
        _, *unknown = values(arguments)
    except (flags.Error, config_flags.UnsupportedOperationError, AttributeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: an override does not fit its fields: {reason}") from error
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no override; write them as --config.data.train.root=/speech")
    return config
