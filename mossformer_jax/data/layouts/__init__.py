"""The common data set layouts, read into one record."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from mossformer_jax.data.layouts.files import FileMixtures, MixtureFiles
from mossformer_jax.data.layouts.options import call_with_options, nearest
from mossformer_jax.data.records import MixtureSource

__all__ = ["LAYOUTS", "FileMixtures", "MixtureFiles", "layout_opener", "layout_options", "open_mixtures"]

# Imported by name when used, so that a layout's dependencies (TFDS) are needed only for that layout.
LAYOUTS = {
    "librimix": "mossformer_jax.data.layouts.trees:librimix",
    "wsj0mix": "mossformer_jax.data.layouts.trees:wsj0mix",
    "wham": "mossformer_jax.data.layouts.trees:wham",
    "whamr": "mossformer_jax.data.layouts.trees:whamr",
    "folders": "mossformer_jax.data.layouts.trees:folders",
    "scp": "mossformer_jax.data.layouts.lists:scp_list",
    "csv": "mossformer_jax.data.layouts.lists:csv_table",
    "librispeech_mix": "mossformer_jax.data.librispeech_mix:LibriSpeechMixtures",
    "tfds": "mossformer_jax.data.libri2mix:TfdsMixtures",
    "demo": "mossformer_jax.data.demo:DemoMixtures",
}


def open_mixtures(layout: str | None = None, **options: Any) -> MixtureSource:
    """Opens a data set of mixtures and checks that its folders exist.

    Args:
        layout: the layout of the files on disk, one of `LAYOUTS`. It is required.
        **options: options of the layout; see the function or class that `LAYOUTS` names.

    Returns:
        Random access to the mixtures.

    Raises:
        ValueError: the layout or an option is missing or unknown (the closest known one is suggested), an option has a
            value that is not allowed, or the data set is empty or inconsistent.
        FileNotFoundError: a folder or list is missing; the message names it and explains how to get it.
    """
    if layout is None:
        given = ", ".join(options) or "no options"
        raise ValueError(f"mixtures with {given} need a layout; set it to one of {', '.join(LAYOUTS)}")
    if not isinstance(layout, str) or layout not in LAYOUTS:
        raise ValueError(f"no layout {layout!r}; did you mean {nearest(layout, LAYOUTS)!r}? All: {', '.join(LAYOUTS)}")
    return call_with_options(layout_opener(layout), f"layout {layout!r}", options)


def layout_options(layout: str) -> tuple[str, ...]:
    """The options of a layout.

    Raises:
        ValueError: the layout needs a package that is not installed.
    """
    return tuple(inspect.signature(layout_opener(layout)).parameters)


def layout_opener(layout: str) -> Callable[..., MixtureSource]:
    """The function or class that opens a layout.

    Raises:
        ValueError: the layout needs a package that is not installed.
    """
    try:
        return pkgutil.resolve_name(LAYOUTS[layout])
    except ImportError as error:
        raise ValueError(f"layout {layout!r} needs {error.name}; run: pip install 'mossformer-jax[train]'") from error
