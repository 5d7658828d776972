"""Padding changes nothing: padded batches of ours against the official code, which separates each signal alone."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import torch
from flax import nnx

from mossformer_jax.model import PRESETS, Buffer, ModelConfig
from mossformer_jax.scoring import pit_si_sdr_loss
from mossformer_jax.weights import build_network, flatten, load_model, save_model
from tests.parity import oracle
from tests.parity.harness import (
    mixtures,
    official_gradients,
    official_separation,
    our_network,
    our_separation,
    precision,
    relative_error,
    small,
    speakers,
    to_ours,
)

# The documented bounds. Measured: 1.5e-6 (4e-6 at full size) and 1.3e-15, and 4e-14 in gradients, all of it rounding.
FLOAT32_BOUND = 1e-5
FLOAT64_BOUND = 1e-10
FULL_SIZE_BOUND = 3e-5

PADDED = 4200  # samples: 524 frames, three groups of 256
LENGTHS = np.array(
    [
        4200,  # no padding at all
        4199,  # one sample of padding: the last frame straddles the end
        2064,  # one frame more than a group
        2056,  # exactly one group; two groups of padding
        1001,  # less than a group, the last sample in no frame
        24,  # two frames
        16,  # one frame
    ]
)


@pytest.fixture(autouse=True)
def one_frame(monkeypatch):
    # PyTorch raises an error for an InstanceNorm of a single frame, although the result (the bias) is well defined.
    monkeypatch.setattr(torch.nn.functional, "_verify_spatial_size", lambda size: None)


@functools.cache
def official_alone(preset: str, length: int) -> np.ndarray:
    """The official separation, in float64, of the signal that has this length of LENGTHS."""
    row = LENGTHS.tolist().index(length)
    return official_separation(small(preset), mixtures(len(LENGTHS), PADDED)[row : row + 1, :length])[0]


def padded_with(signals: np.ndarray, lengths: np.ndarray, padding: float | np.ndarray) -> np.ndarray:
    """The signals (b, ..., t), each with `padding` (one value, or an array like them) from its length on."""
    lengths = lengths.reshape(-1, *[1] * (signals.ndim - 1))
    return np.where(np.arange(signals.shape[-1]) < lengths, signals, padding)


@pytest.mark.medium
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("dtype", "bound"), [("float32", FLOAT32_BOUND), ("float64", FLOAT64_BOUND)])
def test_a_padded_batch_separates_as_each_signal_alone(preset, dtype, bound):
    batch = padded_with(mixtures(len(LENGTHS), PADDED), LENGTHS, 0.0)
    ours = our_separation(small(preset, dtype), batch, LENGTHS)
    for sources_ct, length in zip(ours, LENGTHS.tolist(), strict=True):
        assert relative_error(sources_ct[:, :length], official_alone(preset, length)) <= bound, length
        np.testing.assert_array_equal(sources_ct[:, length:], 0.0)


@pytest.mark.medium
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("content", ["nan", "inf", "noise"])
def test_the_content_of_the_padding_does_not_matter(preset, content, rng):
    config, signals = small(preset, "float32"), mixtures(len(LENGTHS), PADDED)
    padding = 1e6 * rng.standard_normal(signals.shape) if content == "noise" else float(content)
    ours = our_separation(config, padded_with(signals, LENGTHS, padding), LENGTHS)
    expected = our_separation(config, padded_with(signals, LENGTHS, 0.0), LENGTHS)
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.medium
@pytest.mark.parametrize("length", [4103, 2056, 1001, 16])
def test_padding_a_single_signal_by_whole_groups_does_not_change_its_sources(length):
    config, signal, length_1 = small("mossformer2-2spk"), mixtures(1, 6152), np.array([length])
    ours = our_separation(config, padded_with(signal, length_1, np.nan), length_1)
    assert relative_error(ours[..., :length], official_separation(config, signal[:, :length])) <= FLOAT64_BOUND


def our_padded_gradients(config: ModelConfig, references_bct: np.ndarray, lengths_b: np.ndarray):
    """Gradients of our loss, for every trained parameter; the padding is NaN."""
    with precision(config):
        graphdef, params, buffers = nnx.split(our_network(config), nnx.Param, Buffer)

        @jax.jit
        def gradients(params, buffers, references_bct, lengths_b):
            def loss(params):
                estimates = nnx.merge(graphdef, params, buffers)(references_bct.sum(1), lengths_b)
                return pit_si_sdr_loss(estimates, references_bct, lengths_b)

            return jax.grad(loss)(params)

        return flatten(gradients(params, buffers, padded_with(references_bct, lengths_b, np.nan), lengths_b))


@pytest.mark.medium
@pytest.mark.parametrize(
    ("preset", "options"),
    [
        pytest.param("mossformer2-2spk", {}, marks=pytest.mark.slow),
        # Three sources and direct decoding on v1, which compiles in a third of the time; all else is common.
        ("mossformer-m-2spk", {"num_sources": 3, "direct_decoding": True}),
    ],
)
def test_every_gradient_of_a_padded_batch_is_the_mean_of_those_of_each_signal_alone(preset, options):
    config, lengths = dataclasses.replace(small(preset), **options), np.array([2504, 2503, 1001, 24])
    references_bct = speakers(len(lengths), config.num_sources, max(lengths))
    alone = [
        official_gradients(config, references[None, :, :length])[1]
        for references, length in zip(references_bct, lengths, strict=True)
    ]
    errors = {
        name: relative_error(ours, np.mean([gradients[name] for gradients in alone], axis=0))
        for name, ours in our_padded_gradients(config, references_bct, lengths).items()
    }
    # Not with max(), which ignores NaN.
    assert {name: error for name, error in errors.items() if not error <= FLOAT64_BOUND} == {}


@pytest.mark.medium
def test_a_loaded_model_separates_a_padded_batch_as_each_signal_alone(tmp_path):
    preset, lengths = "mossformer2-2spk", np.array([1200, 1001, 16])
    config, signals = small(preset, "float32"), mixtures(3, 1200).astype(np.float32)
    save_model(tmp_path / "model", config, nnx.state(our_network(config)))
    ours = np.asarray(load_model(tmp_path / "model")(padded_with(signals, lengths, np.float32(np.nan)), lengths))
    for b, length in enumerate(lengths):
        alone = official_separation(small(preset), signals[b : b + 1, :length])
        assert relative_error(ours[b, :, :length], alone[0]) <= FLOAT32_BOUND, length


@pytest.mark.slow
def test_a_full_size_model_separates_a_padded_batch_as_each_signal_alone():
    config, lengths = ModelConfig.preset("mossformer2-2spk"), np.array([4003, 2999])
    signals = mixtures(2, 5000)
    official = oracle.build(config, dtype=torch.float64)  # not kept, unlike the small ones
    network = build_network(config, to_ours(official.state_dict(), config))
    ours = our_separation(config, padded_with(signals, lengths, np.nan), lengths, network)
    for b, length in enumerate(lengths):
        alone = oracle.forward(official, signals[b : b + 1, :length])
        assert relative_error(ours[b, :, :length], alone[0]) <= FULL_SIZE_BOUND, length
