"""Overrides of config fields on the command line, such as --config.train.lr=1e-4."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mossformer_jax.data.training_mixtures import ACOUSTICS, option_names

if TYPE_CHECKING:
    from ml_collections import ConfigDict

_WANTED = {int: "a whole number", float: "a number", bool: "True or False"}


def apply_override(config: ConfigDict, override: str) -> None:
    """Applies an override to a config.

    The value must have the type of the field. Options of a corpus, a layout or the mixing need not be in the config.

    Raises:
        ValueError: the field is unknown (close ones are suggested, or all options of a section of data are listed), or
            the value has the wrong type.
    """
    from ml_collections import ConfigDict

    name, equals, text = override.removeprefix("--config.").partition("=")
    if not override.startswith("--config.") or not equals:
        raise ValueError(f"{override!r} is not an override; write overrides as --config.data.root=/data/Libri2Mix")
    known = dict(flatten(config.to_dict()))
    if name not in known:
        section = _data_section(config, name)
        if section is not None and section.accepts(name):
            _set_option(config, name, text)
            return
        options = section.options if section else ()
        near = " or ".join(f"--config.{field}" for field in _nearest(name, {*known, *options}))
        every = f" All options there: {', '.join(option.rpartition('.')[2] for option in options)}" if options else ""
        raise ValueError(f"--config.{name}: no such field; did you mean {near}?{every}")
    holder: Any = config
    *parents, leaf = name.split(".")
    for parent in parents:
        holder = holder[parent]
    assert isinstance(holder, ConfigDict)
    kind = holder.get_type(leaf)
    try:
        holder[leaf] = None if text == "None" else _parse(text, kind, known[name])
    except (ValueError, TypeError) as error:
        wanted = _WANTED.get(kind, f"a {kind.__name__}, such as {known[name]!r}")
        raise ValueError(f"--config.{name}={text}: must be {wanted}") from error


@dataclass(frozen=True)
class _Section:
    """A section of data: its name ("data.train"), and the dotted names of all options that it may have."""

    name: str
    options: tuple[str, ...]

    def accepts(self, field: str) -> bool:
        """Whether a field is one of the options, or a field of one that is a section itself, such as babble.share."""
        option, _, rest = field.removeprefix(f"{self.name}.").partition(".")
        return f"{self.name}.{option}" in self.options and (not rest or (option in ACOUSTICS and "." not in rest))


def _data_section(config: ConfigDict, field: str) -> _Section | None:
    """The section of data that a field is in; None for other fields."""
    from ml_collections import ConfigDict

    data, part, *_ = [*field.split("."), ""]
    options = config.get(data, {}).get(part) if data == "data" else None
    if not isinstance(options, ConfigDict):
        return None
    name = f"{data}.{part}"
    return _Section(name, tuple(f"{name}.{option}" for option in option_names(options.to_dict(), part == "train")))


def _set_option(config: ConfigDict, name: str, text: str) -> None:
    """Sets an option of data that the config does not have. Its type is checked when the data are opened."""
    from ml_collections import ConfigDict

    holder: Any = config
    *parents, leaf = name.split(".")
    with config.unlocked():
        for depth, parent in enumerate(parents, 1):
            if parent not in holder:
                holder[parent] = ConfigDict()
            holder = holder[parent]
            if not isinstance(holder, ConfigDict):
                section = ".".join(parents[:depth])
                raise ValueError(f"--config.{name}={text}: --config.{section} is {holder!r}, which has no fields")
        try:
            holder[leaf] = _literal(text)
        except ValueError as error:  # ml_collections refuses some dicts, for example if a key has a dot
            raise ValueError(f"--config.{name}={text}: {error}") from error


def _literal(text: str) -> Any:
    """The value of a Python literal; other text, such as a path, is a string."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    # TypeError: a key that is a list, for example. MemoryError, RecursionError: thousands of brackets or signs.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _nearest(name: str, known: Collection[str]) -> list[str]:
    """Up to three suggestions: fields with this name in other sections, then fields with similar names."""
    leaf = name.rpartition(".")[2]
    likeness = {field: difflib.SequenceMatcher(None, name, field).ratio() for field in known}
    return sorted(known, key=lambda field: (field.rpartition(".")[2] != leaf, -likeness[field]))[:3]


def _parse(text: str, kind: type, now: Any) -> Any:
    """Parses a value of a type. Items of a tuple must have the types of the current items; otherwise a ValueError."""
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if kind in (int, float, str):
        return kind(text)
    value = _literal(text)
    if kind is not tuple:
        return value
    if not isinstance(value, tuple | list):
        value = tuple(value.split(",")) if isinstance(value, str) else (value,)
    if now and not {type(item) for item in value} <= {type(item) for item in now}:
        raise ValueError
    return tuple(value)


def flatten(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values."""
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
