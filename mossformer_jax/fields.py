"""Checks shared by frozen dataclasses of options: types, ranges and misspelt names, with one-line errors."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

# No option is larger. Without a bound, a mistyped number would take all memory, or loop for ever, before an error.
LARGEST_INT = 2**32
LARGEST_FLOAT = 1e12
# The range of sample rates of audio, in Hz. Other rates come from damaged headers and typing errors.
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 100, 1_000_000


def require(condition: bool, what: str, name: str, value: Any, allowed: str) -> None:
    """Raises a ValueError that names the field, its value and what is allowed, unless the condition holds."""
    if not condition:
        raise ValueError(f"{what} field {name}={value!r} is not allowed: must be {allowed}")


def check_types(options: Any, what: str) -> None:
    """Raises a ValueError that names the first field of a dataclass of another type than declared, or too large."""
    declared = typing.get_type_hints(type(options))
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        _check_type(what, field.name, value, declared[field.name])
        check_size(f"{what} field {field.name}", value)


def check_size(what: str, value: Any) -> None:
    """Raises a ValueError if a number, or one inside a tuple, list or dict, is too large. Infinity and NaN are allowed.

    Args:
        what: the option, for the error.
        value: its value, of any type.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            check_size(f"{what}.{name}", item)
    elif isinstance(value, tuple | list):
        for item in value:
            check_size(what, item)
    elif isinstance(value, int) and abs(value) > LARGEST_INT:
        raise ValueError(f"{what}={_shown(value)} is not allowed: must be at most {LARGEST_INT:,}")
    elif isinstance(value, float) and LARGEST_FLOAT < abs(value) < math.inf:
        raise ValueError(f"{what}={value:g} is not allowed: must be at most {LARGEST_FLOAT:g}")


def _shown(value: int) -> str:
    """A whole number, shortened: Python refuses to write very long ones."""
    return str(value) if abs(value) < 10**40 else f"a number of {value.bit_length()} bits"


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
