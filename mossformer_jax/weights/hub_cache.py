"""The cache of models from the hubs: one folder per repository and revision, complete or absent.

models/HUB--OWNER--NAME/
refs.json           which revision was meant by "main", by a tag, or by no revision
REVISION/           a model folder, with source.json: where it came from, sizes and digests
download/           an unfinished download, which the next start continues
.lock, .new-PID     held and written by the process that adds a revision
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from mossformer_jax.atomic import write_atomically
from mossformer_jax.digests import sha256_of
from mossformer_jax.locks import locked
from mossformer_jax.weights.folders import WEIGHTS_FILE, is_model_folder

CACHE_VARIABLE = "MOSSFORMER_JAX_CACHE"
SOURCE_FILE = "source.json"


def cache_folder() -> Path:
    """The folder of all models from the hubs; `MOSSFORMER_JAX_CACHE` names another cache folder than the user's."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("mossformer-jax")) / "models"


@dataclass(frozen=True)
class CachedRepository:
    """The cache of one repository.

    Attributes:
        hub: "huggingface" or "modelscope".
        repository: "owner/name".
    """

    hub: str
    repository: str

    @property
    def folder(self) -> Path:
        """The folder with all its revisions."""
        return cache_folder() / "--".join((self.hub, *self.repository.split("/")))

    def find(self, revision: str | None) -> Path | None:
        """The model folder that was meant by a revision before, if it is complete."""
        name = self._refs().get(revision or "", revision)
        if not name or _safe(name) != name:
            return None
        model = self.folder / name
        source = read_source(model)
        if source is None or source.get("repository") != self.repository or not is_model_folder(model):
            return None
        weights = model / WEIGHTS_FILE
        size = source.get("weights", {}).get("size")
        return model if weights.is_file() and weights.stat().st_size == size else None

    def find_resolved(self, resolved: str, revision: str | None) -> Path | None:
        """The model folder of a resolved revision; from then on it is what `revision` means."""
        model = self.find(_safe(resolved))
        if model is not None:
            self._add_ref(revision, model.name)
        return model

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Waits until no other process adds a revision, and removes what an interrupted one has left.

        Without locks (Windows), two processes may both download, but each adds its revision by one rename.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file, locked(file.fileno()) as held:
            if held:
                for leftover in self.folder.glob(".new-*"):
                    shutil.rmtree(leftover, ignore_errors=True)
            yield

    def download_folder(self, resolved: str) -> Path:
        """Where the files are downloaded to: named as the repository, and kept if the process is interrupted."""
        downloads = self.folder / "download"
        wanted = downloads / _safe(resolved)
        for other in downloads.glob("*"):
            if other != wanted:
                shutil.rmtree(other, ignore_errors=True)
        folder = wanted / self.repository.split("/")[1]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def new_model(self) -> Iterator[Path]:
        """An empty folder for a new model, removed at the end unless `add` has moved it."""
        folder = self.folder / f".new-{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, new: Path, resolved: str, revision: str | None, source: dict[str, Any]) -> Path:
        """Moves a complete model folder to its revision, with a record of its source."""
        weights = new / WEIGHTS_FILE
        record = {
            "hub": self.hub,
            "repository": self.repository,
            "revision": resolved,
            **source,
            "weights": {"size": weights.stat().st_size, "sha256": sha256_of(weights)},
        }
        write_atomically(new / SOURCE_FILE, (json.dumps(record, indent=2) + "\n").encode())
        model = self.folder / _safe(resolved)
        if model.exists():  # incomplete or damaged, or `find` had returned it
            shutil.rmtree(model)
        os.replace(new, model)
        self._add_ref(revision, model.name)
        shutil.rmtree(self.folder / "download", ignore_errors=True)
        return model

    def _refs(self) -> dict[str, str]:
        try:
            refs = json.loads((self.folder / "refs.json").read_text())
        except (OSError, ValueError):
            return {}
        return {key: value for key, value in refs.items() if isinstance(value, str)} if isinstance(refs, dict) else {}

    def _add_ref(self, revision: str | None, name: str) -> None:
        refs = {**self._refs(), revision or "": name}
        write_atomically(self.folder / "refs.json", (json.dumps(refs, indent=2) + "\n").encode())


def read_source(model: Path) -> dict[str, Any] | None:
    """The record of where a cached model came from; None if there is none."""
    try:
        source = json.loads((model / SOURCE_FILE).read_text())
    except (OSError, ValueError):
        return None
    return source if isinstance(source, dict) and isinstance(source.get("weights"), dict) else None


def cached_models() -> list[tuple[Path, dict[str, Any]]]:
    """The folders of all complete cached models, and where they came from."""
    models = []
    for folder in sorted(cache_folder().glob("*--*--*/*")):
        source = read_source(folder)
        if source is not None and is_model_folder(folder):
            models.append((folder, source))
    return models


def _safe(revision: str) -> str:
    """A revision as the name of a folder."""
    return re.sub(r"[^\w.-]", "_", revision, flags=re.ASCII).lstrip(".") or "_"
