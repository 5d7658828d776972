"""Models by name, from the hubs: downloaded and converted on their first use, then read from the cache."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mossformer_jax.weights.folders import CONFIG_FILE, WEIGHTS_FILE, is_model_folder
from mossformer_jax.weights.hub_cache import CachedRepository
from mossformer_jax.weights.hub_files import Hub, fetch_needed
from mossformer_jax.weights.huggingface import HuggingFace
from mossformer_jax.weights.modelscope import ModelScope
from mossformer_jax.weights.published import HUGGING_FACE, MODELSCOPE, PUBLISHED, Published, nearest_name

_ID = re.compile(r"(modelscope:|hf:)?(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?", re.ASCII)
_NAME = re.compile(r"(\w[\w.-]*)(?:@(\w[\w./-]*))?", re.ASCII)

# Converts the official files in a folder to a model folder, with options that override the defaults of the family, and
# returns the family and the config.
Converter = Callable[[Path, Path, Mapping[str, Any]], tuple[str, Any]]


@dataclass(frozen=True)
class ModelId:
    """A model on a hub.

    Attributes:
        text: as the user wrote it.
        hub: "huggingface" or "modelscope".
        repository: "owner/name".
        revision: a branch, tag or commit; None for the hub's default.
        published: its entry in the table of published models, if it was given by its name.
    """

    text: str
    hub: str
    repository: str
    revision: str | None
    published: Published | None = None


def parse_model_id(text: str) -> ModelId | None:
    """Reads a published name, "owner/name" or "modelscope:owner/name", each with "@revision" or without.

    Returns:
        The id; None if the text has another form. A path may have the same form.
    """
    if (named := _NAME.fullmatch(text)) and named[1] in PUBLISHED:
        published = PUBLISHED[named[1]]
        return ModelId(text, published.hub, published.repository, named[2], published)
    if (match := _ID.fullmatch(text)) is None:
        return None
    hub = MODELSCOPE if match[1] == "modelscope:" else HUGGING_FACE
    return ModelId(text, hub, match[2], match[3])


def is_repo_id(text: str) -> bool:
    """Whether the text has the form of a published name or of a repository id. So may a path."""
    return parse_model_id(text) is not None


def suggestion(text: str) -> str:
    """A hint for a name that does not exist: the published name that is most similar, or an empty string."""
    near = nearest_name(text.partition("@")[0].rpartition("/")[2])
    return f"; did you mean {near}?" if near else ""


def fetch_model(text: str, convert: Converter) -> Path:
    """The model folder of a model on a hub, from the cache or else downloaded and converted.

    Args:
        text: a published name, "owner/name" (Hugging Face) or "modelscope:owner/name", with "@revision" or without.
            Without, the revision of the first download stays in use.
        convert: converts official files.

    Raises:
        FileNotFoundError: there is no such repository or revision, access is denied, the network is switched off, or
            `huggingface_hub` is not installed.
        OSError: the hub cannot be reached, the download fails, or the disk is full.
        ValueError: the id is malformed, or the repository does not contain a model that can be read.
    """
    model_id = parse_model_id(text)
    if model_id is None:
        raise ValueError(f"{text!r} is not a repository id; must be owner/name or owner/name@revision")
    cached = CachedRepository(model_id.hub, model_id.repository)
    if found := cached.find(model_id.revision):
        return found
    hub: Hub = ModelScope(text) if model_id.hub == MODELSCOPE else HuggingFace(text)
    # Before anything is created in the cache, since the text may be a mistyped path.
    listing = hub.list_files(model_id.repository, model_id.revision)
    with cached.lock():
        # It may have been meant by another revision, or added by another process.
        if found := cached.find_resolved(listing.revision, model_id.revision):
            return found
        downloads = cached.download_folder(listing.revision)
        files = fetch_needed(hub, model_id.repository, listing, downloads)
        with cached.new_model() as new:
            source = {"requested": model_id.revision, "files": {name: asdict(file) for name, file in files.items()}}
            source["family"] = _convert(model_id, downloads, new, convert)
            return cached.add(new, listing.revision, model_id.revision, source)


def _convert(model_id: ModelId, downloads: Path, new: Path, convert: Converter) -> str | None:
    """Fills a new model folder, and returns the family of the official files (None for a model of ours)."""
    if is_model_folder(downloads):
        for name in (WEIGHTS_FILE, CONFIG_FILE):
            (downloads / name).replace(new / name)
        return None
    published = model_id.published
    options = {} if published is None else {"sample_rate": published.sample_rate}
    if published is not None and published.family == "C":
        options["direct_decoding"] = published.direct_decoding
    family, config = convert(downloads, new, options)
    if published is not None and (problems := published.problems(family, config)):
        raise ValueError(f"{model_id.text}: is not the published model: {'; '.join(problems)}")
    return family
