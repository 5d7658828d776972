"""Config files and their overrides."""

from __future__ import annotations

import pytest

from mossformer_jax.configuration import load_config


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        "    return ConfigDict({'train': {'lr': 1e-3, 'steps': 10}, 'name': 'a'})\n"
    )
    return str(path)


def test_fields_can_be_overridden_and_keep_their_types(config_file):
    assert load_config(config_file).train.lr == 1e-3
    config = load_config(config_file, ["--config.train.lr=0.5", "--config.name=b"])
    assert (config.train.lr, config.train.steps, config.name) == (0.5, 10, "b")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.train.lrr=3", 'Did you mean "lr" instead of "lrr"'),
        ("--config.train.lr=fast", "--config.train.lr=fast: could not convert string to float"),
        ("--config.train.steps=2.5", "--config.train.steps=2.5"),
        ("--confg.train.steps=2", "confg.train.steps"),
        ("train.steps=2", "'train.steps=2' is no override"),
    ],
)
def test_a_misspelt_or_mistyped_override_is_named(config_file, override, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_config(config_file, [override])
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"none\.py: no such config file"):
        load_config("none.py")


def test_a_file_that_is_no_config_is_named(tmp_path):
    (tmp_path / "empty.py").touch()
    with pytest.raises(ValueError, match=r"empty\.py: has no function get_config"):
        load_config(str(tmp_path / "empty.py"))
