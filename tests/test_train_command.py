"""`mossformer-jax train`: one-line errors and flags."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest

from mossformer_jax.cli import main
from mossformer_jax.cli.terminal import show_logged_warnings
from mossformer_jax.sharding import make_mesh
from mossformer_jax.training.configuration import load_config, resolve, save_config
from mossformer_jax.training.state import begin
from mossformer_jax.weights import load_parameters
from tests.conftest import settings_of_jax_restored
from tests.training import runs

TINY = str(runs.TINY)


def refusal(capsys, *flags: str) -> str:
    """The one-line error of the command for these flags."""
    assert main(["train", "--device", "cpu", "--no-compile-cache", *flags]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("mossformer-jax: error: ")
    return line


@pytest.fixture(autouse=True)
def _settings_of_jax_as_they_were():
    with settings_of_jax_restored():
        yield


@pytest.mark.parametrize("name", ["train.steps", "train.optimizer", "data.train.corpus", "9" * 5000])
def test_a_very_long_value_is_shortened_in_the_error(name, capsys, tmp_path):
    line = refusal(capsys, "--config", TINY, "--workdir", str(tmp_path), f"--config.{name}={'9' * 5000}")
    assert "99..." in line
    assert len(line) < 1000


def test_logged_warnings_look_like_those_of_the_command(capsys, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    show_logged_warnings()
    logging.getLogger("mossformer_jax.training.initial_weights").warning("default: was trained at %d Hz", 8000)
    assert capsys.readouterr().err == "mossformer-jax: warning: default: was trained at 8000 Hz\n"


def test_the_error_names_a_missing_config(capsys):
    assert "no_such.py: no such config file" in refusal(capsys, "--config", "no_such.py")


def test_the_right_name_is_suggested_for_a_misspelt_override(capsys, tmp_path):
    line = refusal(capsys, "--config", TINY, "--workdir", str(tmp_path), "--config.train.stpes=3")
    assert "--config.train.steps" in line


def test_other_unknown_flags_are_usage_errors(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--config", TINY, "--epochs=3"])
    assert exit_.value.code == 2
    assert "--epochs=3" in capsys.readouterr().err


def test_the_config_is_printed_with_descriptions_and_can_be_given_as_overrides(capsys, tmp_path):
    root = f"--config.data.root={tmp_path}"
    flags = ["--config", "own_data:csv", root, "--config.model.num_sources=3", "--print-config"]
    assert main(["train", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    field = re.compile(r"(--config\.[\w.]+)=(.*?)(?: {2,}# .*)?")
    printed = dict(field.fullmatch(line).groups() for line in lines if line.startswith("--"))
    assert printed["--config.model.num_sources"] == "3"
    assert printed["--config.data.train.path"] == f"{tmp_path}/train.csv"
    recipe = [line for line in lines if line.startswith(("--config.model.", "--config.train."))]
    assert all("  # " in line for line in recipe)
    assert any(line.endswith("# number of separated sources (`c`)") for line in lines)
    (unset,) = [line for line in lines if line.startswith("# not set in data.train: ")]
    assert "speeds" in unset
    assert "recorded_noise" in unset
    overrides = [f"{name}={value}" for name, value in printed.items()]
    assert resolve(load_config("own_data:csv", overrides)) == resolve(load_config("own_data:csv", flags[2:4]))


@pytest.mark.parametrize("steps", ["3", "0:3", "5:3", "a:b"])
def test_profiled_steps_must_be_two_numbers_in_order(capsys, steps):
    with pytest.raises(SystemExit):
        main(["train", "--config", TINY, f"--profile-steps={steps}"])
    assert "10:15" in capsys.readouterr().err


def test_a_batch_size_not_divisible_by_accumulation_is_an_error(capsys, tmp_path):
    flags = ["--workdir", str(tmp_path), "--config.data.batch_size=5"]
    assert "batch_size=5" in refusal(capsys, "--config", TINY, *flags)


def test_the_error_names_a_missing_data_folder(capsys, tmp_path):
    root = tmp_path / "nowhere"
    config = str(runs.REPOSITORY / "configs" / "libri2mix.py")
    line = refusal(capsys, "--config", config, "--workdir", str(tmp_path / "run"), f"--config.data.root={root}")
    assert str(root) in line
    assert not (tmp_path / "run").exists()


def test_a_bucket_url_as_workdir_is_an_error(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--config", TINY, "--workdir", "gs://bucket/run"])
    assert stopped.value.code == 2
    assert "'gs://bucket/run' is not a folder; mount the bucket" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_workdir_that_is_a_file_is_an_error(capsys, tmp_path):
    workdir = tmp_path / "file"
    workdir.touch()
    assert str(workdir) in refusal(capsys, "--config", TINY, "--workdir", str(workdir))


def test_changing_the_network_of_a_run_is_an_error(capsys, tmp_path):
    save_config(tmp_path / "config.json", load_config(TINY))
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    line = refusal(capsys, "--config", TINY, "--workdir", str(tmp_path), "--config.model.num_blocks=2")
    assert "config.model.num_blocks=1" in line
    assert "--workdir" in line


@pytest.mark.medium
def test_the_error_for_initial_weights_of_another_size_suggests_overrides(
    capsys, tmp_path, tiny_model_folder, tiny_config
):
    flags = ["--workdir", str(tmp_path), "--config.model.model_channels=16", "--config.model.num_blocks=3"]
    line = refusal(capsys, "--config", TINY, f"--config.train.initial_weights={tiny_model_folder}", *flags)
    assert "use --config.model.model_channels=8 --config.model.num_blocks=1, or " in line


def test_the_error_names_missing_initial_weights(capsys, tmp_path):
    flags = ["--workdir", str(tmp_path), f"--config.train.initial_weights={tmp_path / 'nowhere'}"]
    assert str(tmp_path / "nowhere") in refusal(capsys, "--config", TINY, *flags)


@pytest.mark.slow
def test_a_batch_size_not_divisible_by_devices_is_an_error(tmp_path):
    ended = runs.train(tmp_path / "run", xla_flags="--xla_force_host_platform_device_count=8")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "config.data.batch_size=4 is not allowed: must be a multiple of 8 device(s) times accumulation=2" in line
    assert "--config.data.batch_size=16" in line


def test_fine_tuning_starts_from_the_given_weights(tmp_path, tiny_model_folder):
    _, recipe, _ = resolve(load_config(TINY, [f"--config.train.initial_weights={tiny_model_folder}"]))
    config, given = load_parameters(tiny_model_folder)
    state = begin(config, recipe, make_mesh())
    assert state.parameters.keys() < given.keys()
    for name, array in state.weights.items():
        np.testing.assert_array_equal(array, given[name], err_msg=name)


@pytest.mark.slow
def test_profile_flag_writes_a_trace(tmp_path):
    ended = runs.train_here(tmp_path, "--config.train.steps=3", "--profile-steps=2:3")
    assert ended.returncode == 0, ended.stderr
    assert list(tmp_path.glob("profile/**/*.xplane.pb"))


@pytest.mark.slow
def test_debug_nans_stops_at_the_first_nan(tmp_path):
    # The high learning rate makes the weights diverge in a single step.
    flags = ["--config.train.lr=1e12", "--config.train.warmup_steps=0", "--config.train.steps=4"]
    with pytest.raises(FloatingPointError, match="nan"):
        runs.train_here(tmp_path / "run", "--debug-nans", *flags)
