"""Checks of the data options of a config."""

from __future__ import annotations

import difflib
import inspect
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mossformer_jax.fields import MAX_SAMPLE_RATE, check_size

# Declared types, as annotations are written, and what they accept.
_NUMBERS = {"int": (numbers.Integral, "a whole number"), "float": (numbers.Real, "a number")}


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name closest to this one."""
    return difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.0)[0]


def check_choice(option: str, value: object, allowed: Sequence[object]) -> None:
    """Checks that an option has an allowed value.

    Raises:
        ValueError: it has not; the message lists the allowed values.
    """
    if value not in allowed:
        raise ValueError(f"{option}={value!r} is not allowed: must be {' or '.join(map(repr, allowed))}")


def call_with_options(build: Callable[..., Any], what: str, options: dict[str, Any]) -> Any:
    """Calls `build` with options of a config.

    Raises:
        ValueError: an option is unknown, missing, of the wrong type or too large.
    """
    parameters = inspect.signature(build).parameters
    for option in options:
        if option not in parameters:
            raise ValueError(
                f"{what} has no option {option!r}; did you mean {nearest(option, parameters)!r}? "
                f"All: {', '.join(parameters)}"
            )
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in options:
            raise ValueError(f"{what} needs the option {name!r}; add it to the config")
    for name, value in options.items():
        check_size(f"{what}: {name}", value)
        _check_number(f"{what}: {name}", value, str(parameters[name].annotation))
        if name == "sample_rate" and isinstance(value, int) and value > MAX_SAMPLE_RATE:
            raise ValueError(f"sample_rate={value} is not allowed for {what}: must be at most {MAX_SAMPLE_RATE:,} Hz")
    try:
        return build(**options)
    except (TypeError, AttributeError, OverflowError) as error:  # a value of the wrong type
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise ValueError(f"{what} does not accept {given} ({error}); fix the types in the config") from error


def _check_number(what: str, value: object, declared: str) -> None:
    """Checks the type of a number, which may fail much later otherwise: 2.0 passes for 2 in most comparisons."""
    kind = declared.removesuffix(" | None")
    if kind not in _NUMBERS or (value is None and kind != declared):
        return
    wanted, name = _NUMBERS[kind]
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise ValueError(f"{what}={value!r} is not allowed: must be {name}{', or None' if kind != declared else ''}")
