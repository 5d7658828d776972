"""The mask net: a stack of blocks (gated attention, then gated FSMN) between two projections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from mossformer_jax.model.attention import GatedAttention
from mossformer_jax.model.config import ModelConfig
from mossformer_jax.model.fsmn import GatedFSMN
from mossformer_jax.model.initial import Draws, stack
from mossformer_jax.model.layers import MASKS, PRODUCTS, Linear, PReLU
from mossformer_jax.model.norms import Frames, GroupNorm, LayerNorm
from mossformer_jax.model.positions import RotaryPositions, SinusoidalPositions

T = TypeVar("T")

GROUP_NORM_EPS = 1e-8
STACK_NORM_EPS = 1e-6


class Block(nnx.Module):
    """Gated attention, then (in MossFormer2) a gated FSMN."""

    def __init__(self, config: ModelConfig, *, draws: Draws):
        self.attention = GatedAttention(config, draws=draws)
        self.fsmn = GatedFSMN(config, draws=draws) if config.fsmn_channels is not None else None

    def __call__(
        self,
        x_bdl: Float[Array, "b d l"],
        rotation: tuple[Array, Array],
        frames: Frames | None = None,
        *,
        key: Array | None = None,
    ) -> Float[Array, "b d l"]:
        key_attention, key_fsmn = (None, None) if key is None else jax.random.split(key)
        x_bdl = self.attention(x_bdl, rotation, frames, key=key_attention)
        return x_bdl if self.fsmn is None else self.fsmn(x_bdl, frames, key=key_fsmn)


def rematerialised(run_block: Callable[..., T], remat: str) -> Callable[..., T]:
    """A block function with the rematerialisation that `ModelConfig.remat` selects."""
    if remat == "none":
        return run_block
    names = (PRODUCTS, MASKS) if remat == "products" else ()
    policy = jax.checkpoint_policies.save_only_these_names(*names)
    # Inside a scan, forward and backward pass are separate programs, so CSE cannot undo the recomputation.
    return jax.checkpoint(run_block, prevent_cse=False, policy=policy)


class MaskNet(nnx.Module):
    """Maps the features of the mixture to one mask per source."""

    def __init__(self, config: ModelConfig, *, draws: Draws):
        n, d, c = config.encoder_channels, config.model_channels, config.num_sources
        param_dtype = config.param_dtype
        linear = partial(Linear, dtype=config.compute_dtype, param_dtype=param_dtype, draws=draws)
        self.num_sources = c
        self.num_blocks = config.num_blocks
        self.remat = config.remat
        self.dtype = config.compute_dtype
        self.input_norm = GroupNorm(n, GROUP_NORM_EPS, param_dtype)
        self.input_projection = linear(n, d, use_bias=False)
        self.positions = SinusoidalPositions(d, param_dtype)
        self.rotary = RotaryPositions(config.rotary_channels, config.query_key_channels)
        self.blocks = stack(lambda draws: Block(config, draws=draws), config.num_blocks, draws)
        self.stack_norm = LayerNorm(d, STACK_NORM_EPS, param_dtype)
        self.outer_norm = GroupNorm(d, GROUP_NORM_EPS, param_dtype)
        self.prelu = PReLU(None, param_dtype)
        self.source_projection = linear(d, c * d)
        self.output = linear(d, d)
        self.output_gate = linear(d, d)
        self.mask_projection = linear(d, n, use_bias=False)

    def __call__(
        self, features_bnl: Float[Array, "b n l"], frames: Frames | None = None, *, key: Array | None = None
    ) -> Float[Array, "b c n l"]:
        return self.masks_and_blocks(features_bnl, frames, key=key)[0]

    @jax.named_scope("mask_net")
    def masks_and_blocks(
        self,
        features_bnl: Float[Array, "b n l"],
        frames: Frames | None = None,
        *,
        key: Array | None = None,
        keep_blocks: bool = False,
    ) -> tuple[Float[Array, "b c n l"], Float[Array, "k b d l"] | None]:
        """The masks (b, c, n, l), and the outputs of all blocks (blocks, b, d, l), or None without `keep_blocks`."""
        batch, num_channels, num_frames = features_bnl.shape
        x_bdl = self.input_projection(self.input_norm(features_bnl, frames))
        x_bdl = x_bdl + self.positions(num_frames, self.dtype).astype(x_bdl.dtype)

        last_bdl, blocks_kbdl = self.run_blocks(x_bdl, frames, key, keep_blocks)
        stacked = self.stack_norm(last_bdl)
        x_bdl = self.prelu(self.outer_norm(stacked, frames) + x_bdl)

        x_bdl = self.source_projection(x_bdl).reshape(batch * self.num_sources, -1, num_frames)
        gated = jnp.tanh(self.output(x_bdl)) * jax.nn.sigmoid(self.output_gate(x_bdl))
        masks = jax.nn.relu(self.mask_projection(gated))
        return masks.reshape(batch, self.num_sources, num_channels, num_frames), blocks_kbdl

    def run_blocks(
        self, x_bdl: Array, frames: Frames | None, key: Array | None, keep: bool = False
    ) -> tuple[Array, Array | None]:
        """Runs the stack as a scan, so that only one block is compiled.

        Returns:
            The output of the last block, (b, d, l), and those of all blocks, (blocks, b, d, l), or None without `keep`.
        """
        graphdef, parameters = nnx.split(self.blocks)
        rotation = self.rotary(x_bdl.shape[-1], self.dtype)
        keys = None if key is None else jax.random.split(key, self.num_blocks)

        def run_block(x_bdl: Array, parameters_and_key: tuple[nnx.State, Array | None]) -> tuple[Array, Array | None]:
            block_parameters, block_key = parameters_and_key
            block = nnx.merge(graphdef, block_parameters)
            x_bdl = block(x_bdl, rotation, frames, key=block_key)
            return x_bdl, x_bdl if keep else None

        return lax.scan(rematerialised(run_block, self.remat), x_bdl, (parameters, keys))
