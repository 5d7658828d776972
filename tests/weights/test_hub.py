"""Models from the Hugging Face hub, with a stand-in for `huggingface_hub` and no network access."""

from __future__ import annotations

import shutil
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from mossformer_jax.weights import load_parameters, read_config
from mossformer_jax.weights.hub import fetch_model, is_repo_id


class _RepositoryNotFoundError(OSError):
    pass


class _RevisionNotFoundError(OSError):
    pass


class _HFValidationError(ValueError):
    pass


class _LocalEntryNotFoundError(FileNotFoundError):
    pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The stand-in: a listing has the files of `hub.answer` or raises it, and `hub.calls` records what is asked for."""
    module = ModuleType("huggingface_hub")
    module.errors = SimpleNamespace(
        RepositoryNotFoundError=_RepositoryNotFoundError,
        RevisionNotFoundError=_RevisionNotFoundError,
        HFValidationError=_HFValidationError,
        LocalEntryNotFoundError=_LocalEntryNotFoundError,
    )
    hub = SimpleNamespace(answer=None, calls=[])

    class HfApi:
        def model_info(self, repo_id, *, revision=None, files_metadata=False):
            hub.calls.append((repo_id, revision))
            if isinstance(hub.answer, Exception):
                raise hub.answer
            files = [file for file in hub.answer.glob("*") if file.is_file()]
            siblings = [SimpleNamespace(rfilename=file.name, size=file.stat().st_size, lfs=None) for file in files]
            return SimpleNamespace(sha="5ha", siblings=siblings)

    def try_to_load_from_cache(repo_id, name, *, revision=None):
        hub.calls.append((repo_id, revision, name))
        return str(hub.answer / name)

    module.HfApi, module.try_to_load_from_cache = HfApi, try_to_load_from_cache
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setenv("MOSSFORMER_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return hub


@pytest.mark.parametrize(
    ("repo_id", "name", "revision"),
    [("owner/a-model.v2", "owner/a-model.v2", None), ("owner/name@feature/x", "owner/name", "feature/x")],
)
def test_a_repository_is_loaded_like_a_folder(hub, tiny_model_folder, tmp_path, repo_id, name, revision):
    shutil.copytree(tiny_model_folder, tmp_path / "repository")
    (tmp_path / "repository" / "README.md").write_text("not needed")
    hub.answer = tmp_path / "repository"
    config, parameters = load_parameters(repo_id)
    # One listing, and only these files.
    assert hub.calls == [(name, revision), (name, "5ha", "config.json"), (name, "5ha", "model.safetensors")]
    assert config == read_config(tiny_model_folder)
    for key, array in load_parameters(tiny_model_folder)[1].items():
        np.testing.assert_array_equal(parameters[key], array)
    load_parameters(repo_id)
    assert len(hub.calls) == 3  # from the cache


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


def test_the_error_for_a_repository_without_a_model(hub, tmp_path):
    (tmp_path / "repository").mkdir()
    hub.answer = tmp_path / "repository"
    with pytest.raises(ValueError, match=r"contains neither a mossformer-jax model nor an official PyTorch checkpoint"):
        read_config("owner/name")


def test_the_error_without_the_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setenv("MOSSFORMER_JAX_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match=r"owner/name: no such model; .*pip install 'mossformer-jax\[hub\]'"):
        read_config("owner/name")


def test_a_malformed_repository_id_is_an_error():
    with pytest.raises(ValueError, match="must be owner/name or owner/name@revision"):
        fetch_model("name", lambda *_: None)
