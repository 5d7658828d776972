"""Checks shared by frozen dataclasses of options: types, ranges and misspelt names, with one-line errors."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def require(condition: bool, what: str, name: str, value: Any, allowed: str) -> None:
    """Raises a ValueError that names the field, its value and what is allowed, unless the condition holds."""
    if not condition:
        raise ValueError(f"{what} field {name}={value!r} is not allowed: must be {allowed}")


def check_types(options: Any, what: str) -> None:
    """Raises a ValueError that names the first field of a dataclass whose value is not of its declared type."""
    declared = typing.get_type_hints(type(options))
    for field in dataclasses.fields(options):
        _check_type(what, field.name, getattr(options, field.name), declared[field.name])


def from_fields(kind: type[T], fields: Mapping[str, Any], what: str) -> T:
    """Builds a dataclass from fields by name. Lists are converted to tuples where needed, as JSON has no tuples.

    Raises:
        ValueError: a field is unknown (the message names the nearest known one), of the wrong type or out of range.
    """
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise ValueError(f"unknown {what} field {name!r}; did you mean {near[0]!r}?")
    declared = typing.get_type_hints(kind)
    return kind(
        **{
            name: tuple(value) if isinstance(value, list) and tuple in _kinds(declared[name]) else value
            for name, value in fields.items()
        }
    )


def _kinds(declared: Any) -> tuple[type, ...]:
    """The types that a declared type allows, without their type arguments."""
    allowed = typing.get_args(declared) if isinstance(declared, types.UnionType) else (declared,)
    return tuple(typing.get_origin(kind) or kind for kind in allowed)


def _check_type(what: str, name: str, value: Any, declared: Any) -> None:
    allowed = _kinds(declared)  # the items of a tuple are checked by the dataclass itself
    accepted = (*allowed, int) if float in allowed else allowed
    # In Python, bool is a subclass of int, but num_blocks=True is a mistake.
    mistaken_bool = isinstance(value, bool) and bool not in allowed
    names = " or ".join("None" if kind is type(None) else kind.__name__ for kind in allowed)
    require(isinstance(value, accepted) and not mistaken_bool, what, name, value, f"of type {names}")
