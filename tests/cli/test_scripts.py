"""The scripts at the root, and the configs that are found by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mossformer_jax.training.configuration import load_config
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(
    ("script", "command"), [("train", "train"), ("eval", "evaluate"), ("convert_torch_weights", "convert")]
)
def test_a_script_at_the_root_is_its_subcommand(script, command, tmp_path):
    program = [sys.executable, REPOSITORY / f"{script}.py", "--help"]
    ran = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith(f"usage: mossformer-jax {command} ")


def test_every_shipped_config_is_found_by_its_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = sorted(path.stem for path in (REPOSITORY / "configs").glob("*.py"))
    assert "libri2mix" in names
    for name in names:
        assert load_config(name).to_dict() == load_config(str(REPOSITORY / "configs" / f"{name}.py")).to_dict()
    assert load_config("default_8k:first").train.steps != load_config("default_8k").train.steps


def test_a_file_with_the_same_name_takes_precedence_over_a_shipped_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'a': 1})"
    (tmp_path / "demo").write_text(source)
    assert load_config("demo").to_dict() == {"a": 1}


@pytest.mark.parametrize("name", ["libri2mx", "configs/libri2mx.py"])
def test_a_misspelt_config_suggests_the_nearest_shipped_one(name):
    with pytest.raises(FileNotFoundError, match=rf"{name}: no such config file.*did you mean libri2mix\?"):
        load_config(name)
