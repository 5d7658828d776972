"""Configs: config files with `get_config()`, command-line overrides, validation, and the copy saved in a run."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import math
import os
import runpy
import traceback
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mossformer_jax.atomic import write_atomically
from mossformer_jax.data.training_mixtures import option_names
from mossformer_jax.fields import check_types, from_fields, require
from mossformer_jax.training.overrides import apply_override, flatten
from mossformer_jax.training.recipe import Recipe

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from mossformer_jax.data.mixing import TrainingMixtures
    from mossformer_jax.data.records import MixtureSource
    from mossformer_jax.model import ModelConfig

SECTIONS = ("model", "data", "train")
# Model fields that may change when a run is resumed: the shapes and meaning of the weights do not depend on them.
TRAINING_FIELDS = ("dropout", "dtype", "remat", "shifts")
# Model fields that validation measures for the current weights.
MEASURED_FIELDS = ("output_gains",)
_PACKAGE = Path(__file__).parents[1]
# The wheel contains the repository's configs/ inside the package; in a clone they are next to the package.
_SHIPPED_CONFIGS = next(
    (folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir()), _PACKAGE / "configs"
)


_DATA = "config.data"
_PARTS = ("train", "validation", "test")
_SHARED = ("num_sources", "sample_rate")
# Seconds of audio in a batch: 8 GB at 8 kHz.
_MOST_SECONDS = 250_000


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The fields of `config.data`.

    Attributes:
        batch_size: mixtures per optimizer step, over all devices.
        seconds: length of a training crop in seconds.
        train: options of the training data, with a `corpus` or a `layout` (`open_training_mixtures`).
        validation: options of the validation data, with a `layout` (`open_mixtures`).
        test: options of the test data; only `evaluate` reads them.
        root: a folder that the sections refer to; it has no effect of its own.
        seed: seed of the training batches.
        num_workers: number of processes that read the data; with 0, threads of the training process read them.
        max_failed_share: allowed number of unreadable files or mixtures, as a fraction of the mixtures per epoch.
        on_device: whether dynamic mixing runs on the devices, from recordings held in their memory.

    Raises:
        ValueError: a field is missing or out of range; the message names it.
    """

    batch_size: int = 1
    seconds: float = 4.0
    train: dict[str, Any] = dataclasses.field(default_factory=dict)
    validation: dict[str, Any] = dataclasses.field(default_factory=dict)
    test: dict[str, Any] | None = None
    root: str | None = None
    seed: int = 0
    num_workers: int = 0
    max_failed_share: float = 0.001
    on_device: bool = False

    def __post_init__(self) -> None:
        for part in ("train", "validation"):
            options = getattr(self, part)
            require(bool(options), _DATA, part, options or None, "a section (see docs/data.md)")
        check_types(self, _DATA)
        require(self.batch_size >= 1, _DATA, "batch_size", self.batch_size, "1 or more")
        require(self.batch_size <= 2**20, _DATA, "batch_size", self.batch_size, f"at most {2**20:,}")
        require(0 < self.seconds < math.inf, _DATA, "seconds", self.seconds, "above 0")
        most = f"at most {_MOST_SECONDS:,} for batch_size={self.batch_size} together"
        require(self.seconds * self.batch_size <= _MOST_SECONDS, _DATA, "seconds", self.seconds, most)
        require(0 <= self.seed < 2**32, _DATA, "seed", self.seed, "from 0 to 2**32 - 1")
        require(self.num_workers >= 0, _DATA, "num_workers", self.num_workers, "0 or more")
        require(self.num_workers <= 1024, _DATA, "num_workers", self.num_workers, "at most 1024")
        require(0 <= self.max_failed_share <= 1, _DATA, "max_failed_share", self.max_failed_share, "from 0 to 1")


def section(options: Any) -> ConfigDict:
    """Converts a frozen dataclass of options (`ModelConfig`, `Recipe`) to a config section with overridable fields.

    A field that may be None also accepts values of its other type.
    """
    from ml_collections import ConfigDict, config_dict

    declared = typing.get_type_hints(type(options))
    part = ConfigDict()
    for field in dataclasses.fields(options):
        value, kinds = getattr(options, field.name), declared[field.name]
        if isinstance(kinds, types.UnionType):
            (kind,) = (kind for kind in typing.get_args(kinds) if kind is not type(None))
            part[field.name] = config_dict.placeholder(typing.get_origin(kind) or kind)
        if value is not None:
            part[field.name] = value
    return part


def load_config(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Reads a config file.

    Args:
        path: the name of a shipped config ("libri2mix"), or a Python file with a function `get_config()` that returns
            an `ml_collections.ConfigDict`. "CONFIG:NAME" selects a variant, `get_config(NAME=True)`.
        overrides: fields to change, such as "--config.data.root=/data/Libri2Mix"; "None" sets a field to None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: `ml_collections` is not installed, the file has no `get_config()` or no such variant, it raises an
            exception, or an override has an unknown field (the closest one is suggested) or a value of the wrong type.
    """
    try:
        from ml_collections import ConfigDict
    except ImportError as error:
        raise ValueError("configs need ml_collections; run: pip install 'mossformer-jax[train]'") from error
    file, variant = path, ""
    if not Path(path).is_file() and ":" in path:
        file, _, variant = path.rpartition(":")
    try:
        file = _config_file(file)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: {error}") from None
    try:
        get_config = runpy.run_path(file).get("get_config")
        variants = inspect.signature(get_config).parameters if get_config else {}
        config = get_config(**{name: True for name in [variant] if name in variants}) if get_config else None
    except Exception as error:  # a Python file may raise any exception
        raise ValueError(f"{_place(file, error)}: {' '.join(str(error).split())} ({type(error).__name__})") from error
    if not isinstance(config, ConfigDict):
        raise ValueError(f"{file}: has no function get_config() returning a ConfigDict; see {_SHIPPED_CONFIGS}")
    if variant and variant not in variants:
        known = ", ".join(variants)
        hint = f"must be one of {known}" if known else "give the file without a variant"
        raise ValueError(f"{file}: has no variant {variant!r}; {hint}")
    for override in overrides:
        apply_override(config, override)
    _follow_model(config)
    return config


def _follow_model(config: ConfigDict) -> None:
    """Lets sections of data that do not set their sample rate or number of sources have those of the model."""
    from ml_collections import ConfigDict

    if not isinstance(model := config.get("model"), ConfigDict) or not isinstance(
        data := config.get("data"), ConfigDict
    ):
        return
    for part in _PARTS:
        if not isinstance(options := data.get(part), ConfigDict):
            continue
        # A field of the model without a value is reported when the model is made.
        missing = [name for name in _SHARED if name not in options and model.get(name) is not None]
        known = option_names(options.to_dict(), part == "train") if missing else ()
        with options.unlocked():
            options.update({name: model.get_oneway_ref(name) for name in missing if name in known})


def _config_file(name: str) -> str:
    """The file of a config: `name` itself, or the shipped config with that name."""
    if Path(name).is_file():
        return name
    if name and Path(name).name == name and (shipped := _SHIPPED_CONFIGS / f"{name}.py").is_file():
        return str(shipped)
    known = sorted(path.stem for path in _SHIPPED_CONFIGS.glob("*.py"))
    near = difflib.get_close_matches(Path(name).stem, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise FileNotFoundError(f"no such config file, nor a shipped config ({', '.join(known)}){hint}")


def resolve(config: ConfigDict) -> tuple[ModelConfig, Recipe, DataConfig]:
    """Checks a whole config before data are opened or programs compiled.

    Returns:
        `config.model`, `config.train`, and `config.data` with all its fields. The contents of its train, validation and
        test sections are checked later, by `open_training_mixtures` and `open_mixtures`.

    Raises:
        ValueError: a section or a field is unknown or missing, of the wrong type or out of range, or two fields
            contradict each other; the message names them.
    """
    from mossformer_jax.model import ModelConfig

    fields = config.to_dict()
    if set(fields) != set(SECTIONS) or not all(isinstance(part, dict) for part in fields.values()):
        given = ", ".join(fields) or "no sections"
        raise ValueError(f"a config must have the sections {', '.join(SECTIONS)}, but this one has {given}")
    model, recipe = ModelConfig.from_dict(fields["model"]), Recipe.from_dict(fields["train"])
    data = from_fields(DataConfig, fields["data"], _DATA)
    multiple = f"a multiple of config.train.accumulation={recipe.accumulation}"
    require(data.batch_size % recipe.accumulation == 0, _DATA, "batch_size", data.batch_size, multiple)
    one_sample = f"at least one sample at {model.sample_rate} Hz"
    require(round(data.seconds * model.sample_rate) >= 1, _DATA, "seconds", data.seconds, one_sample)
    for part in _PARTS:
        options = getattr(data, part) or {}
        # mix_single has one source, whatever num_sources is.
        names = _SHARED[1:] if str(options.get("task")).startswith("mix_single") else _SHARED
        _check_agreement(model, part, {name: options[name] for name in names if name in options})
    return model, recipe, data


def check_mixtures(model: ModelConfig, mixtures: TrainingMixtures | MixtureSource, part: str) -> None:
    """Checks that mixtures match the model.

    Args:
        model: `config.model`.
        mixtures: the opened mixtures.
        part: their section of `config.data`: train, validation or test.

    Raises:
        ValueError: their number of sources or sample rate differs from the model's.
    """
    _check_agreement(model, part, {name: getattr(mixtures, name) for name in _SHARED})


def save_config(path: str | os.PathLike[str], config: ConfigDict) -> None:
    """Writes a config as JSON, atomically; references are resolved, tuples become lists."""
    write_atomically(Path(path), (json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n").encode())


def read_saved_config(path: str | os.PathLike[str]) -> ConfigDict:
    """Reads a config written by `save_config`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a config in JSON.
    """
    from ml_collections import ConfigDict

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; give the folder of a training run")
    try:
        fields = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: is damaged ({error}); train again in a new folder") from error
    if not isinstance(fields, dict) or not set(SECTIONS) <= set(fields):
        raise ValueError(
            f"{path}: is not the config of a training run, which has the sections {', '.join(SECTIONS)}; give the "
            "folder of a training run"
        )
    return ConfigDict(fields)


def changed_fields(saved: ConfigDict, given: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """The differences between two configs.

    Returns:
        For each field that differs, by dotted name, the values in `saved` and `given`. A missing field counts as None,
        a tuple as a list.
    """
    before, after = (dict(flatten(json.loads(json.dumps(config.to_dict())))) for config in (saved, given))
    names = sorted(before | after)
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _place(file: str, error: Exception) -> str:
    """The file and the line in it where the error occurred."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError):
        lines.append(error.lineno)
    return f"{file}, line {lines[-1]}" if lines else file


def _check_agreement(model: ModelConfig, part: str, found: Mapping[str, Any]) -> None:
    for name, value in found.items():
        wanted = getattr(model, name)
        if value != wanted:
            raise ValueError(f"config.data.{part} has {name}={value}, but config.model has {wanted}; make them equal")
