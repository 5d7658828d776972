"""Properties of the layers that parity tests do not cover: gradients, dropout, initialisation, dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mossformer_jax.model import ModelConfig, MossFormer2
from mossformer_jax.model.convolution import (
    BLOCK,
    _add_up_shifted,
    _convolve_groups,
    correlate_channels,
    depthwise_conv,
)
from mossformer_jax.model.layers import dropout
from mossformer_jax.model.norms import ScaleNorm
from mossformer_jax.model.positions import RotaryPositions, rotate


def xla_depthwise_conv(x_bel, kernel_te, dilation):
    """The same convolution with XLA's operation, differentiated by JAX."""
    reach = dilation * (kernel_te.shape[0] // 2)
    return jax.lax.conv_general_dilated(
        x_bel,
        kernel_te.T[:, None],
        window_strides=(1,),
        padding=[(reach, reach)],
        rhs_dilation=(dilation,),
        dimension_numbers=("NCW", "OIW", "NCW"),
        feature_group_count=x_bel.shape[1],
    )


# Lengths shorter than the kernel, around one block of the kernel gradient, and longer than several blocks.
@pytest.mark.medium
@pytest.mark.parametrize(
    ("length", "taps", "dilation"), [(1, 17, 1), (5, 39, 2), (BLOCK, 17, 1), (3 * BLOCK + 7, 39, 2)]
)
def test_depthwise_convolution_and_its_gradients_equal_those_of_xla(rng, length, taps, dilation):
    with jax.enable_x64(True):
        x, dy = jnp.asarray(rng.normal(size=(2, 2, 3, length)))
        kernel = jnp.asarray(rng.normal(size=(taps, 3)))
        y, pull_back = jax.vjp(lambda *inputs: depthwise_conv(*inputs, dilation), x, kernel)
        expected_y, expected_pull_back = jax.vjp(lambda *inputs: xla_depthwise_conv(*inputs, dilation), x, kernel)
        np.testing.assert_allclose(y, expected_y, rtol=0, atol=1e-12)  # rounding of sums of 39 terms of magnitude 1
        for ours, expected in zip(pull_back(dy), expected_pull_back(dy), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("residual", [False, True])
def test_the_tpu_branch_computes_the_same_convolution(rng, residual):
    """Runs the TPU branch on this machine, with padding for 2 x 8 taps on both sides."""
    padded = jnp.asarray(rng.normal(size=(2, 3, 50)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(17, 3)), jnp.float32)
    on_tpu = _convolve_groups(padded, kernel, dilation=2, residual=residual)
    elsewhere = _add_up_shifted(padded, kernel, dilation=2, residual=residual)
    assert on_tpu.shape == (2, 3, 18)
    np.testing.assert_allclose(on_tpu, elsewhere, rtol=0, atol=1e-5)


def test_correlate_channels_equals_the_direct_sums(rng):
    x, y = rng.normal(size=(2, 2, 3, 50)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (4, 4)))
    expected = [(padded[:, :, lag : lag + 50] * y).sum((0, 2)) for lag in range(9)]
    np.testing.assert_allclose(
        correlate_channels(jnp.asarray(x), jnp.asarray(y), 4), np.stack(expected, axis=1), rtol=0, atol=1e-4
    )


def test_scale_norm_has_a_finite_gradient_for_silence():
    norm = ScaleNorm(jnp.float32)
    gradient = jax.grad(lambda x: norm(x).sum())(jnp.zeros((1, 4, 2)))
    # Below the clamp, the norm is a multiplication by 1e5.
    np.testing.assert_allclose(gradient, 1e5, rtol=1e-6)


def test_dropout_is_off_without_a_key_and_keeps_the_mean_with_one():
    x = jnp.ones((1000, 100))
    assert dropout(x, 0.1, None) is x
    dropped = dropout(x, 0.1, jax.random.key(0))
    assert set(np.unique(dropped)) == {np.float32(0.0), np.float32(1.0 / 0.9)}
    # Five standard errors (0.001 each) of a proportion over 100,000 draws.
    assert float(jnp.mean(dropped == 0.0)) == pytest.approx(0.1, abs=0.005)


def test_rotary_embedding_keeps_norms_and_products_depend_only_on_distance(rng):
    rotation = RotaryPositions(8, 12)(40, jnp.float32)
    q, k = (jnp.broadcast_to(jnp.asarray(rng.normal(size=(12, 1)), jnp.float32), (12, 40)) for _ in range(2))
    products = np.asarray(rotate(q, rotation).T @ rotate(k, rotation))
    np.testing.assert_allclose(np.diag(products, 5), products[0, 5], rtol=1e-4)
    assert np.ptp(products[0]) > 0.1 * abs(products[0, 0])
    np.testing.assert_array_equal(rotate(q, rotation)[8:], q[8:])


@pytest.mark.medium
def test_initial_parameters_have_the_distributions_of_pytorch():
    config = ModelConfig(encoder_channels=48, model_channels=32, num_blocks=2, query_key_channels=16, fsmn_channels=24)
    state = nnx.to_flat_state(nnx.state(MossFormer2(config, rngs=nnx.Rngs(0)), nnx.Param))
    values = {".".join(map(str, path)): np.asarray(variable) for path, variable in state}
    fan_in = {
        "encoder.kernel": 16,
        "decoder.kernel": 16,  # PyTorch's fan-in of a transposed convolution to one channel
        "mask_net.input_projection.kernel": 48,
        "mask_net.blocks.attention.to_hidden.linear.kernel": 32,
        "mask_net.blocks.attention.to_hidden.linear.bias": 32,
        "mask_net.blocks.attention.to_out.linear.kernel": 64,
        "mask_net.blocks.attention.to_out.conv.kernel": 17,
        "mask_net.blocks.fsmn.memory.dense.conv1.kernel": 39,
        "mask_net.blocks.fsmn.memory.dense.conv2.kernel": 78,
        "mask_net.mask_projection.kernel": 32,
    }
    for name, size in fan_in.items():
        bound = size**-0.5
        assert np.abs(values[name]).max() <= bound, name
        # A uniform draw has standard deviation bound / sqrt(3); the tolerance of 25 % is for 96 or more draws.
        assert values[name].std() == pytest.approx(bound / 3**0.5, rel=0.25), name
    assert values["mask_net.blocks.attention.offset_scale.gamma"].std() == pytest.approx(0.02, rel=0.2)
    starts = {"scale": 1.0, "slope": 0.25, "beta": 0.0}
    for name, value in values.items():
        leaf = name.split(".")[-1]
        if leaf in starts:
            np.testing.assert_array_equal(value, starts[leaf], err_msg=name)
    kernel = values["mask_net.blocks.attention.to_hidden.linear.kernel"]
    assert not np.array_equal(kernel[0], kernel[1]), "every block has its own draw"
