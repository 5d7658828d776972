"""Depthwise convolution over time as a sum of shifted rows, alone or combined with an activation and dropout.

Its gradients are written by hand: on a CPU, the gradients that JAX derives, of a grouped convolution or of the shifted
sum below, take 7 to 90 times as long as the forward pass.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from mossformer_jax.model.derivatives import GradientByHand
from mossformer_jax.model.units import unit

# Samples per row in `correlate_channels`: the fastest of 16, 32, 64 and 128, for both 17 and 39 taps.
BLOCK = 32


@partial(GradientByHand, nondiff_argnums=(2,))
@jax.named_scope("depthwise_conv")
def depthwise_conv(
    x_bel: Float[Array, "b e l"], kernel_te: Float[Array, "taps e"], dilation: int = 1
) -> Float[Array, "b e l"]:
    """Correlates each channel with its own kernel, zero-padded to keep the length. `taps` is odd."""
    return _convolve(x_bel, kernel_te, dilation=dilation)


def _depthwise_conv_forward(x_bel: Array, kernel_te: Array, dilation: int) -> tuple[Array, tuple[Array, Array]]:
    return depthwise_conv(x_bel, kernel_te, dilation), (x_bel, kernel_te)


@jax.named_scope("depthwise_conv")
def _depthwise_conv_backward(dilation: int, residuals: tuple[Array, Array], dy_bel: Array) -> tuple[Array, Array]:
    x_bel, kernel_te = residuals
    dx_bel = _convolve(dy_bel, kernel_te[::-1], dilation=dilation)
    return dx_bel, _kernel_gradient(x_bel, dy_bel, kernel_te, dilation)


depthwise_conv.defvjp(_depthwise_conv_forward, _depthwise_conv_backward)


@unit
def _convolve(x_bel: Array, kernel_te: Array, *, dilation: int) -> Array:
    padded = _pad_time(x_bel, dilation * (kernel_te.shape[0] // 2))
    return add_up_taps(padded, kernel_te, dilation).astype(x_bel.dtype)


@partial(GradientByHand, nondiff_argnums=(4,))
def activate_and_convolve(
    z_bel: Float[Array, "b e l"],
    kernel_te: Float[Array, "taps e"],
    valid_b1l: Bool[Array, "b 1 l"] | None,
    kept_bel: Bool[Array, "b e l"] | None,
    dropout_rate: float,
) -> Float[Array, "b e l"]:
    """`dropout(h + depthwise_conv(h, kernel))`, where h is silu(z), set to zero in frames that are not valid.

    On a CPU, each pass over the activations takes as long as a convolution. Forward and backward each need two passes:
    one computes h with zero padding, the other adds up the taps and the residual (as one more tap).

    Args:
        z_bel: input of the activation.
        kernel_te: one kernel per channel, with an odd number of taps.
        valid_b1l: True in frames of the signal; None: all frames.
        kept_bel: True for values that dropout keeps; None keeps all.
        dropout_rate: fraction of the values that dropout zeroes; the rest is scaled up.
    """
    padded = _activate(z_bel, valid_b1l, reach=kernel_te.shape[0] // 2)
    return _convolve_and_drop(padded, kernel_te, kept_bel, rate=dropout_rate).astype(z_bel.dtype)


def _activate_and_convolve_forward(
    z_bel: Array, kernel_te: Array, valid_b1l: Array | None, kept_bel: Array | None, dropout_rate: float
) -> tuple[Array, tuple[Array, Array, Array | None, Array | None]]:
    y_bel = activate_and_convolve(z_bel, kernel_te, valid_b1l, kept_bel, dropout_rate)
    return y_bel, (z_bel, kernel_te, valid_b1l, kept_bel)


def _activate_and_convolve_backward(
    dropout_rate: float, residuals: tuple[Array, Array, Array | None, Array | None], dy_bel: Array
) -> tuple[Array, Array, None, None]:
    z_bel, kernel_te, valid_b1l, kept_bel = residuals
    reach, length = kernel_te.shape[0] // 2, z_bel.shape[-1]
    padded = _drop_and_pad(dy_bel, kept_bel, rate=dropout_rate, reach=reach)
    dz_bel = _convolve_and_pull_back_silu(padded, kernel_te[::-1], z_bel, valid_b1l).astype(z_bel.dtype)
    h_bel, dh_bel = _silu(z_bel, valid_b1l), lax.slice_in_dim(padded, reach, reach + length, axis=-1)
    return dz_bel, _kernel_gradient(h_bel, dh_bel, kernel_te, 1), None, None


activate_and_convolve.defvjp(_activate_and_convolve_forward, _activate_and_convolve_backward)


def _silu(z_bel: Array, valid_b1l: Array | None) -> Array:
    return _where(valid_b1l, jax.nn.silu(z_bel))


def _where(condition: Array | None, x: Array) -> Array:
    return x if condition is None else jnp.where(condition, x, jnp.zeros((), x.dtype))


def drop(x_bel: Array, kept_bel: Array | None, rate: float) -> Array:
    """Zeroes the values that dropout does not keep and scales the rest by 1 / (1 - rate); None keeps all."""
    return x_bel if kept_bel is None else _where(kept_bel, x_bel / (1.0 - rate))


@unit
def _activate(z_bel: Array, valid_b1l: Array | None, *, reach: int) -> Array:
    return _pad_time(_silu(z_bel, valid_b1l), reach)


@unit
def _convolve_and_drop(padded_bel: Array, kernel_te: Array, kept_bel: Array | None, *, rate: float) -> Array:
    return drop(add_up_taps(padded_bel, kernel_te, residual=True), kept_bel, rate)


@unit
def _drop_and_pad(dy_bel: Array, kept_bel: Array | None, *, rate: float, reach: int) -> Array:
    return _pad_time(drop(dy_bel, kept_bel, rate), reach)


@unit
def _convolve_and_pull_back_silu(padded_bel: Array, kernel_te: Array, z_bel: Array, valid_b1l: Array | None) -> Array:
    dh_bel = _where(valid_b1l, add_up_taps(padded_bel, kernel_te, residual=True))
    z_bel = z_bel.astype(dh_bel.dtype)
    opening = jax.nn.sigmoid(z_bel)
    return dh_bel * (opening * (1.0 + z_bel * (1.0 - opening)))


def _pad_time(x_bel: Array, reach: int) -> Array:
    return lax.pad(x_bel, jnp.zeros((), x_bel.dtype), ((0, 0, 0), (0, 0, 0), (reach, reach, 0)))


@partial(jax.jit, static_argnames=("dilation", "residual"), inline=True)
def add_up_taps(
    padded_bel: Float[Array, "b e p"],
    kernel_te: Float[Array, "taps e"],
    dilation: int = 1,
    *,
    residual: bool = False,
) -> Float[Array, "b e l"]:
    """The convolution of an already padded input, plus the input if `residual`, in at least float32.

    On a TPU this is XLA's grouped convolution, whose memory traffic is 3 times the size of x (that of the shifted sum
    is 9 times with 17 taps and 147 times with 39). Elsewhere it is the shifted sum, which is ten times faster on a CPU.
    """
    return lax.platform_dependent(
        padded_bel,
        kernel_te,
        tpu=partial(_convolve_groups, dilation=dilation, residual=residual),
        default=partial(_add_up_shifted, dilation=dilation, residual=residual),
    )


def _add_up_shifted(padded_bel: Array, kernel_te: Array, *, dilation: int, residual: bool) -> Array:
    taps = kernel_te.shape[0]
    length = padded_bel.shape[-1] - dilation * (taps - 1)
    padded_bel = padded_bel.astype(_accumulator(padded_bel))
    kernel_te = kernel_te.astype(padded_bel.dtype)
    if residual:
        kernel_te = kernel_te.at[taps // 2].add(1.0)
    shifted = (
        lax.slice_in_dim(padded_bel, dilation * tap, dilation * tap + length, axis=-1) * kernel_te[tap][:, None]
        for tap in range(taps)
    )
    return sum(shifted, start=jnp.zeros((), padded_bel.dtype))


def _convolve_groups(padded_bel: Array, kernel_te: Array, *, dilation: int, residual: bool) -> Array:
    reach = dilation * (kernel_te.shape[0] // 2)
    y_bel = lax.conv_general_dilated(
        padded_bel,
        kernel_te.astype(padded_bel.dtype)[:, None],
        window_strides=(1,),
        padding=[(0, 0)],
        rhs_dilation=(dilation,),
        dimension_numbers=("NCH", "HIO", "NCH"),
        feature_group_count=padded_bel.shape[1],
        precision=lax.Precision.HIGHEST,
        preferred_element_type=_accumulator(padded_bel),
    )
    # Not as one more tap: in bfloat16, adding 1 to the middle tap would round the tap away.
    return y_bel + padded_bel[:, :, reach : padded_bel.shape[-1] - reach] if residual else y_bel


def _accumulator(x: Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


def _kernel_gradient(x_bel: Array, dy_bel: Array, kernel_te: Array, dilation: int) -> Array:
    lags_et = correlate_channels(x_bel, dy_bel, reach=dilation * (kernel_te.shape[0] // 2))
    return lags_et[:, ::dilation].T.astype(kernel_te.dtype)


def correlate_channels(
    x_bel: Float[Array, "b e l"], y_bel: Float[Array, "b e l"], reach: int
) -> Float[Array, "e 2*{reach}+1"]:
    """`sum over b and l of x[l + lag] y[l]` for every lag from -reach to reach, with x zero beyond its ends.

    One reduction per lag would run along the last axis and could not be vectorised. Instead, time is cut into rows of
    BLOCK samples: in the matrix product of the rows of y and x of a channel, every diagonal is a lag.
    """
    batch, channels, length = x_bel.shape
    num_rows = -(-length // BLOCK)
    num_neighbours = -(-(BLOCK + 2 * reach) // BLOCK)
    width, num_lags = num_neighbours * BLOCK, 2 * reach + 1
    after = (num_rows + num_neighbours - 1) * BLOCK - length - reach
    x_rows = jnp.pad(x_bel, ((0, 0), (0, 0), (reach, after))).reshape(batch, channels, -1, BLOCK)
    x_rows = jnp.concatenate([x_rows[:, :, i : i + num_rows] for i in range(num_neighbours)], axis=-1)
    y_rows = jnp.pad(y_bel, ((0, 0), (0, 0), (0, num_rows * BLOCK - length))).reshape(batch, channels, -1, BLOCK)
    products = jnp.einsum("berj,beri->eij", x_rows, y_rows, preferred_element_type=_accumulator(x_bel))
    # Reshaping to rows with one more column moves lag j - i from a diagonal into a column.
    skewed = jnp.pad(products.reshape(channels, -1), ((0, 0), (0, BLOCK))).reshape(channels, BLOCK, width + 1)
    return skewed[:, :, :num_lags].sum(axis=1)
