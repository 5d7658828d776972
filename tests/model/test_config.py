"""Model configs are checked on creation, with one-line errors."""

import dataclasses
import json

import pytest

from mossformer_jax.model import PRESETS, ModelConfig


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_round_trips_through_a_dict(name):
    config = ModelConfig.preset(name)
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_output_gains_round_trip_through_json():
    config = ModelConfig(output_gains=(5.6, -0.9))
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_error_for_an_unknown_preset_lists_all_presets():
    with pytest.raises(
        ValueError, match=r"no preset 'mossformer3'; must be one of mossformer2-2spk, .*mossformer-m-2spk"
    ):
        ModelConfig.preset("mossformer3")


def test_a_preset_accepts_overrides():
    assert ModelConfig.preset("mossformer2-3spk", dtype="bfloat16") == ModelConfig(num_sources=3, dtype="bfloat16")


def test_the_error_for_an_unknown_field_suggests_the_closest_one():
    with pytest.raises(ValueError, match=r"unknown model config field 'num_block'; did you mean 'num_blocks'\?"):
        ModelConfig.from_dict({"num_block": 3})


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("num_sources", 0, "1 or more"),
        ("num_blocks", 2.0, "of type int"),
        ("num_blocks", True, "of type int"),
        ("model_channels", 33, "an even number"),
        ("query_key_channels", 0, "an even number"),
        ("fsmn_channels", "256", "of type int or None"),
        ("kernel_size", 12, "a multiple of stride=8"),
        ("dropout", 1.0, "at least 0 and below 1"),
        ("dtype", "float16", "one of float32, bfloat16, float64"),
        ("remat", True, "of type str"),
        ("remat", "all", "one of none, products, blocks"),
        ("input_level_db", "-25", "of type float or None"),
        ("input_level_db", float("nan"), "finite, or None"),
        ("sample_rate", 10**30, "at most 4,294,967,296"),
        ("sample_rate", 10_000_000, "at most 1,000,000"),
        ("sample_rate", 1, "at least 100"),
        ("model_channels", 10**9, "at most 16,384"),
        ("model_channels", 8192, "such that model_channels squared times num_blocks=24 is at most 268,435,456"),
        ("encoder_channels", 10**6, "at most 16,384"),
        ("num_blocks", 10**6, "at most 1,024"),
        ("num_sources", 1000, "at most 64"),
        ("stride", 2**20, "at most 16,384"),
        ("group_size", 2**20, "at most 8,192"),
        ("query_key_channels", 2**20, "at most 8,192"),
        ("fsmn_channels", 2**20, "at most 16,384"),
        ("input_level_db", 1e6, "from -200 to 200, or None"),
        ("input_level_db", 1e300, "at most 1e+12"),
        ("shifts", 0, "1 or more"),
        ("shifts", 3, "a divisor of stride=8"),
        ("output_gains", 2.0, "of type tuple or None"),
        ("output_gains", (1.0,), "2 finite numbers other than 0 (num_sources=2), or None"),
        ("output_gains", (1.0, 0.0), "2 finite numbers other than 0"),
        ("output_gains", (1.0, float("inf")), "2 finite numbers other than 0"),
        ("output_gains", (1.0, "2"), "2 finite numbers other than 0"),
        ("output_gains", (1.0, True), "2 finite numbers other than 0"),
    ],
)
@pytest.mark.own_checks
def test_the_error_gives_the_value_and_the_allowed_values(field, value, allowed):
    with pytest.raises(ValueError, match=f"field {field}=") as error:
        ModelConfig(**{field: value})
    assert allowed in str(error.value)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(("stored", "remat"), [(True, "blocks"), (False, "none")])
def test_boolean_remat_of_earlier_versions_is_read(stored, remat):
    assert ModelConfig.from_dict({"remat": stored}).remat == remat


def test_a_config_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().num_blocks = 3


@pytest.mark.parametrize(("num_samples", "num_frames"), [(16, 1), (23, 1), (24, 2), (8000, 999)])
def test_num_frames_equals_that_of_an_unpadded_strided_convolution(num_samples, num_frames):
    assert ModelConfig().num_frames(num_samples) == num_frames
