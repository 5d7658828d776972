"""The learned encoder and decoder filterbanks, as matrix products over overlapping frames."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.lax import Precision
from jaxtyping import Array, Float

from mossformer_jax.model.config import ModelConfig
from mossformer_jax.model.initial import Draws


class Encoder(nnx.Module):
    """Strided convolution and ReLU, no bias, no padding. kernel (kernel_size, n)."""

    def __init__(self, config: ModelConfig, *, draws: Draws):
        self.stride = config.stride
        shape = (config.kernel_size, config.encoder_channels)
        self.kernel = nnx.Param(draws.uniform(shape, config.kernel_size, config.param_dtype))

    @jax.named_scope("encoder")
    def __call__(self, mixture_bt: Float[Array, "b t"]) -> Float[Array, "b n l"]:
        kernel_tn = self.kernel[...]
        batch, overlap = mixture_bt.shape[0], kernel_tn.shape[0] // self.stride
        num_frames = (mixture_bt.shape[1] - kernel_tn.shape[0]) // self.stride + 1
        num_hops = num_frames - 1 + overlap
        hops = mixture_bt[:, : num_hops * self.stride].reshape(batch, num_hops, self.stride)
        frames_blt = jnp.concatenate([hops[:, i : i + num_frames] for i in range(overlap)], axis=-1)
        frames_blt = frames_blt.astype(kernel_tn.dtype)
        return jax.nn.relu(jnp.einsum("blt,tn->bnl", frames_blt, kernel_tn, precision=Precision.HIGHEST))


class Decoder(nnx.Module):
    """Transposed convolution, no bias: each frame becomes `kernel_size` samples, overlapping frames add up.

    kernel (n, kernel_size), shared by all sources.
    """

    def __init__(self, config: ModelConfig, *, draws: Draws):
        self.stride = config.stride
        shape = (config.encoder_channels, config.kernel_size)
        # PyTorch's fan-in of a transposed convolution with one output channel is its kernel size.
        self.kernel = nnx.Param(draws.uniform(shape, config.kernel_size, config.param_dtype))

    @jax.named_scope("decoder")
    def __call__(self, features_bcnl: Float[Array, "b c n l"], num_samples: int) -> Float[Array, "b c t"]:
        """Decodes, then zero-pads or cuts the end to `num_samples`."""
        kernel_nt = self.kernel[...]
        features_bcnl = features_bcnl.astype(kernel_nt.dtype)
        frames_bclt = jnp.einsum("bcnl,nt->bclt", features_bcnl, kernel_nt, precision=Precision.HIGHEST)
        batch, sources, num_frames, kernel_size = frames_bclt.shape
        overlap = kernel_size // self.stride
        parts = jnp.split(frames_bclt, overlap, axis=-1)
        pads = [((0, 0), (0, 0), (i, overlap - 1 - i), (0, 0)) for i in range(overlap)]
        hops = functools.reduce(jnp.add, map(jnp.pad, parts, pads))
        samples_bct = hops.reshape(batch, sources, (num_frames - 1 + overlap) * self.stride)[:, :, :num_samples]
        return jnp.pad(samples_bct, ((0, 0), (0, 0), (0, num_samples - samples_bct.shape[-1])))


def sinusoids(kernel_size: int, num_channels: int) -> Float[np.ndarray, "kernel_size n"]:
    """Sinusoidal initial kernels of the encoder; transposed, those of the decoder.

    A quarter of the channels are windowed cosines at evenly spaced frequencies up to half the sample rate, the second
    quarter their sines, and the other half both with opposite sign, because the encoder's ReLU removes one sign. The
    kernels have the same standard deviation as the random ones that they replace. The decoder inverts the encoder up to
    a gain if the stride is half the kernel size and the number of channels is at least twice the kernel size.

    Raises:
        ValueError: the number of channels is not a multiple of four.
    """
    if num_channels % 4:
        raise ValueError(f"encoder_channels={num_channels} is not allowed for sinusoids: must be a multiple of 4")
    times_t = np.arange(kernel_size) + 0.5
    frequencies = (np.arange(num_channels // 4) + 0.5) * math.pi / (num_channels // 4)
    phases = np.outer(times_t - kernel_size / 2, frequencies)
    waves = np.concatenate([np.cos(phases), np.sin(phases)], axis=1) * np.sin(math.pi * times_t / kernel_size)[:, None]
    kernel_tn = np.concatenate([waves, -waves], axis=1)
    # PyTorch's default is uniform within +-1/sqrt(kernel_size), which has this standard deviation.
    return (kernel_tn / kernel_tn.std() / math.sqrt(3 * kernel_size)).astype(np.float32)
