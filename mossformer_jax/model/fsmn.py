"""The gated dilated FSMN block, MossFormer2's replacement for a recurrent layer.

MossFormer2 (arXiv 2312.11825), section 2.3; officially `Gated_FSMN_Block_Dilated`.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mossformer_jax.model.config import ModelConfig
from mossformer_jax.model.convolution import depthwise_conv
from mossformer_jax.model.initial import Draws
from mossformer_jax.model.layers import ConvProjection, DepthwiseConv, Linear, PReLU
from mossformer_jax.model.norms import Frames, InstanceNorm, LayerNorm, zero_padding

MEMORY_TAPS = 39
NORM_EPS = 1e-5


class PairedConv(nnx.Module):
    """Grouped, dilated convolution over time: output i reads the adjacent input channels 2i and 2i + 1.

    kernel (taps, 2, channels), no bias, zero-padded to keep the length.
    """

    DILATION = 2

    def __init__(self, channels: int, taps: int, *, param_dtype: DTypeLike, draws: Draws):
        self.kernel = nnx.Param(draws.uniform((taps, 2, channels), 2 * taps, param_dtype))

    def __call__(self, x_bel: Float[Array, "b h l"]) -> Float[Array, "b h//2 l"]:
        batch, doubled, length = x_bel.shape
        pairs = x_bel.reshape(batch, doubled // 2, 2, length)
        kernel = self.kernel[...].astype(x_bel.dtype)
        first, second = (depthwise_conv(pairs[:, :, i], kernel[:, i], self.DILATION) for i in range(2))
        return first + second


class DenseMemory(nnx.Module):
    """Two densely connected memory layers. The second, with dilation 2, sees the input and output of the first."""

    def __init__(self, channels: int, *, param_dtype: DTypeLike, draws: Draws):
        self.conv1 = DepthwiseConv(channels, MEMORY_TAPS, param_dtype=param_dtype, draws=draws)
        self.norm1 = InstanceNorm(channels, NORM_EPS, param_dtype)
        self.prelu1 = PReLU(channels, param_dtype)
        self.conv2 = PairedConv(channels, MEMORY_TAPS, param_dtype=param_dtype, draws=draws)
        self.norm2 = InstanceNorm(channels, NORM_EPS, param_dtype)
        self.prelu2 = PReLU(channels, param_dtype)

    def __call__(self, x_bfl: Float[Array, "b f l"], frames: Frames | None = None) -> Float[Array, "b f l"]:
        x = zero_padding(x_bfl, frames)
        y1 = self.prelu1(self.norm1(self.conv1(x), frames))
        both = jnp.concatenate([zero_padding(y1, frames), x], axis=1)
        return self.prelu2(self.norm2(self.conv2(both), frames))


class Memory(nnx.Module):
    """`u + DenseMemory(project(relu(linear(u))))`."""

    def __init__(self, channels: int, *, dtype: DTypeLike, param_dtype: DTypeLike, draws: Draws):
        self.linear = Linear(channels, channels, dtype=dtype, param_dtype=param_dtype, draws=draws)
        self.project = Linear(channels, channels, use_bias=False, dtype=dtype, param_dtype=param_dtype, draws=draws)
        self.dense = DenseMemory(channels, param_dtype=param_dtype, draws=draws)

    @jax.named_scope("memory")
    def __call__(self, u_bfl: Float[Array, "b f l"], frames: Frames | None = None) -> Float[Array, "b f l"]:
        return u_bfl + self.dense(self.project(jax.nn.relu(self.linear(u_bfl))), frames)


class GatedFSMN(nnx.Module):
    """A bottleneck with a memory branch gated by a branch without memory, with a residual connection around it."""

    def __init__(self, config: ModelConfig, *, draws: Draws):
        if config.fsmn_channels is None:
            raise ValueError("model config field fsmn_channels=None has no FSMN block")
        channels, inner = config.model_channels, config.fsmn_channels
        param_dtype = config.param_dtype
        linear = partial(Linear, dtype=config.compute_dtype, param_dtype=param_dtype, draws=draws)

        def conv_projection() -> ConvProjection:
            norm = LayerNorm(inner, NORM_EPS, param_dtype)
            return ConvProjection(inner, inner, norm=norm, config=config, draws=draws)

        self.input_projection = linear(channels, inner)
        self.input_prelu = PReLU(None, param_dtype)
        self.input_norm = LayerNorm(inner, NORM_EPS, param_dtype)
        self.to_u = conv_projection()
        self.to_v = conv_projection()
        self.memory = Memory(inner, dtype=config.compute_dtype, param_dtype=param_dtype, draws=draws)
        self.output_norm = LayerNorm(inner, NORM_EPS, param_dtype)
        self.output_projection = linear(inner, channels)

    @jax.named_scope("fsmn")
    def __call__(
        self, x_bdl: Float[Array, "b d l"], frames: Frames | None = None, *, key: Array | None = None
    ) -> Float[Array, "b d l"]:
        key_u, key_v = (None, None) if key is None else jax.random.split(key)
        h_bfl = self.input_norm(self.input_prelu(self.input_projection(x_bdl)))
        u = self.to_u(h_bfl, frames, key=key_u)
        v = self.to_v(h_bfl, frames, key=key_v)
        gated = v * self.memory(u, frames) + h_bfl
        return x_bdl + self.output_projection(self.output_norm(gated))
