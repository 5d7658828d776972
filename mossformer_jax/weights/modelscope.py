"""ModelScope's hub, by its HTTP interface for files. Public repositories only; no package is needed."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode

from mossformer_jax.weights.hub_files import OFFLINE_VARIABLE, Listed, Listing, is_offline

ENDPOINT_VARIABLE, DEFAULT_ENDPOINT = "MODELSCOPE_ENDPOINT", "https://modelscope.cn"
_TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 2**20
_MAX_LISTING_BYTES = 2**24
_ATTEMPTS = 3  # of a download that breaks off


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
        with self._translated("the list of its files"), _open(url) as response:
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
        unfinished = folder / f"{name}.part"
        for attempt in range(_ATTEMPTS):
            try:
                with self._translated(name):
                    _download(url, unfinished, listing.files[name].size, name)
                break
            except ConnectionError:
                if attempt == _ATTEMPTS - 1:
                    raise
        os.replace(unfinished, folder / name)

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
            with error:
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


def _open(url: str, start: int = 0) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "mossformer-jax"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)


def _download(url: str, unfinished: Path, size: int | None, name: str) -> None:
    """Downloads into a file, after what it already contains."""
    start = unfinished.stat().st_size if unfinished.exists() else 0
    if size is not None and start >= size:
        start = 0 if start > size else start
        if start == size:
            return
    with _open(url, start) as response:
        is_continued = start > 0 and response.status == 206
        with unfinished.open("ab" if is_continued else "wb") as file, _bar(name, size) as show:
            received = start if is_continued else 0
            while chunk := response.read1(_CHUNK_BYTES):  # what has arrived, so that an interruption loses little
                _write(file, chunk, unfinished)
                received += len(chunk)
                show(received)
                if size is not None and received > size:
                    break  # the check that follows reports it
            file.flush()
            os.fsync(file.fileno())
    if size is not None and received < size:
        raise ConnectionError(f"broken off after {received:,} of {size:,} bytes")


def _write(file: Any, chunk: bytes, path: Path) -> None:
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror or error}", str(path)) from error


@contextmanager
def _bar(name: str, size: int | None) -> Iterator[Any]:
    """A progress bar on a terminal."""
    if not sys.stderr.isatty():
        yield lambda received: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=size)
        yield lambda received: progress.update(task, completed=received)
