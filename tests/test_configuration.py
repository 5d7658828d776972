"""Config files and their overrides."""

from __future__ import annotations

import pytest

from mossformer_jax.configuration import load_config

CONFIG = """
from ml_collections import ConfigDict, config_dict

def get_config(large: bool = False):
    fields = {"lr": 1e-3, "min_lr": 0.0, "steps": 10, "remat": False, "seeds": (1, 2), "note": None}
    config = ConfigDict({"train": fields, "data": {"root": "data", "seed": 0}, "width": 9 if large else 3})
    config.train.decay = config_dict.placeholder(float)
    config.data.train = ConfigDict({"root": config.data.get_oneway_ref("root")})
    return config
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return str(path)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.lr=0.5", 0.5),
        ("train.lr=1", 1.0),
        ("train.lr=None", None),
        ("train.steps=7", 7),
        ("train.remat=true", True),
        ("train.remat=False", False),
        ("train.seeds=(3,)", (3,)),
        ("train.seeds=3", (3,)),
        ("train.seeds=3,4", (3, 4)),
        ("train.seeds=()", ()),
        ("train.decay=0.9", 0.9),
        ("train.decay=1", 1.0),
        ("train.decay=None", None),
        ("train.note=any words, 3", "any words, 3"),
        ("data.root=/speech=2", "/speech=2"),
        ("data.root=7", "7"),
    ],
)
def test_a_field_takes_a_value_of_its_type(config_file, override, value):
    config = load_config(config_file, [f"--config.{override}"])
    section, _, name = override.partition("=")[0].partition(".")
    assert config[section][name] == value
    assert type(config[section][name]) is type(value)


def test_what_refers_to_a_field_follows_it(config_file):
    assert load_config(config_file, ["--config.data.root=/a"]).data.train.root == "/a"
    config = load_config(config_file, ["--config.data.train.root=/b"])
    assert (config.data.root, config.data.train.root) == ("data", "/b")


def test_the_last_override_of_a_field_holds(config_file):
    assert load_config(config_file, ["--config.train.steps=1", "--config.train.steps=2"]).train.steps == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.train.step=3", r"--config.train.step: no such field; did you mean --config.train.steps or"),
        ("--config.trian.lr=3", r"--config.trian.lr: no such field; did you mean --config.train.lr or"),
        ("--config.train.seed=3", r"--config.train.seed: no such field; did you mean --config.data.seed or"),
        ("--config.train=3", r"--config.train: no such field; did you mean --config.train\.\w+ or"),
        ("--config.train.lr=fast", "--config.train.lr=fast: must be a number$"),
        ("--config.train.decay=fast", "--config.train.decay=fast: must be a number$"),
        ("--config.train.steps=2.5", "--config.train.steps=2.5: must be a whole number$"),
        ("--config.train.remat=yes", "--config.train.remat=yes: must be True or False$"),
        ("--config.train.seeds=(1", r"--config.train.seeds=\(1: must be a tuple, as \(1, 2\)$"),
        ("--config.train.seeds=(0.5,)", "must be a tuple, as"),
        ("--confg.train.steps=2", "'--confg.train.steps=2' is no override; write them as --config.data.root="),
        ("train.steps=2", "'train.steps=2' is no override"),
        ("--config.train.steps", "'--config.train.steps' is no override"),
    ],
)
def test_a_misspelt_or_mistyped_override_is_named(config_file, override, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_config(config_file, [override])
    assert "\n" not in str(raised.value)


def test_a_file_may_have_variants(config_file):
    assert load_config(config_file).width == 3
    assert load_config(f"{config_file}:large").width == 9
    with pytest.raises(ValueError, match=r"config\.py: has no variant 'huge'; it has large"):
        load_config(f"{config_file}:huge")


@pytest.mark.parametrize("path", ["none.py", "none.py:large"])
def test_a_missing_file_is_named(path):
    with pytest.raises(FileNotFoundError, match=f"{path}: no such config file"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"config\.py: has no function get_config\(\)"),
        ("def get_config():\n    pass\n", r"config\.py: has no function get_config\(\) that gives a config"),
        ("import there_is_none", r"config\.py, line 1: No module named 'there_is_none' \(ModuleNotFoundError\)"),
        ("def get_config():\n    return 1 / 0\n", r"config\.py, line 2: division by zero \(ZeroDivisionError\)"),
        ("\ndef get_config(:\n", r"config\.py, line 2: .*\(SyntaxError\)"),
        ("def get_config():\n    raise ValueError('two\\nlines')\n", r"config\.py, line 2: two lines \(ValueError\)"),
    ],
)
def test_a_file_that_is_no_config_is_named(config_file, text, message):
    with open(config_file, "w") as file:
        file.write(text)
    with pytest.raises(ValueError, match=message) as raised:
        load_config(config_file)
    assert "\n" not in str(raised.value)
