"""A config as text: every field as it would be overridden, with its description from the docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mossformer_jax.data.training_mixtures import documented_by, option_names
from mossformer_jax.model import ModelConfig
from mossformer_jax.training.configuration import DataConfig
from mossformer_jax.training.overrides import flatten
from mossformer_jax.training.recipe import Recipe

if TYPE_CHECKING:
    from ml_collections import ConfigDict

_WIDTH = 60


def config_lines(config: ConfigDict) -> Iterator[str]:
    """The fields of a config, one line each, and for a section of data a line with the options that are not set."""
    fields = config.to_dict()
    for section, documented in (("model", ModelConfig), ("train", Recipe)):
        yield from _lines(f"--config.{section}", fields.get(section, {}), descriptions(documented))
    data = dict(fields.get("data", {}))
    parts = {name: data.pop(name) for name in ("train", "validation", "test") if isinstance(data.get(name), dict)}
    yield from _lines("--config.data", data, descriptions(DataConfig))
    for name, options in parts.items():
        training = name == "train"
        known = descriptions(*documented_by(options, training))
        yield from _lines(f"--config.data.{name}", options, known)
        unset = [option for option in option_names(options, training) if option not in options]
        if unset:
            yield f"# not set in data.{name}: {', '.join(unset)}"


def descriptions(*documented: Any) -> dict[str, str]:
    """The first sentences of the attributes and arguments in Google-style docstrings, by name."""
    found: dict[str, str] = {}
    for each in documented:
        for text in filter(None, (inspect.getdoc(each), inspect.getdoc(getattr(each, "__init__", None)))):
            for section in re.findall(r"^(?:Attributes|Args):\n((?:[ ]{4}.*\n?|\n)+)", text, flags=re.MULTILINE):
                for name, described in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, flags=re.MULTILINE):
                    sentence = re.split(r"(?<=[a-z0-9)\"`])\. ", " ".join(described.split()))[0]
                    found.setdefault(name, sentence.rstrip("."))
    return found


def _lines(prefix: str, fields: dict[str, Any], known: dict[str, str]) -> Iterator[str]:
    for name, value in flatten(fields):
        text = f"{prefix}.{name}={value}"
        described = known.get(name) or known.get(name.rpartition(".")[2], "")
        yield f"{text:{_WIDTH}}  # {described}" if described else text
