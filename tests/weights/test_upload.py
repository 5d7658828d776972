"""`mossformer-jax push`: the model card, and an upload that is read back from the stand-in hub."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from mossformer_jax.cli import main
from mossformer_jax.weights import load_parameters
from mossformer_jax.weights.upload import model_card
from tests.weights.hub_server import HubServer


@pytest.fixture
def run_folder(tmp_path, tiny_model_folder):
    """A training run with two validations and its best weights."""
    run = tmp_path / "run"
    shutil.copytree(tiny_model_folder, run / "best")
    (run / "checkpoints").mkdir()
    (run / "config.json").write_text("{}")
    records = [
        {"kind": "validation", "step": 1000, "best": True, "si_sdri_db": 7.0, "si_sdr_db": 7.1},
        {"kind": "validation", "step": 12000, "best": True, "si_sdri_db": 12.25, "si_sdr_db": 12.4},
        {"kind": "validation", "step": 13000, "best": False, "si_sdri_db": 11.0, "si_sdr_db": 11.1},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return run


@pytest.fixture
def client(monkeypatch):
    """A stand-in for `huggingface_hub` that keeps what is uploaded."""
    module = ModuleType("huggingface_hub")
    client = SimpleNamespace(created=[], files={}, error=None)

    class HfApi:
        def create_repo(self, repo_id, *, private, exist_ok):
            if client.error:
                raise client.error
            client.created.append((repo_id, private, exist_ok))

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            client.files = {file.name: file.read_bytes() for file in Path(folder_path).iterdir()}
            return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")

    module.HfApi = HfApi
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return client


def test_the_best_weights_of_a_run_are_uploaded_with_a_card(client, run_folder, tiny_model_folder, capsys):
    assert main(["push", str(run_folder), "me/name", "--licence", "cc-by-4.0", "--private"]) == 0
    assert capsys.readouterr().out == "https://hub/me/name/commit/1\n"
    assert client.created == [("me/name", True, True)]
    card = client.files.pop("README.md").decode()
    assert client.files == {file.name: file.read_bytes() for file in tiny_model_folder.iterdir()}
    assert card.startswith("---\nlicense: cc-by-4.0\nlibrary_name: mossformer-jax\n")
    assert "- SI-SDRi on the validation set (dB): 12.25\n" in card
    assert "- training steps: 12,000\n" in card
    assert "mossformer-jax separate recording.wav --model me/name" in card
    assert '"num_blocks": 1' in card


def test_a_card_omits_unknown_facts(tiny_config):
    card = model_card("me/name", tiny_config)
    assert "license:" not in card
    assert "The licence of the weights: not stated." in card
    assert "No results are stated." in card


def test_the_card_can_be_printed_or_given(client, run_folder, tmp_path, capsys):
    assert main(["push", str(run_folder), "me/name", "--print-card"]) == 0
    assert "# name" in capsys.readouterr().out
    assert client.files == {}
    (tmp_path / "card.md").write_text("# Mine\n")
    assert main(["push", str(run_folder), "me/name", "--card", str(tmp_path / "card.md")]) == 0
    assert client.files["README.md"] == b"# Mine\n"


def test_errors_are_one_line_and_nothing_is_uploaded(client, run_folder, tmp_path, capsys):
    client.error = RuntimeError("\n401 Client Error: Unauthorized\nmore")
    for arguments, message in (
        ([run_folder, "name"], "'name' is not a repository on the Hugging Face hub; must be OWNER/NAME"),
        ([tmp_path / "none", "me/name"], "none: no such model"),
        ([run_folder, "me/name", "--card", tmp_path / "none.md"], "none.md: no such file"),
        ([run_folder, "me/name"], "the upload to the Hugging Face hub failed (401 Client Error: Unauthorized); log in"),
    ):
        assert main(["push", *map(str, arguments)]) == 1
        printed = capsys.readouterr().err
        assert message in printed
        assert printed.count("\n") == 1
    (run_folder / "best" / "model.safetensors").write_bytes(b"damaged")
    assert main(["push", str(run_folder), "me/name"]) == 1
    assert "is damaged" in capsys.readouterr().err
    assert client.created == []


def test_without_the_client_the_extra_is_named(run_folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["push", str(run_folder), "me/name"]) == 1
    assert "pip install 'mossformer-jax[hub]'" in capsys.readouterr().err


# Raised by httpx2 in a call of huggingface_hub 2.4.0, which passes bytes by a deprecated parameter.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.skipif(importlib.util.find_spec("huggingface_hub") is None, reason="huggingface_hub is not installed")
def test_a_model_pushed_with_the_real_client_is_loaded_unchanged(run_folder, monkeypatch, tmp_path, capsys):
    server = HubServer()
    variables = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    variables |= {"MOSSFORMER_JAX_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    for name, value in {**variables, "HF_TOKEN": "hf_wrong"}.items():
        monkeypatch.setenv(name, value)
    modules = [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]
    for module in modules:  # the client reads its variables when it is imported
        monkeypatch.delitem(sys.modules, module)
    try:
        assert main(["push", str(run_folder), "me/name"]) == 1
        message = capsys.readouterr().err
        assert "the upload to the Hugging Face hub failed (" in message
        assert "401 Unauthorized" in message
        assert server.repositories == {}
        monkeypatch.setenv("HF_TOKEN", "hf_right")
        assert main(["push", str(run_folder), "me/name"]) == 0
        assert set(server.repositories["me/name"].files) == {"README.md", "config.json", "model.safetensors"}
        config, parameters = load_parameters("me/name")
        expected_config, expected = load_parameters(run_folder)
        assert config == expected_config
        assert all(np.array_equal(parameters[name], array) for name, array in expected.items())
    finally:
        server.close()
        for module in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
            sys.modules.pop(module)
