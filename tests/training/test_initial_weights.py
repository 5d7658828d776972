"""The weights that a training starts from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from flax import nnx

from mossformer_jax.model import MossFormer2
from mossformer_jax.training import loop
from mossformer_jax.training.configuration import load_config, resolve, save_config
from mossformer_jax.training.initial_weights import initial_weights, load_sized_config, take_sizes
from mossformer_jax.training.recipe import Recipe
from mossformer_jax.weights import flatten, load_parameters, save_model
from mossformer_jax.weights.parameters import parameter_shapes
from tests.training.runs import TINY


@pytest.fixture
def two_blocks(tmp_path, tiny_config):
    """A stored model of two blocks at 16 kHz."""
    config = dataclasses.replace(tiny_config, num_blocks=2, sample_rate=16000)
    save_model(tmp_path / "two", config, nnx.state(MossFormer2(config, rngs=nnx.Rngs(1))))
    return tmp_path / "two"


@pytest.mark.medium
def test_the_model_and_its_data_follow_the_initial_weights(two_blocks, tmp_path, tiny_config):
    config = load_config("demo", [f"--config.train.initial_weights={two_blocks}"])
    dropout = config.model.dropout
    take_sizes(config, tmp_path / "run", [])
    model, _, data = resolve(config)
    assert model == dataclasses.replace(tiny_config, num_blocks=2, sample_rate=16000, dropout=dropout)
    assert data.train["sample_rate"] == 16000


def test_an_overridden_size_is_kept(two_blocks, tmp_path):
    config = load_config(str(TINY), [f"--config.train.initial_weights={two_blocks}", "--config.model.num_blocks=3"])
    take_sizes(config, tmp_path / "run", ["num_blocks"])
    assert (config.model.num_blocks, config.model.sample_rate) == (3, 16000)


def test_a_resumed_run_keeps_its_sizes_without_its_initial_weights(tmp_path):
    config = load_config(str(TINY), ["--config.train.initial_weights=gone"])
    with pytest.raises(FileNotFoundError, match="gone"):
        take_sizes(config, tmp_path, [])
    save_config(tmp_path / "config.json", load_config(str(TINY), ["--config.model.num_blocks=2"]))
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    take_sizes(config, tmp_path, [])
    assert config.model.num_blocks == 2


@pytest.mark.medium
def test_partial_weights_for_a_third_source_draw_only_the_projection_to_sources(tiny_model_folder, tiny_config, caplog):
    three = dataclasses.replace(tiny_config, num_sources=3)
    recipe = Recipe(initial_weights=str(tiny_model_folder), partial=True)
    weights, (_, stored) = initial_weights(three, recipe), load_parameters(tiny_model_folder)
    drawn = initial_weights(three, Recipe())
    assert {name: array.shape for name, array in weights.items()} == parameter_shapes(three)
    fresh = {name for name in weights if name.startswith("mask_net.source_projection.")}
    assert fresh
    for name, array in weights.items():
        np.testing.assert_array_equal(array, drawn[name] if name in fresh else stored[name], err_msg=name)
    (message,) = caplog.messages
    assert all(name in message for name in fresh)
    assert "encoder" not in message


@pytest.mark.medium
@pytest.mark.parametrize("num_blocks", [1, 3])
def test_partial_weights_for_another_depth_take_the_first_blocks(two_blocks, num_blocks, caplog):
    stored_config, stored = load_parameters(two_blocks)
    config = dataclasses.replace(stored_config, num_blocks=num_blocks)
    weights = initial_weights(config, Recipe(initial_weights=str(two_blocks), partial=True))
    drawn = flatten(nnx.state(MossFormer2(config, rngs=nnx.Rngs(0))))
    assert {name: array.shape for name, array in weights.items()} == parameter_shapes(config)
    for name, array in weights.items():
        if name.startswith("mask_net.blocks."):
            np.testing.assert_array_equal(array[:2], stored[name][:num_blocks], err_msg=name)
            np.testing.assert_array_equal(array[2:], drawn[name][2:], err_msg=name)
        else:
            np.testing.assert_array_equal(array, stored[name], err_msg=name)
    assert ("blocks 3 to 3" in caplog.text) == (num_blocks == 3)


def test_partial_weights_are_taken_only_on_request(two_blocks, tiny_config):
    recipe = Recipe(initial_weights=str(two_blocks))
    with pytest.raises(
        ValueError, match=r"use --config.model.sample_rate=16000 --config.model.num_blocks=2, or take .*partial"
    ):
        initial_weights(tiny_config, recipe)


@pytest.mark.medium
def test_the_log_of_a_run_names_the_parameters_drawn_at_random(two_blocks, tmp_path, capsys):
    flags = [f"--config.train.initial_weights={two_blocks}", "--config.model.num_blocks=3"]
    config = load_sized_config(str(TINY), [*flags, "--config.train.partial=true", "--config.train.steps=1"])
    workdir = tmp_path / "run"
    training = loop.Training(config, workdir)
    training._train = lambda *_: None
    training.run()
    message = "does not have these parameters, which are initialised randomly: blocks 3 to 3"
    first, *rest = (workdir / "log.txt").read_text().splitlines()
    assert "warning: " in first
    assert message in first
    assert not any(message in line for line in rest)
    printed = capsys.readouterr()
    assert message not in printed.out  # it was on stderr before


@pytest.mark.medium
def test_a_warning_names_another_sample_rate_of_partial_weights(two_blocks, tiny_config, caplog):
    at_8k = dataclasses.replace(tiny_config, num_blocks=2)
    initial_weights(at_8k, Recipe(initial_weights=str(two_blocks), partial=True))
    (message,) = caplog.messages
    assert message.startswith(f"{two_blocks}: was trained at 16000 Hz; at 8000 Hz,")
