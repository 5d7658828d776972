"""What a run's folder says about how the run was started, and the configs of its parts."""

from __future__ import annotations

import json
import subprocess

import jax
import pytest

import mossformer_jax
from mossformer_jax.training import loop
from mossformer_jax.training.configuration import load_config, read_saved_config
from mossformer_jax.training.provenance import git_commit, record_start
from mossformer_jax.training.workdir import write_config
from tests.training.runs import TINY


def git(folder, *arguments: str) -> str:
    identity = ["-c", "user.name=Name", "-c", "user.email=name@example.org"]
    return subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout


def test_the_commit_of_a_clone_and_whether_it_has_changed(tmp_path):
    assert git_commit(tmp_path) == (None, None)
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    (tmp_path / "untracked").touch()
    assert git_commit(tmp_path) == (commit, False)
    (tmp_path / "file").write_text("two")
    assert git_commit(tmp_path) == (commit, True)
    (tmp_path / "package").mkdir()
    assert git_commit(tmp_path / "package") == (None, None)  # a package inside another repository


def test_every_start_adds_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["mossformer-jax", "train", "--config", "my config.py"])
    for step in (0, 30):
        record_start(tmp_path, step)
    first, second = [json.loads(line) for line in (tmp_path / "starts.jsonl").read_text().splitlines()]
    assert (first["step"], second["step"]) == (0, 30)
    assert first["command"] == "mossformer-jax train --config 'my config.py'"
    assert first["version"] == mossformer_jax.__version__
    assert first["devices"] == f"{jax.device_count()} x cpu (cpu)"
    assert {"time", "commit", "uncommitted_changes", "host", "python", "jax"} <= set(first)


def test_only_a_training_writes_the_config_and_earlier_ones_are_kept(tmp_path):
    def config(*flags: str):
        return load_config(str(TINY), [f"--config.train.{flag}" for flag in flags])

    def learning_rate(name: str) -> float:
        return read_saved_config(tmp_path / name).train.lr

    write_config(tmp_path, config("lr=0.1"), 0)
    write_config(tmp_path, config("lr=0.2"), 0)  # no step of the first one is left
    written = (tmp_path / "config.json").stat().st_mtime_ns
    write_config(tmp_path, config("lr=0.2"), 10)
    assert (tmp_path / "config.json").stat().st_mtime_ns == written
    write_config(tmp_path, config("lr=0.3"), 20)
    write_config(tmp_path, config("lr=0.4"), 20)  # no step of the third one is left
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "config_until_20.json"}
    assert [learning_rate(name) for name in ("config.json", "config_until_20.json")] == [0.4, 0.2]


@pytest.mark.medium
def test_a_resume_without_training_leaves_the_folder_as_it_is(tmp_path, monkeypatch):
    def train(*flags: str):
        training = loop.Training(load_config(str(TINY), flags), tmp_path)

        def steps(journal, request):
            write_config(tmp_path, training.config, training.step)
            training.step = training.total_steps
            training._save(1.0)

        training._train = steps
        training._validation_is_due = lambda: False
        return training.run()

    assert train("--config.train.steps=4").step == 4
    saved = (tmp_path / "config.json").read_bytes()
    assert train("--config.train.steps=3", "--config.train.lr=0.2").step == 4
    assert (tmp_path / "config.json").read_bytes() == saved
    assert "changed from" not in (tmp_path / "log.txt").read_text()
