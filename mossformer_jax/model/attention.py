"""Gated single-head attention: quadratic within groups of frames, linear over the whole signal.

MossFormer (arXiv 2302.11824), section 2.2; officially `FLASH_ShareA_FFConvM`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mossformer_jax.model.config import ModelConfig
from mossformer_jax.model.derivatives import GradientByHand
from mossformer_jax.model.initial import Draws
from mossformer_jax.model.layers import PRODUCTS, ConvProjection, dropout
from mossformer_jax.model.norms import Frames, ScaleNorm, scale_channels, zero_padding
from mossformer_jax.model.positions import rotate
from mossformer_jax.model.units import unit


class OffsetScale(nnx.Module):
    """Four affine copies of the shared query/key projection. gamma starts at N(0, 0.02), beta at 0; both (4, k)."""

    COPIES = 4

    def __init__(self, channels: int, *, param_dtype: DTypeLike, draws: Draws):
        shape = (self.COPIES, channels)
        self.gamma = nnx.Param(draws.normal(shape, 0.02, param_dtype))
        self.beta = nnx.Param(jnp.zeros(shape, param_dtype))

    def __call__(self, x_bkl: Float[Array, "b k l"]) -> list[Float[Array, "b k l"]]:
        gamma, beta = self.gamma[...].astype(x_bkl.dtype), self.beta[...].astype(x_bkl.dtype)
        return [scale_channels(x_bkl, gamma[copy]) + beta[copy][:, None] for copy in range(self.COPIES)]


def shift_tokens(x_bdl: Float[Array, "b d l"]) -> Float[Array, "b d l"]:
    """Delays the first half of the channels by one frame; their first frame becomes zero."""
    half = x_bdl.shape[1] // 2
    delayed = jnp.pad(x_bdl[:, :half, :-1], ((0, 0), (0, 0), (1, 0)))
    return jnp.concatenate([delayed, x_bdl[:, half:]], axis=1)


@GradientByHand
def gate(vu_bel: Float[Array, "b h l"], attended_bel: Float[Array, "b h l"]) -> Float[Array, "b h//2 l"]:
    """Gates the values v and gates u with their attended versions: `att_u v sigmoid(att_v u)`."""
    return _gate(vu_bel, attended_bel)


@unit
def _gate(vu_bel: Array, attended_bel: Array) -> Array:
    (v, u), (attended_v, attended_u) = (jnp.split(x, 2, axis=1) for x in (vu_bel, attended_bel))
    return attended_u * v * jax.nn.sigmoid(attended_v * u)


@unit
def _gate_backward(vu_bel: Array, attended_bel: Array, dy_bel: Array) -> tuple[Array, Array, Array, Array]:
    (v, u), (attended_v, attended_u) = (jnp.split(x, 2, axis=1) for x in (vu_bel, attended_bel))
    opening = jax.nn.sigmoid(attended_v * u)
    let_through = dy_bel * opening
    tilt = let_through * (attended_u * v) * (1.0 - opening)
    return let_through * attended_u, tilt * attended_v, tilt * u, let_through * v


@unit
def _join_halves(first_bel: Array, second_bel: Array) -> Array:
    """A unit, because a concatenation fused with the computation of its inputs cannot be vectorised."""
    return jnp.concatenate([first_bel, second_bel], axis=1)


def _pull_back_gate(residuals: tuple[Array, Array], dy_bel: Array) -> tuple[Array, Array]:
    dv, du, dattended_v, dattended_u = _gate_backward(*residuals, dy_bel)
    return _join_halves(dv, du), _join_halves(dattended_v, dattended_u)


gate.defvjp(lambda vu, attended: (gate(vu, attended), (vu, attended)), _pull_back_gate)


def split_groups(x_bdl: Float[Array, "b d l"], group_size: int) -> Float[Array, "b g d s"]:
    """Cuts a signal into groups of `group_size` frames, the last one zero-padded."""
    batch, channels, length = x_bdl.shape
    num_groups = -(-length // group_size)
    padded = jnp.pad(x_bdl, ((0, 0), (0, 0), (0, num_groups * group_size - length)))
    return jnp.swapaxes(padded.reshape(batch, channels, num_groups, group_size), 1, 2)


def join_groups(x_bgds: Float[Array, "b g d s"], length: int) -> Float[Array, "b d l"]:
    """Undoes `split_groups`."""
    batch, num_groups, channels, group_size = x_bgds.shape
    return jnp.swapaxes(x_bgds, 1, 2).reshape(batch, channels, num_groups * group_size)[:, :, :length]


class GatedAttention(nnx.Module):
    """Applies one shared attention to values and gates, then multiplies them (`gate`)."""

    def __init__(self, config: ModelConfig, *, draws: Draws):
        channels = config.model_channels

        def conv_projection(in_channels: int, out_channels: int) -> ConvProjection:
            norm = ScaleNorm(config.param_dtype)
            return ConvProjection(in_channels, out_channels, norm=norm, config=config, draws=draws)

        self.group_size = config.group_size
        self.dropout_rate = config.dropout
        self.to_hidden = conv_projection(channels, config.hidden_channels)
        self.to_qk = conv_projection(channels, config.query_key_channels)
        self.offset_scale = OffsetScale(config.query_key_channels, param_dtype=config.param_dtype, draws=draws)
        self.to_out = conv_projection(config.hidden_channels // 2, channels)

    @jax.named_scope("attention")
    def __call__(
        self,
        x_bdl: Float[Array, "b d l"],
        rotation: tuple[Array, Array],
        frames: Frames | None = None,
        *,
        key: Array | None = None,
    ) -> Float[Array, "b d l"]:
        keys = [None] * 4 if key is None else list(jax.random.split(key, 4))
        shifted = shift_tokens(x_bdl)
        # [v | u], zero on padding, so that padded frames do not contribute to either attention.
        vu_bel = zero_padding(self.to_hidden(shifted, frames, key=keys[0]), frames)
        qk_bkl = self.to_qk(shifted, frames, key=keys[1])
        quad_q, lin_q, quad_k, lin_k = (rotate(copy_bkl, rotation) for copy_bkl in self.offset_scale(qk_bkl))

        attended_bel = self._quadratic(quad_q, quad_k, vu_bel, keys[2]) + self._linear(lin_q, lin_k, vu_bel, frames)
        # Gradients need only the sum, not its two terms.
        attended_bel = checkpoint_name(attended_bel, PRODUCTS)
        return x_bdl + self.to_out(gate(vu_bel, attended_bel), frames, key=keys[3])

    @jax.named_scope("quadratic")
    def _quadratic(self, q_bkl: Array, k_bkl: Array, vu_bel: Array, key: Array | None) -> Array:
        """`relu(q k^T / s)^2 [v|u]` within each group."""
        q_bgki, k_bgkj, vu_bgej = (split_groups(x, self.group_size) for x in (q_bkl, k_bkl, vu_bel))
        similarity = checkpoint_name(jnp.einsum("bgki,bgkj->bgij", q_bgki, k_bgkj), PRODUCTS) / self.group_size
        weights_bgij = dropout(jnp.square(jax.nn.relu(similarity)), self.dropout_rate, key)
        attended = jnp.einsum("bgij,bgej->bgei", weights_bgij, vu_bgej)
        return join_groups(attended, vu_bel.shape[-1])

    @jax.named_scope("linear")
    def _linear(self, q_bkl: Array, k_bkl: Array, vu_bel: Array, frames: Frames | None) -> Array:
        """`q (k^T [v|u] / l)` over the whole signal, where l is its true number of frames."""
        num_frames = vu_bel.shape[-1] if frames is None else frames.count_b[:, None, None]
        memory_bke = checkpoint_name(jnp.einsum("bkl,bel->bke", k_bkl, vu_bel), PRODUCTS)
        memory_bke = memory_bke / jnp.asarray(num_frames, vu_bel.dtype)
        return jnp.einsum("bke,bkl->bel", memory_bke, q_bkl)
