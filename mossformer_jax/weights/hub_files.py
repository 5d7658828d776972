"""Code that both hubs share: the listing of a repository, and the choice of the files that are needed."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from mossformer_jax.digests import sha256_of
from mossformer_jax.weights.folders import CONFIG_FILE, WEIGHTS_FILE, is_model_folder
from mossformer_jax.weights.torch_folders import PARTS, POINTERS, SUFFIXES, find

OFFLINE_VARIABLE = "HF_HUB_OFFLINE"
WHOLE = (WEIGHTS_FILE, *("pytorch_model" + suffix for suffix in SUFFIXES))


@dataclass(frozen=True)
class Listed:
    """A file as its hub lists it; None for values that the hub does not list."""

    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one revision.

    Attributes:
        revision: the commit, or a digest of the listing if the hub has no commits.
        files: by their path in the repository.
    """

    revision: str
    files: dict[str, Listed]


@runtime_checkable
class Hub(Protocol):
    """The operations of a hub. Errors are OSErrors (FileNotFoundError if something does not exist) of one line."""

    def list_files(self, repository: str, revision: str | None) -> Listing:
        """Lists a repository."""

    def fetch(self, repository: str, listing: Listing, name: str, folder: Path) -> None:
        """Puts a file into a folder, under its name."""

    def discard(self, name: str) -> None:
        """Removes a fetched file that differs from the listing from the cache of the hub's client."""


def is_offline() -> bool:
    """Whether the network must not be used."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().upper() in ("1", "ON", "YES", "TRUE")


def fetch_needed(hub: Hub, repository: str, listing: Listing, folder: Path) -> dict[str, Listed]:
    """Downloads the files that a model consists of, and checks their sizes and digests.

    Returns:
        The files, with their true sizes and digests.

    Raises:
        OSError: a download fails, or a file is not as listed.
        ValueError: the repository contains no model.
    """
    fetched: dict[str, Listed] = {}

    def fetch(name: str) -> None:
        listed, file = listing.files[name], folder / name
        found = _measure(file) if file.is_file() else None
        if found is None or _difference(found, listed) is not None:
            file.unlink(missing_ok=True)
            hub.fetch(repository, listing, name, folder)
            found = _measure(file)
            if difference := _difference(found, listed):
                file.unlink()
                hub.discard(name)
                raise OSError(f"{repository}: {name} {difference}; try again")
        fetched[name] = found

    files = {name for name in listing.files if "/" not in name and "\\" not in name}
    if CONFIG_FILE in files:
        fetch(CONFIG_FILE)
    if is_model_folder(folder):
        needed = [WEIGHTS_FILE]
    elif pointers := [name for name in POINTERS if name in files]:
        fetch(pointers[0])
        needed = _named_by(folder / pointers[0])
    else:
        needed = _checkpoint(files)
    missing = [name for name in needed if name not in files]
    if missing or not needed:
        what = f"no {missing[0]}" if missing else "neither a mossformer-jax model nor an official PyTorch checkpoint"
        raise ValueError(f"{repository}: the repository contains {what}; check the name")
    for name in needed:
        fetch(name)
    return fetched


def _named_by(pointer: Path) -> list[str]:
    """The file that a pointer file refers to; it is not there yet."""
    with contextlib.suppress(FileNotFoundError):  # the pointer is valid
        find(pointer)
    return [pointer.read_text(errors="replace").strip().partition("\n")[0].strip()]


def _checkpoint(files: set[str]) -> list[str]:
    """The files of the checkpoint, those without pickled data first; empty if there is none."""
    if whole := [name for name in WHOLE if name in files]:
        return whole[:1]
    for suffix in SUFFIXES:
        if all(part + suffix in files for part in PARTS):
            return [part + suffix for part in PARTS]
    others = sorted(name for name in files if Path(name).suffix in SUFFIXES)
    return others if len(others) == 1 else []


def _measure(file: Path) -> Listed:
    return Listed(file.stat().st_size, sha256_of(file))


def _difference(found: Listed, listed: Listed) -> str | None:
    """How a downloaded file differs from the listing; None if it does not."""
    if listed.size is not None and found.size != listed.size:
        return f"has {found.size:,} bytes, but the hub lists {listed.size:,}"
    if listed.sha256 is not None and found.sha256 != listed.sha256.lower():
        return "does not have the SHA-256 digest that the hub lists"
    return None
