"""Downloads one file over HTTP with a progress bar; an interrupted download continues where it stopped."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

_TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 2**20
_ATTEMPTS = 3
_PARTIAL_CONTENT = 206


def download_file(url: str, target: Path, size: int | None, headers: Mapping[str, str] | None = None) -> None:
    """Downloads a file. A download that was interrupted, even by a kill, continues where it stopped.

    Args:
        url: the address of the file.
        target: where to put it. Until it is complete, it is called NAME.part.
        size: size of the file in bytes; None if unknown.
        headers: headers of the request. They are not sent to servers that the request is redirected to.

    Raises:
        HTTPError: the server refuses.
        OSError: the connection failed three times in a row; with a file name: the file cannot be written.
        HTTPException: the response is not HTTP.
    """
    unfinished = target.with_name(f"{target.name}.part")
    for attempt in range(_ATTEMPTS):
        try:
            _continue(url, unfinished, size, headers or {})
            break
        except HTTPError as error:
            error.close()
            raise
        except (OSError, HTTPException) as error:
            is_of_the_disk = getattr(error, "filename", None) is not None
            if is_of_the_disk or attempt == _ATTEMPTS - 1:
                raise
    os.replace(unfinished, target)


def open_url(url: str, headers: Mapping[str, str], start: int = 0) -> Any:
    """Opens an address, from byte `start` on if the server supports it."""
    request = urllib.request.Request(url, headers={"User-Agent": "mossformer-jax"})
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    if start:
        request.add_header("Range", f"bytes={start}-")
    return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)


def _continue(url: str, unfinished: Path, size: int | None, headers: Mapping[str, str]) -> None:
    start = unfinished.stat().st_size if unfinished.exists() else 0
    if size is not None and start == size:
        return
    if size is not None and start > size:
        start = 0
    with open_url(url, headers, start) as response:
        is_continued = start > 0 and response.status == _PARTIAL_CONTENT
        received = start if is_continued else 0
        with unfinished.open("ab" if is_continued else "wb") as file, _bar(unfinished.stem, size) as show:
            while chunk := response.read1(_CHUNK_BYTES):  # what has arrived, so that an interruption loses little
                write(file, chunk, unfinished)
                received += len(chunk)
                show(received)
                if size is not None and received > size:
                    break  # the caller checks the size and reports it
            os.fsync(file.fileno())
    if size is not None and received < size:
        raise ConnectionError(f"connection closed after {received:,} of {size:,} bytes")


def write(file: Any, chunk: bytes, path: Path) -> None:
    """Writes a chunk; an error of the disk names the file."""
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror or error}", str(path)) from error


@contextmanager
def _bar(name: str, size: int | None) -> Iterator[Callable[[int], Any]]:
    if not sys.stderr.isatty():
        yield lambda received: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=size)
        yield lambda received: progress.update(task, completed=received)
