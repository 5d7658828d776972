"""ModelScope's hub, by its HTTP interface for files. Public repositories only; no package is needed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode

from mossformer_jax.weights.hub_download import download_file, open_url
from mossformer_jax.weights.hub_files import OFFLINE_VARIABLE, Listed, Listing, is_offline

ENDPOINT_VARIABLE, DEFAULT_ENDPOINT = "MODELSCOPE_ENDPOINT", "https://modelscope.cn"
_MAX_LISTING_BYTES = 2**24


class ModelScope:
    """ModelScope's hub at `MODELSCOPE_ENDPOINT`."""

    def __init__(self, text: str):
        """Takes the name that the user gave, for messages."""
        self._text = text
        endpoint = os.environ.get(ENDPOINT_VARIABLE) or DEFAULT_ENDPOINT
        self._endpoint = (endpoint if "://" in endpoint else f"https://{endpoint}").rstrip("/")

    def list_files(self, repository: str, revision: str | None) -> Listing:
        """Lists a repository. The listing's revision includes a digest of the listing, since branches move."""
        if is_offline():
            raise FileNotFoundError(f"{self._text}: is not in the cache, and {OFFLINE_VARIABLE} is set; run it online")
        branch = revision or "master"
        url = self._url(repository, "repo/files", Revision=branch, Recursive="True")
        with self._translated("the list of its files"), open_url(url, {}) as response:
            answer = json.loads(response.read(_MAX_LISTING_BYTES))
        files = _files_of(answer)
        if files is None:
            raise OSError(f"{self._text}: {self._endpoint} does not answer with a list of files; check the address")
        pin = hashlib.sha256(
            json.dumps({name: file.sha256 for name, file in sorted(files.items())}).encode()
        ).hexdigest()
        return Listing(f"{branch}-{pin[:12]}", files)

    def fetch(self, repository: str, listing: Listing, name: str, folder: Path) -> None:
        """Downloads a file; an interrupted download is continued."""
        branch = listing.revision.rpartition("-")[0]
        url = self._url(repository, "repo", Revision=branch, FilePath=name)
        with self._translated(name):
            download_file(url, folder / name, listing.files[name].size)

    def discard(self, name: str) -> None:
        """Nothing else is kept."""

    def _url(self, repository: str, what: str, **parameters: str) -> str:
        return f"{self._endpoint}/api/v1/models/{quote(repository)}/{what}?{urlencode(parameters)}"

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Turns errors of the network into ours, of one line."""
        try:
            yield
        except HTTPError as error:
            error.close()
            if error.code == 404:
                raise FileNotFoundError(
                    f"{self._text}: ModelScope has no such repository, revision or file ({what}); check the name"
                ) from None
            raise OSError(
                f"{self._text}: {what} cannot be downloaded (ModelScope answers {error.code} {error.reason})"
            ) from None
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise  # of the disk
            reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
            message = f"{self._text}: {what} cannot be downloaded from {self._endpoint} ({reason}); check the network"
            raise ConnectionError(message) from error


def _files_of(answer: Any) -> dict[str, Listed] | None:
    data = answer.get("Data") if isinstance(answer, dict) else None
    entries = data.get("Files") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    return {
        str(entry["Path"]): Listed(entry.get("Size"), entry.get("Sha256") or None)
        for entry in entries
        if entry.get("Type") != "tree" and isinstance(entry.get("Path"), str)
    }
