"""Checks of the options that a config gives."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one."""
    return difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.0)[0]


def check_choice(option: str, value: object, allowed: Sequence[object]) -> None:
    """Checks that an option has one of its values.

    Raises:
        ValueError: it has another; all that are allowed are named.
    """
    if value not in allowed:
        raise ValueError(f"{option}={value!r} is not allowed: must be {' or '.join(map(repr, allowed))}")
