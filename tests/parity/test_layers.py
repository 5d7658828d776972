"""Each layer alone against its official counterpart, in float64: both compute the same numbers up to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from mossformer_jax.model.attention import shift_tokens
from mossformer_jax.model.norms import GroupNorm, InstanceNorm, LayerNorm, ScaleNorm
from mossformer_jax.model.positions import rotate
from tests.parity import oracle
from tests.parity.harness import official_network, our_block, our_network, precision, relative_error, small

CONFIG = small("mossformer2-2spk")
# The largest of these measures 6e-16; float64 has 1e-16, and the longest sum here a few thousand terms.
BOUND = 1e-13
BLOCK = 1  # not the first, so that a wrong order of the stack is noticed


@pytest.fixture(autouse=True)
def float64():
    with precision(CONFIG):
        yield


@pytest.fixture(scope="module")
def official():
    return official_network(CONFIG)


@pytest.fixture(scope="module")
def official_stack(official):
    return official.mask_net.mdl.intra_mdl.mossformerM


@pytest.fixture(scope="module")
def block():
    with precision(CONFIG):
        return our_block(CONFIG, BLOCK)


def activations(rng, channels: int, frames: int = 300, batch: int = 2) -> np.ndarray:
    """(b, d, l)."""
    return rng.standard_normal((batch, channels, frames))


def run_official(module, x_bdl: np.ndarray, time_last: bool = False) -> np.ndarray:
    """The official layers take (b, l, d), save for the convolutions and two norms; (b, d, l) in any case."""
    x = torch.from_numpy(x_bdl)
    with torch.no_grad():
        y = module(x if time_last else x.transpose(1, 2))
    return (y if time_last else y.transpose(1, 2)).numpy()


def error(ours, official, x_bdl: np.ndarray, time_last: bool = False) -> float:
    return relative_error(jax.jit(ours)(x_bdl), run_official(official, x_bdl, time_last))


def set_gain(norm, scale, bias=None):
    """A norm of ours with these numbers."""
    norm.scale[...] = np.asarray(scale)
    if bias is not None:
        norm.bias[...] = np.asarray(bias)
    return norm


def affine(norm: torch.nn.Module, rng) -> torch.nn.Module:
    """A torch norm in float64, away from gain 1 and bias 0."""
    norm = norm.double()
    for parameter in norm.parameters():
        parameter.data = torch.from_numpy(rng.standard_normal(parameter.shape))
    return norm


def test_scale_norm(rng):
    norm = affine(oracle.official_module("mossformer2_block").ScaleNorm(8), rng)
    ours = set_gain(ScaleNorm("float64"), norm.g.detach().numpy()[0])
    assert error(ours, norm, activations(rng, 8)) <= BOUND


def test_scale_norm_clamps_the_norm_of_tiny_inputs(rng):
    norm = affine(oracle.official_module("mossformer2_block").ScaleNorm(8), rng)
    ours = set_gain(ScaleNorm("float64"), norm.g.detach().numpy()[0])
    for level in (3e-5, 1e-5, 1e-6, 1e-9):  # above the clamp at 1e-5, about it, and below
        tiny = level * activations(rng, 8)
        assert error(ours, norm, tiny) <= BOUND, level
    clamped = 1e-6 * activations(rng, 8)
    np.testing.assert_allclose(ours(jnp.asarray(clamped)), clamped / 1e-5 * np.asarray(ours.scale[...]), rtol=BOUND)


@pytest.mark.medium
@pytest.mark.parametrize(
    "level", [1.0, 1e-3]
)  # at 1e-3 the epsilon matters: a wrong one changes the result by percents
def test_layer_norm_group_norm_and_instance_norm(rng, level):
    x_bdl = level * activations(rng, 8)
    for ours, official_norm, time_last in (
        (LayerNorm(8, 1e-5, "float64"), torch.nn.LayerNorm(8, eps=1e-5), False),
        (GroupNorm(8, 1e-8, "float64"), torch.nn.GroupNorm(1, 8, eps=1e-8), True),
        (InstanceNorm(8, 1e-5, "float64"), torch.nn.InstanceNorm1d(8, eps=1e-5, affine=True), True),
    ):
        norm = affine(official_norm, rng)
        set_gain(ours, norm.weight.detach().numpy(), norm.bias.detach().numpy())
        assert error(ours, norm, x_bdl, time_last) <= BOUND, type(ours).__name__


def test_sinusoidal_positions(official):
    with torch.no_grad():
        expected_ld = official.mask_net.pos_enc(torch.zeros(1, 700, CONFIG.model_channels, dtype=torch.float64))
    assert relative_error(our_network(CONFIG).mask_net.positions(700, "float64"), expected_ld.T) <= BOUND


@pytest.mark.medium
def test_rotary_embedding(rng, official_stack):
    queries = activations(rng, CONFIG.query_key_channels, frames=700)
    turned = rotate(jnp.asarray(queries), our_network(CONFIG).mask_net.rotary(700, "float64"))
    rotate_official = official_stack.layers[0].rotary_pos_emb.rotate_queries_or_keys
    assert relative_error(turned, run_official(rotate_official, queries)) <= BOUND


def test_token_shift_delays_the_first_half_of_the_channels(rng, official_stack):
    seen = []
    hook = official_stack.layers[0].to_qk.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    x_bdl = activations(rng, CONFIG.model_channels)
    run_official(official_stack.layers[0], x_bdl)
    hook.remove()
    np.testing.assert_array_equal(shift_tokens(jnp.asarray(x_bdl)), seen[0].transpose(1, 2))


@pytest.mark.medium
def test_conv_projection_with_scale_norm(rng, official_stack, block):
    x_bdl = activations(rng, CONFIG.model_channels)
    assert error(block.attention.to_hidden, official_stack.layers[BLOCK].to_hidden, x_bdl) <= BOUND


def test_conv_projection_with_layer_norm(rng, official_stack, block):
    x_bdl = activations(rng, CONFIG.fsmn_channels)
    assert error(block.fsmn.to_u, official_stack.fsmn[BLOCK].gated_fsmn.to_u, x_bdl) <= BOUND


@pytest.mark.medium
@pytest.mark.parametrize("frames", [7, 256, 600])  # less than a group; one group; two groups and a part
def test_gated_attention(rng, official_stack, block, frames):
    rotation = our_network(CONFIG).mask_net.rotary(frames, "float64")
    x_bdl = activations(rng, CONFIG.model_channels, frames)
    assert error(lambda x: block.attention(x, rotation), official_stack.layers[BLOCK], x_bdl) <= BOUND


@pytest.mark.medium
def test_dense_memory(rng, official_stack, block):
    x_bdl = activations(rng, CONFIG.fsmn_channels)
    official_dense = official_stack.fsmn[BLOCK].gated_fsmn.fsmn.conv
    in_two_dimensions = lambda x_bdl: official_dense(x_bdl[..., None])[..., 0]  # noqa: E731
    assert error(block.fsmn.memory.dense, in_two_dimensions, x_bdl, time_last=True) <= BOUND


@pytest.mark.medium
def test_memory(rng, official_stack, block):
    x_bdl = activations(rng, CONFIG.fsmn_channels)
    assert error(block.fsmn.memory, official_stack.fsmn[BLOCK].gated_fsmn.fsmn, x_bdl) <= BOUND


@pytest.mark.medium
def test_gated_fsmn_block(rng, official_stack, block):
    assert error(block.fsmn, official_stack.fsmn[BLOCK], activations(rng, CONFIG.model_channels)) <= BOUND


def test_encoder(rng, official):
    mixture_bt = rng.standard_normal((2, 1003))
    with torch.no_grad():
        expected = official.enc(torch.from_numpy(mixture_bt))
    assert relative_error(our_network(CONFIG).encoder(jnp.asarray(mixture_bt)), expected) <= BOUND


@pytest.mark.medium
def test_decoder(rng, official):
    features_bnl = activations(rng, CONFIG.encoder_channels)
    with torch.no_grad():
        expected_bt = official.dec(torch.from_numpy(features_bnl)).numpy()
    for num_samples in (expected_bt.shape[1], expected_bt.shape[1] + 5, expected_bt.shape[1] - 5):
        decoded_bt = our_network(CONFIG).decoder(jnp.asarray(features_bnl)[:, None], num_samples)[:, 0]
        padded = np.pad(expected_bt, ((0, 0), (0, 5)))[:, :num_samples]
        assert decoded_bt.shape == padded.shape
        assert relative_error(decoded_bt, padded) <= BOUND
