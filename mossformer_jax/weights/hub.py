"""Models from the Hugging Face hub: repositories that hold a model folder of ours."""

from __future__ import annotations

import re
from pathlib import Path

from mossformer_jax.weights.folders import CONFIG_FILE, FORMAT, WEIGHTS_FILE, is_model_folder

_REPO_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?", re.ASCII)


def is_repo_id(text: str) -> bool:
    """Whether the text can be the id of a repository, "owner/name" or "owner/name@revision"; a path can be, too."""
    return _REPO_ID.fullmatch(text) is not None


def download_model(repo_id: str) -> Path:
    """Downloads a model into the hub's own cache, unless it is there already; needs the extra `hub`.

    Args:
        repo_id: "owner/name", or "owner/name@revision" with a branch, a tag or a commit.

    Returns:
        The model folder in the cache.

    Raises:
        FileNotFoundError: there is no such repository or revision, it may not be read, or `huggingface_hub` is not
            installed.
        OSError: the hub cannot be reached, or the download fails.
        ValueError: this cannot be the id of a repository, or what is in it is not one of our models.
    """
    match = _REPO_ID.fullmatch(repo_id)
    if match is None:
        raise ValueError(f"{repo_id!r} is not the id of a repository; must be owner/name or owner/name@revision")
    name, revision = match.groups()
    # Each message comes to those who mistyped a path, too, and so begins with the path.
    missing = f"{repo_id}: no such model; give 'default' or the path of a model folder"
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise FileNotFoundError(
            f"{missing}; if it is a repository on the Hugging Face hub: pip install 'mossformer-jax[hub]'"
        ) from None
    try:
        folder = Path(
            huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE])
        )
    except errors.RevisionNotFoundError:
        raise FileNotFoundError(
            f"{repo_id}: the repository on the Hugging Face hub has no revision {revision or 'main'}; check its name"
        ) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise FileNotFoundError(
            f"{missing}, or the id of a repository on the Hugging Face hub that exists and that you may read "
            "(log in by: hf auth login)"
        ) from None
    # Whatever else the hub's client and the network library under it raise, in many classes and many lines.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise OSError(
            f"{repo_id}: no such folder here, and the download from the Hugging Face hub failed ({reason}); "
            "check the name and the network"
        ) from error
    if not is_model_folder(folder):
        raise ValueError(
            f"{repo_id}: the repository on the Hugging Face hub holds no {FORMAT} model; if it is an official PyTorch "
            f"checkpoint, convert it: hf download {name} --local-dir FOLDER, then "
            "mossformer-jax convert --input FOLDER --output MODEL"
        )
    return folder
