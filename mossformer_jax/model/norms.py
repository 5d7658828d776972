"""The normalisation layers of MossFormer2, for channels-first activations `(b, channels, l)`.

Statistics are computed in at least float32. Those over time (`GroupNorm`, `InstanceNorm`) only include the true frames
of each signal, so that padding has no effect.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from mossformer_jax.model.derivatives import GradientByHand


class Frames(NamedTuple):
    """Which encoder frames of a padded batch are signal.

    Attributes:
        valid_b1l: True where a frame belongs to the signal.
        count_b: number of such frames per signal, at least 1.
    """

    valid_b1l: Bool[Array, "b 1 l"]
    count_b: Int[Array, " b"]


def zero_padding(x_bdl: Float[Array, "b d l"], frames: Frames | None) -> Float[Array, "b d l"]:
    """Sets frames of padding to zero; `frames=None` means that there is no padding."""
    return x_bdl if frames is None else jnp.where(frames.valid_b1l, x_bdl, jnp.zeros((), x_bdl.dtype))


def _at_least_float32(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def sum_of_products(x_bdl: Array, y_bdl: Array, axes: tuple[int, ...]) -> Array:
    """Sums `x * y` over some axes, which are kept with size 1.

    This is a contraction, because the sum of a product that autodiff generates takes 20 times as long on a CPU.
    """
    kept = "".join(letter for axis, letter in enumerate("bdl") if axis not in axes)
    total = jnp.einsum(f"bdl,bdl->{kept}", x_bdl, y_bdl, precision=lax.Precision.HIGHEST)
    return jnp.expand_dims(total, axes)


@GradientByHand
def scale_channels(x_bdl: Float[Array, "b d l"], scale_d: Float[Array, " d"]) -> Float[Array, "b d l"]:
    """Multiplies each channel by its scale."""
    return x_bdl * scale_d[:, None]


def _scale_channels_backward(residuals: tuple[Array, Array], dy_bdl: Array) -> tuple[Array, Array]:
    x_bdl, scale_d = residuals
    return dy_bdl * scale_d[:, None], sum_of_products(x_bdl, dy_bdl, (0, 2))[0, :, 0]


scale_channels.defvjp(lambda x, scale: (scale_channels(x, scale), (x, scale)), _scale_channels_backward)


@partial(GradientByHand, nondiff_argnums=(2, 3))
def standardise(
    x_bdl: Float[Array, "b d l"], frames: Frames | None, axes: tuple[int, ...], eps: float
) -> Float[Array, "b d l"]:
    """`(x - mean) / sqrt(variance + eps)`, with mean and biased variance over `axes`.

    If time is among the axes, only the true frames of each signal count. The gradient is written by hand so that all
    its sums are contractions.
    """
    return _standardise_forward(x_bdl, frames, axes, eps)[0]


def _standardise_forward(
    x_bdl: Array, frames: Frames | None, axes: tuple[int, ...], eps: float
) -> tuple[Array, tuple[Array, Array, Array | int, Frames | None]]:
    frames = frames if 2 in axes else None
    size = _count(x_bdl, frames, axes)
    centred = x_bdl - jnp.sum(zero_padding(x_bdl, frames), axes, keepdims=True) / size
    counted = zero_padding(centred, frames)
    inverse = lax.rsqrt(jnp.sum(jnp.square(counted), axes, keepdims=True) / size + eps)
    y_bdl = centred * inverse
    return y_bdl, (y_bdl, inverse, size, frames)


def _standardise_backward(
    axes: tuple[int, ...], eps: float, residuals: tuple[Array, Array, Array | int, Frames | None], dy_bdl: Array
) -> tuple[Array, None]:
    y_bdl, inverse, size, frames = residuals
    shift = jnp.sum(dy_bdl, axes, keepdims=True) / size
    tilt = sum_of_products(dy_bdl, y_bdl, axes) / size
    # Frames of padding are shifted and scaled like the others, but do not contribute to the statistics.
    return inverse * (dy_bdl - zero_padding(shift + y_bdl * tilt, frames)), None


standardise.defvjp(_standardise_forward, _standardise_backward)


def _count(x_bdl: Array, frames: Frames | None, axes: tuple[int, ...]) -> Array | int:
    """How many values a mean over `axes` includes."""
    if frames is None:
        return math.prod(x_bdl.shape[axis] for axis in axes)
    channels = x_bdl.shape[1] if 1 in axes else 1
    return frames.count_b.astype(x_bdl.dtype)[:, None, None] * channels


class ScaleNorm(nnx.Module):
    """`x / max(||x|| * channels**-0.5, 1e-5) * g`, one learned scalar g (MossFormer, section 2.2)."""

    EPS = 1e-5

    def __init__(self, param_dtype: DTypeLike):
        self.scale = nnx.Param(jnp.ones((), param_dtype))

    def __call__(self, x_bdl: Float[Array, "b d l"]) -> Float[Array, "b d l"]:
        return scale_norm(_at_least_float32(x_bdl), self.scale[...], self.EPS).astype(x_bdl.dtype)


@partial(GradientByHand, nondiff_argnums=(2,))
def scale_norm(x_bdl: Float[Array, "b d l"], scale: Float[Array, ""], eps: float) -> Float[Array, "b d l"]:
    """`x / max(rms, eps) * scale`, with the RMS over the channels of each frame."""
    return _scale_norm_forward(x_bdl, scale, eps)[0]


def _scale_norm_forward(x_bdl: Array, scale: Array, eps: float) -> tuple[Array, tuple[Array, Array, Array]]:
    # The clamp is applied to the mean square: its gradient at x = 0 is then 0 and not NaN.
    mean_square = jnp.mean(jnp.square(x_bdl), axis=1, keepdims=True)
    inverse_b1l = lax.rsqrt(jnp.maximum(mean_square, eps**2))
    return x_bdl * (inverse_b1l * scale), (x_bdl, scale, inverse_b1l)


def _scale_norm_backward(eps: float, residuals: tuple[Array, Array, Array], dy_bdl: Array) -> tuple[Array, Array]:
    x_bdl, scale, inverse_b1l = residuals
    product_b1l = sum_of_products(x_bdl, dy_bdl, (1,)) * inverse_b1l
    # Where the clamp is active, the norm is a multiplication by a constant.
    clamped = inverse_b1l >= 1.0 / eps
    tilt_b1l = jnp.where(clamped, 0.0, product_b1l * jnp.square(inverse_b1l) / x_bdl.shape[1])
    return scale * (inverse_b1l * dy_bdl - tilt_b1l * x_bdl), jnp.sum(product_b1l).astype(scale.dtype)


scale_norm.defvjp(_scale_norm_forward, _scale_norm_backward)


class _AffineNorm(nnx.Module):
    """Standardises over `AXES`, then applies a gain and a bias per channel, starting at 1 and 0."""

    AXES: tuple[int, ...]

    def __init__(self, channels: int, eps: float, param_dtype: DTypeLike):
        self.eps = eps
        self.scale = nnx.Param(jnp.ones((channels,), param_dtype))
        self.bias = nnx.Param(jnp.zeros((channels,), param_dtype))

    def __call__(self, x_bdl: Float[Array, "b d l"], frames: Frames | None = None) -> Float[Array, "b d l"]:
        y_bdl = standardise(_at_least_float32(x_bdl), frames, self.AXES, self.eps)
        return (scale_channels(y_bdl, self.scale[...]) + self.bias[...][:, None]).astype(x_bdl.dtype)


class LayerNorm(_AffineNorm):
    """Normalises each frame over its channels."""

    AXES = (1,)


class GroupNorm(_AffineNorm):
    """Normalises each signal over all channels and frames (a GroupNorm of one group)."""

    AXES = (1, 2)


class InstanceNorm(_AffineNorm):
    """Normalises each channel of each signal over its frames (biased variance, no running statistics).

    For a single frame, the output is the bias.
    """

    AXES = (2,)
