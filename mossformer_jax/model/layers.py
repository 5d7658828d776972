"""The basic layers of attention and FSMN, with PyTorch's default initialisation.

Activations are channels-first with time last, `(b, channels, l)`: a depthwise convolution is then a sum of shifted
contiguous rows (on a CPU 30 times faster than XLA's grouped convolution), and norms reduce over a leading axis.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from mossformer_jax.model.config import ModelConfig
from mossformer_jax.model.convolution import activate_and_convolve, depthwise_conv, drop
from mossformer_jax.model.derivatives import GradientByHand
from mossformer_jax.model.initial import Draws
from mossformer_jax.model.norms import Frames, LayerNorm, ScaleNorm, scale_channels
from mossformer_jax.model.units import unit

CONV_PROJECTION_TAPS = 17
# Names of the activations that rematerialisation may keep.
PRODUCTS, MASKS = "products", "masks"


@jax.named_scope("dropout")
def dropout(x: Array, rate: float, key: Array | None) -> Array:
    """Zeroes a fraction `rate` of x and scales the rest up; `key=None` (inference) returns x."""
    return drop(x, dropout_mask(x.shape, rate, key), rate)


def dropout_mask(shape: tuple[int, ...], rate: float, key: Array | None) -> Bool[Array, "*shape"] | None:
    """True for values that dropout keeps in an array of this shape; None if it keeps all."""
    if key is None or rate == 0.0:
        return None
    return checkpoint_name(draw_kept(key, shape=shape, rate=rate), MASKS)


@unit
def draw_kept(key: Array, *, shape: tuple[int, ...], rate: float) -> Bool[Array, "*shape"]:
    """True with probability 1 - rate, in steps of 2**-16. Each random word is used for two rows, as drawing is slow."""
    *leading, rows, columns = shape
    words = jax.random.bits(key, (*leading, -(-rows // 2), columns), jnp.uint32)
    halves = jnp.concatenate([words & 0xFFFF, words >> 16], axis=-2)
    return halves[..., :rows, :] >= round(rate * 2**16)


@GradientByHand
def mix_channels(x_bdl: Float[Array, "b d l"], kernel_de: Float[Array, "d e"]) -> Float[Array, "b e l"]:
    """The matrix product of `Linear`. Its gradients are written by hand, because autodiff adds transpositions."""
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
    """Leaky ReLU with a learned slope, one per channel or (`channels=None`) one for all; starts at 0.25."""

    def __init__(self, channels: int | None, param_dtype: DTypeLike):
        self.slope = nnx.Param(jnp.full(() if channels is None else (channels,), 0.25, param_dtype))

    def __call__(self, x_bdl: Float[Array, "b d l"]) -> Float[Array, "b d l"]:
        slope_d = jnp.broadcast_to(self.slope[...].astype(x_bdl.dtype), x_bdl.shape[1:2])
        return jnp.maximum(x_bdl, 0.0) + scale_channels(jnp.minimum(x_bdl, 0.0), slope_d)


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
        z_bel = self.linear(self.norm(x_bdl))
        kept = dropout_mask(z_bel.shape, self.dropout_rate, key)
        # The convolution sees zeros beyond the end of a signal, as without padding.
        valid = None if frames is None else frames.valid_b1l
        return activate_and_convolve(z_bel, self.conv.kernel[...], valid, kept, self.dropout_rate)
