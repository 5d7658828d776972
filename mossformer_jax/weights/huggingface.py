"""The Hugging Face hub, with its own client (extra `hub`) for listings, tokens and its cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from urllib.error import HTTPError

from mossformer_jax.weights.hub_download import download_file
from mossformer_jax.weights.hub_files import OFFLINE_VARIABLE, Listed, Listing, is_offline

_INSTALL = "for a repository on the Hugging Face hub, run: pip install 'mossformer-jax[hub]'"


class HuggingFace:
    """The Hugging Face hub. `HF_ENDPOINT`, `HF_TOKEN` and other variables of its client apply."""

    def __init__(self, text: str):
        """Takes the name that the user gave, for messages."""
        self._text = text
        # The text may also be a mistyped path.
        self._missing = f"{text}: no such model; give 'default' or the path of a model folder"
        self._cached: dict[str, Path] = {}

    def list_files(self, repository: str, revision: str | None) -> Listing:
        """Lists a repository; offline, what is in the client's own cache."""
        client = self._client()
        with self._translated(revision):
            if is_offline():
                return _list_cached(client, repository, revision)
            info = client.HfApi().model_info(repository, revision=revision, files_metadata=True)
            return Listing(
                info.sha,
                {file.rfilename: Listed(file.size, file.lfs.sha256 if file.lfs else None) for file in info.siblings},
            )

    def fetch(self, repository: str, listing: Listing, name: str, folder: Path) -> None:
        """Downloads a file, unless it is in the cache of the hub's client.

        The client's own download starts from the beginning if a process was killed, so only its address and its
        headers (with the token) are used.
        """
        client = self._client()
        with self._translated(listing.revision):
            cached = client.try_to_load_from_cache(repository, name, revision=listing.revision)
            if isinstance(cached, str):
                self._cached[name] = Path(cached).resolve()
                link_or_copy(self._cached[name], folder / name)
                return
            url = client.hf_hub_url(repository, name, revision=listing.revision)
            headers = client.utils.build_hf_headers(library_name="mossformer-jax")
            download_file(url, folder / name, listing.files[name].size, headers)

    def discard(self, name: str) -> None:
        """Removes a file from the client's cache, if it came from there."""
        if name in self._cached:
            self._cached[name].unlink(missing_ok=True)

    def _client(self) -> ModuleType:
        try:
            import huggingface_hub
        except ImportError:
            raise FileNotFoundError(f"{self._missing}; {_INSTALL}") from None
        return huggingface_hub

    @contextmanager
    def _translated(self, revision: str | None) -> Iterator[None]:
        """Turns the client's errors into ours, of one line."""
        from huggingface_hub import errors

        try:
            yield
        except errors.RevisionNotFoundError:
            raise FileNotFoundError(
                f"{self._text}: the repository on the Hugging Face hub has no revision {revision or 'main'}; "
                "check the name"
            ) from None
        except (errors.RepositoryNotFoundError, errors.HFValidationError):
            raise FileNotFoundError(
                f"{self._missing}, or the id of a repository on the Hugging Face hub that exists and that you have "
                "access to (log in with: hf auth login)"
            ) from None
        except errors.LocalEntryNotFoundError as error:
            if is_offline():
                raise FileNotFoundError(
                    f"{self._text}: is not in the cache, and {OFFLINE_VARIABLE} is set; run it online once"
                ) from None
            raise self._failed(error) from error
        except OSError as error:
            if error.filename is not None and not isinstance(error, HTTPError):
                raise  # of the disk
            raise self._failed(error) from error
        # The client and its network library raise many other exception classes, with messages of several lines.
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OSError:
        reason = str(error).partition("\n")[0] or type(error).__name__
        return OSError(
            f"{self._text}: no such folder here, and the download from the Hugging Face hub failed ({reason}); "
            "check the name and the network"
        )


def _list_cached(client: ModuleType, repository: str, revision: str | None) -> Listing:
    folder = Path(client.snapshot_download(repository, revision=revision, local_files_only=True))
    files = {str(file.relative_to(folder)): Listed(file.stat().st_size) for file in folder.rglob("*") if file.is_file()}
    return Listing(folder.name, files)


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name; a copy where links are not possible."""
    try:
        os.link(source, target)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            target.unlink(missing_ok=True)
            raise OSError(error.errno, f"cannot be written: {error.strerror or error}", str(target)) from error
