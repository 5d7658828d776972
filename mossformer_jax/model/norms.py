"""The normalisations of MossFormer2, on channels-first activations `(b, channels, l)`.

Statistics are computed in at least float32. Those that run over time (`GroupNorm`, `InstanceNorm`) take the true
extent of each signal, so that padding changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int


class Frames(NamedTuple):
    """Which encoder frames of a padded batch are signal.

    Attributes:
        valid_b1l: True where a frame belongs to the signal.
        count_b: number of such frames a signal, at least 1.
    """

    valid_b1l: Bool[Array, "b 1 l"]
    count_b: Int[Array, " b"]


def zero_padding(x_bdl: Float[Array, "b d l"], frames: Frames | None) -> Float[Array, "b d l"]:
    """Zeroes the frames that are padding; `frames=None` means that there is none."""
    return x_bdl if frames is None else jnp.where(frames.valid_b1l, x_bdl, jnp.zeros((), x_bdl.dtype))


def _at_least_float32(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _affine(x_bdl: Array, scale_d: Array, bias_d: Array) -> Array:
    return x_bdl * scale_d[:, None] + bias_d[:, None]


def _normalise_over_time(x_bdl: Array, axes: tuple[int, ...], eps: float, frames: Frames | None) -> Array:
    """Zero mean, unit (biased) variance over `axes` and the true frames of each signal."""
    if frames is None:
        mean = jnp.mean(x_bdl, axes, keepdims=True)
        variance = jnp.mean(jnp.square(x_bdl - mean), axes, keepdims=True)
    else:
        count_b11 = frames.count_b.astype(x_bdl.dtype)[:, None, None]
        size = count_b11 * (x_bdl.shape[1] if 1 in axes else 1)
        mean = jnp.sum(zero_padding(x_bdl, frames), axes, keepdims=True) / size
        variance = jnp.sum(zero_padding(jnp.square(x_bdl - mean), frames), axes, keepdims=True) / size
    return (x_bdl - mean) * lax.rsqrt(variance + eps)


class ScaleNorm(nnx.Module):
    """`x / max(||x|| * channels**-0.5, 1e-5) * g`, one learned scalar g (MossFormer, section 2.2)."""

    EPS = 1e-5

    def __init__(self, param_dtype: DTypeLike):
        self.scale = nnx.Param(jnp.ones((), param_dtype))

    def __call__(self, x_bdl: Float[Array, "b d l"]) -> Float[Array, "b d l"]:
        x = _at_least_float32(x_bdl)
        # The clamp is applied to the mean square: its gradient at x = 0 is then 0 and not NaN.
        mean_square = jnp.mean(jnp.square(x), axis=1, keepdims=True)
        inverse_rms = lax.rsqrt(jnp.maximum(mean_square, self.EPS**2))
        return (x * (inverse_rms * self.scale[...])).astype(x_bdl.dtype)


class _AffineNorm(nnx.Module):
    """A norm with a gain and a bias a channel, starting at 1 and 0."""

    def __init__(self, channels: int, eps: float, param_dtype: DTypeLike):
        self.eps = eps
        self.scale = nnx.Param(jnp.ones((channels,), param_dtype))
        self.bias = nnx.Param(jnp.zeros((channels,), param_dtype))


class LayerNorm(_AffineNorm):
    """Normalises each frame over its channels."""

    def __call__(self, x_bdl: Float[Array, "b d l"]) -> Float[Array, "b d l"]:
        x = _at_least_float32(x_bdl)
        mean = jnp.mean(x, axis=1, keepdims=True)
        variance = jnp.mean(jnp.square(x - mean), axis=1, keepdims=True)
        y = (x - mean) * lax.rsqrt(variance + self.eps)
        return _affine(y, self.scale[...], self.bias[...]).astype(x_bdl.dtype)


class GroupNorm(_AffineNorm):
    """Normalises each signal over all channels and frames (a GroupNorm of one group)."""

    def __call__(self, x_bdl: Float[Array, "b d l"], frames: Frames | None = None) -> Float[Array, "b d l"]:
        y = _normalise_over_time(_at_least_float32(x_bdl), (1, 2), self.eps, frames)
        return _affine(y, self.scale[...], self.bias[...]).astype(x_bdl.dtype)


class InstanceNorm(_AffineNorm):
    """Normalises each channel of each signal over its frames (biased variance, no running statistics).

    One frame alone gives the bias.
    """

    def __call__(self, x_bdl: Float[Array, "b d l"], frames: Frames | None = None) -> Float[Array, "b d l"]:
        y = _normalise_over_time(_at_least_float32(x_bdl), (2,), self.eps, frames)
        return _affine(y, self.scale[...], self.bias[...]).astype(x_bdl.dtype)
