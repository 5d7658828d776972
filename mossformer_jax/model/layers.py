"""The layers that attention and FSMN are built of, with PyTorch's default initialisation.

Activations are channels-first with time last, `(b, channels, l)`: a depthwise convolution is then a sum of shifted
contiguous rows (on a CPU 30 times faster than XLA's grouped convolution), and norms reduce over a leading axis.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from mossformer_jax.model.config import ModelConfig
from mossformer_jax.model.initial import Draws
from mossformer_jax.model.norms import Frames, LayerNorm, ScaleNorm, scale_channels, zero_padding
from mossformer_jax.model.units import unit

CONV_PROJECTION_TAPS = 17
# What rematerialisation may keep, by name.
PRODUCTS, MASKS = "products", "masks"
# Samples in a row of `correlate_channels`: the fastest of 16, 32, 64 and 128 at 17 and at 39 taps.
BLOCK = 32


@jax.named_scope("dropout")
def dropout(x: Array, rate: float, key: Array | None) -> Array:
    """Zeroes a share `rate` of x and scales the rest up; `key=None` (inference) returns x."""
    if key is None or rate == 0.0:
        return x
    keep = checkpoint_name(draw_kept(key, shape=x.shape, rate=rate), MASKS)
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros((), x.dtype))


@unit
def draw_kept(key: Array, *, shape: tuple[int, ...], rate: float) -> Bool[Array, "*shape"]:
    """True with a probability of 1 - rate, to a 65,536th. Each random word serves two rows: drawing them takes long."""
    *leading, rows, columns = shape
    words = jax.random.bits(key, (*leading, -(-rows // 2), columns), jnp.uint32)
    halves = jnp.concatenate([words & 0xFFFF, words >> 16], axis=-2)
    return halves[..., :rows, :] >= round(rate * 2**16)


@jax.custom_vjp
def mix_channels(x_bdl: Float[Array, "b d l"], kernel_de: Float[Array, "d e"]) -> Float[Array, "b e l"]:
    """The product that a `Linear` is. Its gradients are written out: JAX's own come transposed."""
    return jnp.einsum("bdl,de->bel", x_bdl, kernel_de)


def _mix_channels_forward(x_bdl: Array, kernel_de: Array) -> tuple[Array, tuple[Array, Array]]:
    return mix_channels(x_bdl, kernel_de), (x_bdl, kernel_de)


def _mix_channels_backward(residuals: tuple[Array, Array], dy_bel: Array) -> tuple[Array, Array]:
    x_bdl, kernel_de = residuals
    return jnp.einsum("de,bel->bdl", kernel_de, dy_bel), jnp.einsum("bdl,bel->de", x_bdl, dy_bel)


mix_channels.defvjp(_mix_channels_forward, _mix_channels_backward)


class Linear(nnx.Module):
    """A 1x1 convolution: mixes the channels of each frame. kernel (in, out), bias (out,) or None."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        use_bias: bool = True,
        dtype: DTypeLike,
        param_dtype: DTypeLike,
        draws: Draws,
    ):
        self.dtype = dtype
        self.kernel = nnx.Param(draws.uniform((in_channels, out_channels), in_channels, param_dtype))
        bias = draws.uniform((out_channels,), in_channels, param_dtype) if use_bias else None
        self.bias = nnx.Param(bias) if bias is not None else None

    def __call__(self, x_bdl: Float[Array, "b d l"]) -> Float[Array, "b e l"]:
        kernel_de = self.kernel[...].astype(self.dtype)
        y_bel = checkpoint_name(mix_channels(x_bdl.astype(self.dtype), kernel_de), PRODUCTS)
        return y_bel if self.bias is None else y_bel + self.bias[...].astype(self.dtype)[:, None]


class PReLU(nnx.Module):
    """Leaky ReLU with a learned slope, one for all channels (`channels=None`) or one a channel; starts at 0.25."""

    def __init__(self, channels: int | None, param_dtype: DTypeLike):
        self.slope = nnx.Param(jnp.full(() if channels is None else (channels,), 0.25, param_dtype))

    def __call__(self, x_bdl: Float[Array, "b d l"]) -> Float[Array, "b d l"]:
        slope_d = jnp.broadcast_to(self.slope[...].astype(x_bdl.dtype), x_bdl.shape[1:2])
        return jnp.maximum(x_bdl, 0.0) + scale_channels(jnp.minimum(x_bdl, 0.0), slope_d)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
@jax.named_scope("depthwise_conv")
def depthwise_conv(
    x_bel: Float[Array, "b e l"], kernel_te: Float[Array, "taps e"], dilation: int = 1
) -> Float[Array, "b e l"]:
    """Correlates each channel with its own kernel; zero-padded to keep the length. `taps` is odd.

    Its gradient is written by hand: XLA's own, of a grouped convolution or of the shifted sum below, takes 7 to 90
    times as long as the forward pass on a CPU.
    """
    return lax.platform_dependent(
        x_bel,
        kernel_te,
        tpu=partial(_convolve_groups, dilation=dilation),
        default=partial(_add_up_shifted, dilation=dilation),
    )


def _convolve_groups(x_bel: Array, kernel_te: Array, *, dilation: int) -> Array:
    """As XLA has it. On a TPU it moves 3 times the bytes of x, the shifted sum 9 (17 taps) to 147 (39 taps) times."""
    reach = dilation * (kernel_te.shape[0] // 2)
    return lax.conv_general_dilated(
        x_bel,
        kernel_te[:, None],
        window_strides=(1,),
        padding=[(reach, reach)],
        rhs_dilation=(dilation,),
        dimension_numbers=("NCH", "HIO", "NCH"),
        feature_group_count=x_bel.shape[1],
        precision=lax.Precision.HIGHEST,
    )


@unit
def _add_up_shifted(x_bel: Array, kernel_te: Array, *, dilation: int) -> Array:
    taps, length = kernel_te.shape[0], x_bel.shape[-1]
    reach = dilation * (taps // 2)
    zero = jnp.zeros((), x_bel.dtype)
    padded = lax.pad(x_bel, zero, ((0, 0, 0), (0, 0, 0), (reach, reach, 0))).astype(_accumulator(x_bel))
    shifted = (
        lax.slice_in_dim(padded, dilation * tap, dilation * tap + length, axis=-1) * kernel_te[tap][:, None]
        for tap in range(taps)
    )
    return sum(shifted, start=jnp.zeros((), padded.dtype)).astype(x_bel.dtype)


def _accumulator(x: Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


def _depthwise_conv_forward(x_bel: Array, kernel_te: Array, dilation: int) -> tuple[Array, tuple[Array, Array]]:
    return depthwise_conv(x_bel, kernel_te, dilation), (x_bel, kernel_te)


@jax.named_scope("depthwise_conv")
def _depthwise_conv_backward(dilation: int, residuals: tuple[Array, Array], dy_bel: Array) -> tuple[Array, Array]:
    x_bel, kernel_te = residuals
    dx_bel = depthwise_conv(dy_bel, kernel_te[::-1], dilation)
    lags_et = correlate_channels(x_bel, dy_bel, reach=dilation * (kernel_te.shape[0] // 2))
    return dx_bel, lags_et[:, ::dilation].T.astype(kernel_te.dtype)


def correlate_channels(
    x_bel: Float[Array, "b e l"], y_bel: Float[Array, "b e l"], reach: int
) -> Float[Array, "e 2*reach+1"]:
    """`sum over b and l of x[l + lag] y[l]` for every lag from -reach to reach, x zero beyond its ends.

    One reduction a lag runs along the last axis and cannot be vectorised. Here time is cut into rows of BLOCK samples
    instead: the product of each channel's rows of y with its rows of x holds every lag along a diagonal.
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
    # Rows of one column more put lag j - i, a diagonal, into a column.
    skewed = jnp.pad(products.reshape(channels, -1), ((0, 0), (0, BLOCK))).reshape(channels, BLOCK, width + 1)
    return skewed[:, :, :num_lags].sum(axis=1)


depthwise_conv.defvjp(_depthwise_conv_forward, _depthwise_conv_backward)


class DepthwiseConv(nnx.Module):
    """Depthwise convolution over time, no bias, zero-padded to keep the length. kernel (taps, channels)."""

    def __init__(self, channels: int, taps: int, *, param_dtype: DTypeLike, draws: Draws):
        self.kernel = nnx.Param(draws.uniform((taps, channels), taps, param_dtype))

    def __call__(self, x_bel: Float[Array, "b e l"]) -> Float[Array, "b e l"]:
        return depthwise_conv(x_bel, self.kernel[...].astype(x_bel.dtype), 1)


class ConvProjection(nnx.Module):
    """norm -> Linear -> SiLU -> x + depthwise convolution -> dropout (MossFormer, section 2.2: convolution module)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: ScaleNorm | LayerNorm,
        config: ModelConfig,
        draws: Draws,
    ):
        self.norm = norm
        dtype, param_dtype = config.compute_dtype, config.param_dtype
        self.linear = Linear(in_channels, out_channels, dtype=dtype, param_dtype=param_dtype, draws=draws)
        self.conv = DepthwiseConv(out_channels, CONV_PROJECTION_TAPS, param_dtype=param_dtype, draws=draws)
        self.dropout_rate = config.dropout

    @jax.named_scope("conv_projection")
    def __call__(
        self, x_bdl: Float[Array, "b d l"], frames: Frames | None = None, *, key: Array | None = None
    ) -> Float[Array, "b e l"]:
        # Beyond its end a signal is zero to the convolution, as if it had not been padded.
        h_bel = zero_padding(jax.nn.silu(self.linear(self.norm(x_bdl))), frames)
        return dropout(h_bel + self.conv(h_bel), self.dropout_rate, key)
