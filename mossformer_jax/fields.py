"""Checks that frozen dataclasses of options share: types, ranges and misspelt names, each said in one line."""

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
    """Makes a dataclass of fields by name; JSON has no tuples, and lists where they belong become some.

    Raises:
        ValueError: a field is unknown (the nearest known one is named), of the wrong type or out of range.
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
    """The types that a declared one allows, without what is in them."""
    allowed = typing.get_args(declared) if isinstance(declared, types.UnionType) else (declared,)
    return tuple(typing.get_origin(kind) or kind for kind in allowed)


def _check_type(what: str, name: str, value: Any, declared: Any) -> None:
    allowed = _kinds(declared)  # what is in a tuple is for the dataclass itself to check
    accepted = (*allowed, int) if float in allowed else allowed
    # bool is an int to Python, but num_blocks=True is a mistake.
    mistaken_bool = isinstance(value, bool) and bool not in allowed
    names = " or ".join("None" if kind is type(None) else kind.__name__ for kind in allowed)
    require(isinstance(value, accepted) and not mistaken_bool, what, name, value, f"of type {names}")
