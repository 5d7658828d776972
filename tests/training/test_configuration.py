"""Config files and their overrides."""

from __future__ import annotations

import functools
import operator
from types import SimpleNamespace

import pytest
from ml_collections import ConfigDict

from mossformer_jax.model import ModelConfig
from mossformer_jax.training.configuration import (
    changed_fields,
    check_mixtures,
    load_config,
    read_saved_config,
    resolve,
    save_config,
    section,
)
from mossformer_jax.training.recipe import Recipe
from tests.training.runs import TINY

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


def test_references_to_a_field_follow_its_changes(config_file):
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
        ("--config.train.seeds=(1", r"--config.train.seeds=\(1: must be a tuple, such as \(1, 2\)$"),
        ("--config.train.seeds=(0.5,)", "must be a tuple, such as"),
        ("--confg.train.steps=2", "'--confg.train.steps=2' is not an override; write overrides as --config.data.root="),
        ("train.steps=2", "'train.steps=2' is not an override"),
        ("--config.train.steps", "'--config.train.steps' is not an override"),
    ],
)
def test_a_misspelt_or_mistyped_override_is_named(config_file, override, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_config(config_file, [override])
    assert "\n" not in str(raised.value)


@pytest.mark.own_checks
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data.train.babble=3", "data.train.babble.share=1"],
            r"babble\.share=1: --config\.data\.train\.babble is 3, ",
        ),
        (
            ["data.train.babble={'a.b': 2}"],
            r"--config\.data\.train\.babble=\{'a\.b': 2\}: .* dots",
        ),
        (["model.num_sources=None"], "num_sources=None is not allowed: must be of type int"),
        (["model.sample_rate=None"], "sample_rate=None is not allowed: must be of type int"),
    ],
)
def test_an_option_that_cannot_be_set_is_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        resolve(load_config(str(TINY), [f"--config.{override}" for override in overrides]))


@pytest.mark.parametrize("text", ["{[]: 1}", "-" * 100_000 + "1"])
def test_a_text_that_is_no_literal_is_a_string(text):
    config = load_config(str(TINY), [f"--config.data.train.babble={text}"])
    assert config.data.train.babble == text


def test_a_file_may_have_variants(config_file):
    assert load_config(config_file).width == 3
    assert load_config(f"{config_file}:large").width == 9
    with pytest.raises(ValueError, match=r"config\.py: has no variant 'huge'; must be one of large"):
        load_config(f"{config_file}:huge")


@pytest.mark.parametrize("path", ["none.py", "none.py:large", "none", "configs/none"])
def test_a_missing_file_is_named(path):
    with pytest.raises(FileNotFoundError, match=f"{path}: no such config file"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"config\.py: has no function get_config\(\)"),
        ("def get_config():\n    pass\n", r"config\.py: has no function get_config\(\) returning a ConfigDict"),
        ("def get_config():\n    return {}\n", r"config\.py: has no function get_config\(\) returning a ConfigDict"),
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


@pytest.fixture
def config():
    """A complete config, as small as possible."""
    train = {"layout": "csv", "path": "a.csv", "sample_rate": 8000, "speeds": (95, 100)}
    data = {"batch_size": 4, "seconds": 2.0, "train": train, "validation": {"layout": "csv", "path": "b.csv"}}
    return ConfigDict({"model": section(ModelConfig()), "data": data, "train": section(Recipe())})


@pytest.mark.parametrize(("text", "gains"), [("5.6,0.9", (5.6, 0.9)), ("(5.6, -0.9)", (5.6, -0.9)), ("None", None)])
def test_an_optional_tuple_of_the_model_takes_a_value_and_none(tmp_path, text, gains):
    (tmp_path / "config.py").write_text(
        "from ml_collections import ConfigDict\n"
        "from mossformer_jax.training.configuration import section\n"
        "from mossformer_jax.model import ModelConfig\n"
        "get_config = lambda: ConfigDict({'model': section(ModelConfig())})\n"
    )
    fields = load_config(str(tmp_path / "config.py"), [f"--config.model.output_gains={text}"]).model.to_dict()
    assert ModelConfig.from_dict(fields) == ModelConfig(output_gains=gains)


def test_a_whole_config_is_resolved(config):
    config.model.num_blocks, config.train.steps = 2, 7
    model, recipe, data = resolve(config)
    assert (model, recipe) == (ModelConfig(num_blocks=2), Recipe(steps=7))
    assert data.train == config.data.train.to_dict()
    assert (data.seconds, data.num_workers, data.test) == (2.0, 0, None)  # the last two by default


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("eval", {}, "a config must have the sections model, data, train, but this one has data, eval, model, train"),
        ("train", 3, "a config must have the sections"),
        ("model.num_block", 3, "unknown model config field 'num_block'; did you mean 'num_blocks'"),
        ("train.lrr", 3, "unknown config.train field 'lrr'; did you mean 'lr'"),
        ("train.lr", None, "config.train field lr=None is not allowed: must be of type float"),
        ("train.accumulation", 3, "batch_size=4 is not allowed: must be a multiple of config.train.accumulation=3"),
        ("data.sed", 3, "unknown config.data field 'sed'; did you mean 'seed'"),
        ("data.batch_size", 0, "config.data field batch_size=0 is not allowed: must be 1 or more"),
        ("data.seconds", 1e-9, "config.data field seconds=1e-09 is not allowed: must be at least one sample at"),
        ("data.seconds", 0.0, "seconds=0.0 is not allowed: must be above 0"),
        ("data.seconds", float("inf"), "seconds=inf is not allowed"),
        ("data.seed", -1, "seed=-1 is not allowed: must be from 0 to"),
        ("data.num_workers", -1, "num_workers=-1 is not allowed: must be 0 or more"),
        ("data.num_workers", 10**6, "num_workers=1000000 is not allowed: must be at most 1024"),
        ("data.batch_size", 10**9, "batch_size=1000000000 is not allowed: must be at most 1,048,576"),
        ("data.seconds", 1e24, r"config.data field seconds=1e\+24 is not allowed: must be at most"),
        ("data.seconds", 1e9, "seconds=1000000000.0 is not allowed: must be at most 250,000 for batch_size"),
        ("train.steps", 10**30, "config.train field steps=10{30} is not allowed: must be at most"),
        ("train.lr", 1e300, r"config.train field lr=1e\+300 is not allowed"),
        ("data.num_workers", 1.5, "num_workers=1.5 is not allowed: must be of type int"),
        ("data.max_failed_share", 2.0, "max_failed_share=2.0 is not allowed: must be from 0 to 1"),
        ("data.validation", None, "config.data field validation=None is not allowed: must be a section"),
        ("data.train.sample_rate", 16000, "config.data.train has sample_rate=16000, but config.model has 8000; make"),
        ("data.validation.num_sources", 3, "config.data.validation has num_sources=3, but config.model has 2; make"),
    ],
)
@pytest.mark.own_checks
def test_the_error_for_a_bad_config_names_the_field(config, name, value, message):
    *parents, leaf = name.split(".")
    with config.ignore_type():
        functools.reduce(operator.getitem, parents, config)[leaf] = value
    with pytest.raises(ValueError, match=message) as raised:
        resolve(config)
    assert "\n" not in str(raised.value)


def test_the_single_source_of_mix_single_is_accepted(config):
    config.model.num_sources = 1
    config.data.train.update(num_sources=2, task="mix_single")
    resolve(config)


def test_mixtures_that_the_model_is_not_for_are_refused():
    check_mixtures(ModelConfig(), SimpleNamespace(num_sources=2, sample_rate=8000), "test")
    with pytest.raises(ValueError, match=r"config\.data\.test has num_sources=3, but config\.model has 2"):
        check_mixtures(ModelConfig(), SimpleNamespace(num_sources=3, sample_rate=8000), "test")


def test_a_saved_config_reads_back(config, tmp_path):
    config.train.steps = 7
    save_config(tmp_path / "config.json", config)
    saved = read_saved_config(tmp_path / "config.json")
    assert resolve(saved)[:2] == resolve(config)[:2]
    assert changed_fields(saved, config) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_changed_fields_are_listed_with_both_values(config):
    changed = config.copy_and_resolve_references()
    changed.train.steps, changed.data.train.speeds, changed.data.seed = 7, (100,), 5
    assert changed_fields(config, changed) == {
        "train.steps": (None, 7),
        "data.train.speeds": ([95, 100], [100]),
        "data.seed": (None, 5),
    }


@pytest.mark.parametrize("text", ['{"model": {', "[]", '{"format": "mossformer-jax", "model": {}}'])
def test_a_file_that_is_no_saved_config_is_named(tmp_path, text):
    path = tmp_path / "config.json"
    with pytest.raises(FileNotFoundError, match=r"config\.json: no such file"):
        read_saved_config(path)
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config\.json: is (damaged|not the config of a training run)"):
        read_saved_config(path)
