"""The MossFormer2 model: encode the mixture, mask its features for each source, decode."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from mossformer_jax.model.config import ModelConfig
from mossformer_jax.model.derivatives import explained_derivatives
from mossformer_jax.model.filterbank import Decoder, Encoder
from mossformer_jax.model.initial import drawing
from mossformer_jax.model.masknet import MaskNet
from mossformer_jax.model.norms import Frames, zero_padding
from mossformer_jax.model.shifts import mean_over_shifts


class Intermediates(NamedTuple):
    """The sources of a batch and what the network computes on the way to them.

    Attributes:
        sources: the separated sources.
        features: the encoder's output, zero on the padding.
        blocks: the output of every block, first axis from the first block to the last.
        masks: one mask per source. The decoder gets `features * masks`, or with `ModelConfig.direct_decoding` the masks
            alone.
    """

    sources: Float[Array, "b c t"]
    features: Float[Array, "b n l"]
    blocks: Float[Array, "k b d l"]
    masks: Float[Array, "b c n l"]


@functools.lru_cache(maxsize=8)  # tracing takes longer than drawing
def _drawing(config: ModelConfig) -> Callable[[Array], tuple[Encoder, MaskNet, Decoder]]:
    return drawing(
        lambda draws: (Encoder(config, draws=draws), MaskNet(config, draws=draws), Decoder(config, draws=draws))
    )


class MossFormer2(nnx.Module):
    """Separates the sources of a single-channel mixture.

    MossFormer2 (arXiv 2312.11825) or, with `config.fsmn_channels=None`, MossFormer (arXiv 2302.11824). Parameters are
    initialised as PyTorch does by default.

    Args:
        config: sizes and options.
        rngs: source of the initial parameters, for example `nnx.Rngs(0)`.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.encoder, self.mask_net, self.decoder = _drawing(config)(rngs.params())

    def __call__(
        self,
        mixture_bt: Float[Array | np.ndarray, "b t"],
        lengths_b: Int[Array | np.ndarray, " b"] | None = None,
        *,
        key: Array | None = None,
    ) -> Float[Array, "b c t"]:
        """Separates a batch of mixtures.

        Args:
            mixture_bt: mixtures, floating point, at least `kernel_size` samples long.
            lengths_b: true length of each mixture in samples, if they are padded at the end. The content of the padding
                has no effect; the outputs are those of the unpadded mixtures, and zero on the padding.
            key: random key that enables dropout; None for inference.

        Returns:
            The sources, with the length of the mixture.

        Raises:
            ValueError: a shape, dtype or length is not allowed; the message gives the allowed ones.
            TypeError: a second or forward-mode derivative is computed outside `mossformer_jax.any_derivative`.
        """
        with explained_derivatives():
            if self.config.shifts == 1:
                return self._run(mixture_bt, lengths_b, key)[0]
            check_mixture(mixture_bt, lengths_b, self.config)
            return mean_over_shifts(
                lambda mixture_bu, lengths_b, delay: self._run(
                    mixture_bu, lengths_b, None if key is None else jax.random.fold_in(key, delay)
                )[0],
                mixture_bt,
                lengths_b,
                self.config,
            )

    def intermediates(
        self,
        mixture_bt: Float[Array | np.ndarray, "b t"],
        lengths_b: Int[Array | np.ndarray, " b"] | None = None,
    ) -> Intermediates:
        """Separates a batch like `__call__`, and returns the features, the outputs of all blocks and the masks, too.

        With several `ModelConfig.shifts`, all results, the sources too, are those of the mixture without a delay.
        The outputs of the blocks take `num_blocks` times the memory of one.
        """
        with explained_derivatives():
            sources, features, blocks, masks = self._run(mixture_bt, lengths_b, None, keep_blocks=True)
        assert blocks is not None
        return Intermediates(sources, features, blocks, masks)

    def _run(
        self,
        mixture_bt: Array | np.ndarray,
        lengths_b: Array | np.ndarray | None,
        key: Array | None,
        keep_blocks: bool = False,
    ) -> tuple[Array, Array, Array | None, Array]:
        """The sources, the features, the outputs of the blocks (None unless they are kept) and the masks."""
        check_mixture(mixture_bt, lengths_b, self.config)
        mixture_bt = jnp.asarray(mixture_bt, self.config.param_dtype)
        num_samples, frames = mixture_bt.shape[1], None
        if lengths_b is not None:
            mixture_bt = jnp.where(jnp.arange(num_samples) < lengths_b[:, None], mixture_bt, 0.0)
            frames = self.frames(lengths_b, self.config.num_frames(num_samples))

        features_bnl = zero_padding(self.encoder(mixture_bt), frames)
        masks_bcnl, blocks_kbdl = self.mask_net.masks_and_blocks(features_bnl, frames, key=key, keep_blocks=keep_blocks)
        if self.config.direct_decoding:
            masked = masks_bcnl if frames is None else jnp.where(frames.valid_b1l[:, None], masks_bcnl, 0.0)
        else:
            masked = features_bnl[:, None] * masks_bcnl
        sources_bct = self.decoder(masked, num_samples)
        if self.config.output_gains is not None:
            sources_bct = sources_bct * jnp.asarray(self.config.output_gains, sources_bct.dtype)[:, None]
        return sources_bct, features_bnl, blocks_kbdl, masks_bcnl

    def frames(self, lengths_b: Int[Array | np.ndarray, " b"], num_frames: int) -> Frames:
        """The frames that are entirely inside each signal; the frame that straddles its end is padding."""
        count_b = jnp.maximum((lengths_b - self.config.kernel_size) // self.config.stride + 1, 1)
        return Frames(jnp.arange(num_frames) < count_b[:, None, None], count_b)


def check_mixture(mixture_bt: Array | np.ndarray, lengths_b: Array | np.ndarray | None, config: ModelConfig) -> None:
    """Raises a ValueError with the given and allowed values if the input has a wrong shape, dtype or length."""
    shape: tuple[int, ...] = mixture_bt.shape
    dtype = mixture_bt.dtype
    if mixture_bt.ndim != 2:
        raise ValueError(f"mixture has shape {shape}, but must be (batch, samples); give one signal as x[None]")
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"mixture has dtype {dtype}, but must be floating point, within about +-1")
    if jax.dtypes.canonicalize_dtype(config.param_dtype) != config.param_dtype:
        raise ValueError(f"dtype={config.dtype!r} needs JAX in double precision; set JAX_ENABLE_X64=1, or use float32")
    batch, num_samples, shortest = *shape, config.kernel_size
    if batch < 1 or num_samples < shortest:
        raise ValueError(
            f"mixture has shape {shape}, but must contain a signal of at least kernel_size={shortest} samples"
        )
    if lengths_b is None:
        return
    if lengths_b.shape != (batch,) or not jnp.issubdtype(lengths_b.dtype, jnp.integer):
        given = f"shape {lengths_b.shape} and dtype {lengths_b.dtype}"
        raise ValueError(f"lengths have {given}, but must be {batch} integers, one per mixture")
    if isinstance(lengths_b, jax.core.Tracer):
        return  # inside jit the values are not available; callers check them before
    lengths = np.asarray(lengths_b)
    if lengths.min() < shortest or lengths.max() > num_samples:
        raise ValueError(
            f"lengths are {lengths.tolist()}, but must be between kernel_size={shortest} and {num_samples}"
        )
