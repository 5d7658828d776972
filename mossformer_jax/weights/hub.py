"""Models from the Hugging Face hub: repositories that contain a model folder."""

from __future__ import annotations

import re
from pathlib import Path

from mossformer_jax.weights.folders import CONFIG_FILE, FORMAT, WEIGHTS_FILE, is_model_folder

_REPO_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?", re.ASCII)


def is_repo_id(text: str) -> bool:
    """Whether the text has the form of a repository id, "owner/name" or "owner/name@revision". So may a path."""
    return _REPO_ID.fullmatch(text) is not None


def download_model(repo_id: str) -> Path:
    """Downloads a model into the hub's cache unless it is already there; needs the extra `hub`.

    Args:
        repo_id: "owner/name", or "owner/name@revision" with a branch, a tag or a commit.

    Returns:
        The model folder in the cache.

    Raises:
        FileNotFoundError: there is no such repository or revision, access is denied, or `huggingface_hub` is not
            installed.
        OSError: the hub cannot be reached, or the download fails.
        ValueError: the id is malformed, or the repository does not contain a model folder.
    """
    match = _REPO_ID.fullmatch(repo_id)
    if match is None:
        raise ValueError(f"{repo_id!r} is not a repository id; must be owner/name or owner/name@revision")
    name, revision = match.groups()
    # The text may also be a mistyped path, so every message starts with it.
    missing = f"{repo_id}: no such model; give 'default' or the path of a model folder"
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise FileNotFoundError(
            f"{missing}; for a repository on the Hugging Face hub, run: pip install 'mossformer-jax[hub]'"
        ) from None
    try:
        folder = Path(
            huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE])
        )
    except errors.RevisionNotFoundError:
        raise FileNotFoundError(
            f"{repo_id}: the repository on the Hugging Face hub has no revision {revision or 'main'}; check the name"
        ) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise FileNotFoundError(
            f"{missing}, or the id of a repository on the Hugging Face hub that exists and that you have access to "
            "(log in with: hf auth login)"
        ) from None
    # The hub's client and its network library raise many other exception classes, with messages of several lines.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise OSError(
            f"{repo_id}: no such folder here, and the download from the Hugging Face hub failed ({reason}); "
            "check the name and the network"
        ) from error
    if not is_model_folder(folder):
        raise ValueError(
            f"{repo_id}: the repository on the Hugging Face hub contains no {FORMAT} model; if it is an official "
            f"PyTorch checkpoint, convert it: hf download {name} --local-dir FOLDER, then "
            "mossformer-jax convert --input FOLDER --output MODEL"
        )
    return folder
