"""Models from the Hugging Face hub, with a stand-in for `huggingface_hub` and no network access."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from mossformer_jax.weights import load_parameters, read_config
from mossformer_jax.weights.hub import download_model, is_repo_id


class _RepositoryNotFoundError(OSError):
    pass


class _RevisionNotFoundError(OSError):
    pass


class _HFValidationError(ValueError):
    pass


@pytest.fixture
def hub(monkeypatch):
    """The stand-in: a download returns or raises `hub.answer`, and `hub.calls` records its arguments."""
    module = ModuleType("huggingface_hub")
    module.errors = SimpleNamespace(
        RepositoryNotFoundError=_RepositoryNotFoundError,
        RevisionNotFoundError=_RevisionNotFoundError,
        HFValidationError=_HFValidationError,
    )
    hub = SimpleNamespace(answer=None, calls=[])

    def snapshot_download(repo_id, *, revision=None, allow_patterns=None):
        hub.calls.append((repo_id, revision, allow_patterns))
        if isinstance(hub.answer, Exception):
            raise hub.answer
        return str(hub.answer)

    module.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return hub


@pytest.mark.parametrize(
    ("repo_id", "name", "revision"),
    [("owner/a-model.v2", "owner/a-model.v2", None), ("owner/name@feature/x", "owner/name", "feature/x")],
)
def test_a_repository_is_loaded_like_a_folder(hub, tiny_model_folder, repo_id, name, revision):
    hub.answer = tiny_model_folder
    config, parameters = load_parameters(repo_id)
    assert hub.calls == [(name, revision, ["config.json", "model.safetensors"])]  # one request, only for these files
    assert config == read_config(tiny_model_folder)
    for key, array in load_parameters(tiny_model_folder)[1].items():
        np.testing.assert_array_equal(parameters[key], array)


def test_a_folder_takes_precedence_over_a_repository(hub, tiny_model_folder, monkeypatch):
    monkeypatch.chdir(tiny_model_folder.parents[1])
    read_config(f"{tiny_model_folder.parent.name}/{tiny_model_folder.name}")
    assert hub.calls == []


@pytest.mark.parametrize(
    "path", ["/no/model", "./no/model", "no/such/model", "nothing", "no/model/", "../model", "no\\model", "a/b@"]
)
def test_a_path_that_is_not_a_repository_id_is_not_requested(hub, path):
    assert not is_repo_id(path)
    with pytest.raises(FileNotFoundError, match="no such model; give 'default' or the path of a model folder"):
        read_config(path)
    assert hub.calls == []


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            _RepositoryNotFoundError("404 Client Error.\n\nRepository Not Found"),
            FileNotFoundError,
            "owner/name@v1: no such model; give 'default' or the path of a model folder, or the id of a repository",
        ),
        (_HFValidationError("bad\nid"), FileNotFoundError, "owner/name@v1: no such model; give 'default' or"),
        (_RevisionNotFoundError("404\n"), FileNotFoundError, "owner/name@v1: the repository .* has no revision v1"),
        (
            FileNotFoundError("Got: ConnectError: no route\nPlease check your internet connection"),
            OSError,
            r"owner/name@v1: no such folder here, .* failed \(Got: ConnectError: no route\)",
        ),
        (RuntimeError(), OSError, r"owner/name@v1: .* failed \(RuntimeError\)"),
    ],
)
def test_errors_of_the_hub_become_one_line(hub, error, kind, message):
    hub.answer = error
    with pytest.raises(kind, match=message) as raised:
        read_config("owner/name@v1")
    assert "\n" not in str(raised.value)


def test_the_error_for_an_official_repository_explains_conversion(hub, tmp_path):
    hub.answer = tmp_path / "snapshot_without_any_of_our_files"
    with pytest.raises(ValueError, match=r"contains no mossformer-jax model; .* hf download owner/name --local-dir"):
        read_config("owner/name")


def test_the_error_without_the_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match=r"owner/name: no such model; .*pip install 'mossformer-jax\[hub\]'"):
        read_config("owner/name")


def test_a_malformed_repository_id_is_an_error():
    with pytest.raises(ValueError, match="must be owner/name or owner/name@revision"):
        download_model("name")
