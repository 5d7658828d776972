"""Uploads a model to the Hugging Face hub, with a model card, as `load_model` reads it from there."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mossformer_jax.model import ModelConfig
from mossformer_jax.weights.folders import CONFIG_FILE, WEIGHTS_FILE
from mossformer_jax.weights.huggingface import link_or_copy
from mossformer_jax.weights.parameters import count_parameters
from mossformer_jax.weights.store import load_parameters, model_folder

CARD_FILE = "README.md"
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
TAGS = ("mossformer2", "speech-separation", "audio-source-separation", "jax")
_ARCHITECTURE = "https://arxiv.org/abs/2312.11825"


def model_card(
    repository: str,
    config: ModelConfig,
    *,
    licence: str | None = None,
    figures: Mapping[str, str] | None = None,
    description: str = "",
) -> str:
    """A model card in Markdown, with the metadata that the hub reads.

    Args:
        repository: "owner/name" on the hub.
        config: the model's sizes and options.
        licence: the hub's identifier of the weights' licence, such as "apache-2.0"; None if it is not stated.
        figures: results by name, such as those of the validation.
        description: a paragraph about the model.
    """
    metadata = [f"license: {licence}"] if licence else []
    metadata += ["library_name: mossformer-jax", "pipeline_tag: audio-to-audio"]
    metadata += ["tags:", *(f"- {tag}" for tag in TAGS)]
    version = "MossFormer" if config.fsmn_channels is None else "MossFormer2"
    lines = [
        *("---", *metadata, "---", "", f"# {repository.partition('/')[2]}", ""),
        f"[{version}]({_ARCHITECTURE}) for speech separation: {config.num_sources} sources, {config.sample_rate} Hz, "
        f"{count_parameters(config):,} parameters.",
        *(["", description] if description else []),
        *("", "## Use", "", "```bash", "pip install 'mossformer-jax[hub]'"),
        *(f"mossformer-jax separate recording.wav --model {repository}", "```", ""),
        *("```python", "from mossformer_jax import Separator", ""),
        *(f'separator = Separator.from_pretrained("{repository}")', 'separation = separator("recording.wav")'),
        *("```", ""),
        *("## Results", ""),
        *([f"- {name}: {value}" for name, value in figures.items()] if figures else ["No results are stated."]),
        *("", "## Licence", "", f"The licence of the weights: {licence or 'not stated'}."),
        *("", "## Config", "", "```json", json.dumps(config.to_dict(), indent=2), "```", ""),
    ]
    return "\n".join(lines)


def push_model(path: str, repository: str, card: str, *, private: bool = False, message: str | None = None) -> str:
    """Uploads a model in one commit, and creates the repository if it does not exist; needs the extra `hub`.

    Args:
        path: "default", a model folder, or the folder of a training run.
        repository: "owner/name" on the hub.
        card: the model card (`model_card`).
        private: whether a new repository is private.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        FileNotFoundError: there is no such model.
        OSError: the upload fails.
        ValueError: the model cannot be read, the repository's name is malformed, or `huggingface_hub` is missing.
    """
    if _REPOSITORY.fullmatch(repository) is None:
        raise ValueError(f"{repository!r} is not a repository on the Hugging Face hub; must be OWNER/NAME")
    folder = model_folder(path)
    load_parameters(folder)  # what cannot be read here is not uploaded
    try:
        import huggingface_hub
    except ImportError:
        raise ValueError("uploading needs huggingface_hub; run: pip install 'mossformer-jax[hub]'") from None
    with tempfile.TemporaryDirectory(prefix="mossformer-jax-") as prepared:
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            link_or_copy((folder / name).resolve(), Path(prepared) / name)
        (Path(prepared) / CARD_FILE).write_text(card, encoding="utf-8")
        api = huggingface_hub.HfApi()
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository, folder_path=prepared, commit_message=message or "Upload with mossformer-jax"
            )
        # The client and its network library raise many exception classes, with messages of several lines.
        except Exception as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise OSError(
                f"{repository}: the upload to the Hugging Face hub failed ({reason}); log in with: hf auth login, "
                "or check the name and the network"
            ) from error
    return str(commit.commit_url)
