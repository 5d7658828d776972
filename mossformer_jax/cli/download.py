"""Downloads one audio file over http or https; an incomplete download leaves no file."""

from __future__ import annotations

import base64
import os
import re
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit, urlunsplit

_CHUNK_BYTES = 2**20
_LONGEST_NAME = 60  # letters; a file name holds 255 bytes, and what is made of it has a longer name
_ADVICE = "check the address and the network, or download it by other means"


def is_url(text: str) -> bool:
    """Whether the text is an http or https address rather than a path."""
    return re.match(r"https?://", text, re.IGNORECASE) is not None


def download(url: str, folder: Path, *, max_bytes: int = 2 * 1024**3, timeout: float = 30.0) -> Path:
    """Downloads a file; an interrupted download leaves nothing.

    A name and password in the address (`https://name:password@host/...`) are sent to that host only, and never shown.

    Args:
        url: its http or https address.
        folder: where to put it, under the last part of the address's path; a file of that name is replaced.
        max_bytes: the largest size that is accepted.
        timeout: how many seconds to wait for the connection, and for each further piece of data.

    Returns:
        The file.

    Raises:
        ValueError: it is not an http or https address, or the file is larger than `max_bytes`, or a web page.
        OSError: the server cannot be reached, refuses, redirects to something else than http or https, is too slow, or
            breaks off.
    """
    shown = _one_line(without_password(url))
    if not is_url(url):
        raise ValueError(f"{shown}: not an address that can be downloaded; it must start with http:// or https://")
    request = _request(url)
    path = folder / file_name(url)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _opener().open(request, timeout=timeout) as response:
            if response.headers.get_content_type() == "text/html":
                raise ValueError(f"{shown}: is a web page; give the address of the audio file itself")
            with unfinished.open("wb") as file:
                _copy(response, file, shown, max_bytes)
        os.replace(unfinished, path)
    except HTTPError as error:
        with error:
            raise OSError(f"{shown}: the server answers {error.code} {_one_line(error.reason)}; {_ADVICE}") from None
    # UnicodeError: a host name that cannot be one.
    except (OSError, HTTPException, UnicodeError) as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise OSError(f"{shown}: cannot be downloaded ({_one_line(reason)}); {_ADVICE}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _copy(response: HTTPResponse, file: IO[bytes], shown: str, max_bytes: int) -> None:
    declared: int | None = response.length  # from Content-Length
    received = 0
    too_large = f"{shown}: larger than the {max_bytes:,} bytes allowed; download it by other means"
    if declared is not None and declared > max_bytes:
        raise ValueError(too_large)
    while chunk := response.read(_CHUNK_BYTES):
        received += len(chunk)
        if received > max_bytes:
            raise ValueError(too_large)
        file.write(chunk)
    if declared is not None and received < declared:
        raise OSError(f"connection closed after {received:,} of {declared:,} bytes")


def _request(url: str) -> urllib.request.Request:
    try:
        parts = urlsplit(url)
        valid = parts.hostname and parts.port != 0  # reading the port checks it
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{_one_line(without_password(url))}: not a valid address; check the host and the port")
    server = parts.netloc.rpartition("@")[2]
    # Users paste URLs with spaces and non-ASCII letters; "%" is safe, so that encoded characters are not encoded again.
    path, query = quote(parts.path, safe="/%:@!$&'()*+,;=~"), quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    request = urllib.request.Request(urlunsplit((parts.scheme, server, path, query, "")))
    request.add_header("User-Agent", "mossformer-jax")
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login).decode()}")
    return request


def _opener() -> urllib.request.OpenerDirector:
    """What opens http and https, through the proxy that the environment names, and nothing else (files, ftp)."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def file_name(url: str) -> str:
    """The last part of an address's path as a plain file name on any system, its suffix kept."""
    last = unquote(urlsplit(url).path.rpartition("/")[2])
    name = re.sub(r"[^\w .,()+=@-]", "_", last).strip(" .") or "download"
    stem, suffix = os.path.splitext(name)
    return stem[:_LONGEST_NAME] + suffix[:10]


def without_password(url: str) -> str:
    """An address, or a path, as it may be shown: without user and password."""
    return re.sub(r"^(\w+://)[^/?#]*@", r"\1", url)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
