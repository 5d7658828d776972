"""Runs our network and the official one with the same weights and signals, and measures the difference."""

import contextlib
import dataclasses
import functools
import itertools

import jax
import numpy as np
import torch
from flax import nnx

from mossformer_jax.model import Buffer, ModelConfig, MossFormer2
from mossformer_jax.scoring import pit_si_sdr
from mossformer_jax.weights import build_network, flatten
from mossformer_jax.weights.parameters import skeleton
from mossformer_jax.weights.torch_mapping import FAMILY_DEFAULTS, from_official
from tests.parity import oracle

TORCH_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def small(preset: str, dtype: str = "float64") -> ModelConfig:
    """A preset with 2 narrow blocks; the official code fixes group size, query/key and FSMN channels."""
    config = ModelConfig.preset(preset)
    width = config.model_channels // 16 + 8
    return dataclasses.replace(config, encoder_channels=width, model_channels=width, num_blocks=2, dtype=dtype)


def precision(config: ModelConfig):
    """The context in which JAX can compute in the config's dtype."""
    return jax.enable_x64(True) if config.dtype == "float64" else contextlib.nullcontext()


def speakers(batch: int, num_sources: int, num_samples: int, seed: int = 0) -> np.ndarray:
    """Speech-like signals: harmonics of a gliding pitch, syllables and breath; (b, c, t), float64."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(num_samples) / 8000
    voices = np.empty((batch, num_sources, num_samples))
    for b, c in itertools.product(range(batch), range(num_sources)):
        pitch = rng.uniform(90, 250) * (1 + 0.2 * np.sin(2 * np.pi * rng.uniform(1, 3) * seconds))
        phase = 2 * np.pi * np.cumsum(pitch) / 8000
        harmonics = sum(rng.uniform(0.2, 1) / k * np.sin(k * phase) for k in range(1, 12))
        syllables = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(3, 6) * seconds + rng.uniform(0, 6))
        voices[b, c] = 0.1 * syllables * harmonics + 0.005 * rng.standard_normal(num_samples)
    return voices


def mixtures(batch: int, num_samples: int, seed: int = 0) -> np.ndarray:
    """Mixtures of two of these signals, (b, t), float64 (exactly representable in float32)."""
    return speakers(batch, 2, num_samples, seed).sum(1).astype(np.float32).astype(np.float64)


def relative_error(ours: np.ndarray, official: np.ndarray) -> float:
    """`||ours - official|| / ||official||`, over everything."""
    official = np.asarray(official, np.float64)
    assert np.linalg.norm(official) > 0, "nothing to compare with"
    return float(np.linalg.norm(np.asarray(ours, np.float64) - official) / np.linalg.norm(official))


@functools.cache
def official_network(config: ModelConfig, seed: int = 0) -> torch.nn.Module:
    """The official network in the config's dtype."""
    return oracle.build(config, seed, TORCH_DTYPES[config.dtype])


def to_ours(official: dict[str, torch.Tensor], config: ModelConfig) -> dict[str, np.ndarray]:
    """A state dict (or anything in its form, such as gradients) under our names, in its own precision."""
    arrays = {name: tensor.detach().numpy() for name, tensor in official.items()}
    options = FAMILY_DEFAULTS["B"] | {"direct_decoding": config.direct_decoding}
    return from_official(arrays, "B", options)[1]


@functools.cache
def our_network(config: ModelConfig, seed: int = 0) -> MossFormer2:
    """Ours with the official network's weights."""
    with precision(config):
        return build_network(config, to_ours(official_network(config, seed).state_dict(), config))


def our_block(config: ModelConfig, index: int):
    """One block of the stack, as a module."""
    graphdef, stacked = nnx.split(our_network(config).mask_net.blocks)
    return nnx.merge(graphdef, jax.tree.map(lambda array: array[index], stacked))


@functools.cache
def _separate(config: ModelConfig):
    with precision(config):
        graphdef, _ = skeleton(config)
    return jax.jit(lambda state, mixture_bt, lengths_b: nnx.merge(graphdef, state)(mixture_bt, lengths_b))


def our_separation(
    config: ModelConfig,
    mixture_bt: np.ndarray,
    lengths_b: np.ndarray | None = None,
    network: MossFormer2 | None = None,
) -> np.ndarray:
    """Runs ours (or another network of this config), compiled once for each config and shape."""
    with precision(config):
        # The network does not use rate or level, so presets that differ only in these share a compiled program.
        separate = _separate(dataclasses.replace(config, sample_rate=8000, input_level_db=None))
        state = nnx.state(network or our_network(config))
        return np.asarray(separate(state, mixture_bt.astype(config.dtype), lengths_b))


def official_separation(config: ModelConfig, mixture_bt: np.ndarray) -> np.ndarray:
    """Runs the official network."""
    return oracle.forward(official_network(config), mixture_bt.astype(config.dtype), config.direct_decoding)


def separation_error(config: ModelConfig, mixture_bt: np.ndarray) -> float:
    """Relative error of ours against the official network."""
    return relative_error(our_separation(config, mixture_bt), official_separation(config, mixture_bt))


def official_pit_loss(estimates_ct: list[torch.Tensor], references_bct: torch.Tensor) -> torch.Tensor:
    """Negative PIT SI-SDR in dB; a simple second implementation, signal by signal."""

    def si_sdr(estimate, reference):
        estimate, reference = estimate - estimate.mean(), reference - reference.mean()
        target = (estimate @ reference) / (reference @ reference) * reference
        return 10 * torch.log10((target @ target) / ((estimate - target) @ (estimate - target)))

    losses = []
    for b, references in enumerate(references_bct):
        scores = [
            torch.stack([si_sdr(estimates_ct[i][b], reference) for i, reference in zip(order, references, strict=True)])
            for order in itertools.permutations(range(len(references)))
        ]
        losses.append(-torch.stack([score.mean() for score in scores]).max())
    return torch.stack(losses).mean()


def official_gradients(config: ModelConfig, references_bct: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and gradients of the official network on the references' sum, under our names."""
    network = official_network(config)
    network.zero_grad()
    references = torch.from_numpy(references_bct)
    wrapped = oracle.DirectDecoding(network) if config.direct_decoding else network
    loss = official_pit_loss(wrapped(references.sum(1)), references)
    loss.backward()
    trained = dict(network.named_parameters(remove_duplicate=False))
    gradients = {
        name: trained[name].grad if name in trained and trained[name].requires_grad else torch.zeros_like(value)
        for name, value in network.state_dict().items()
    }
    return loss.item(), to_ours(gradients, config)


def our_gradients(config: ModelConfig, references_bct: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and gradients of ours, for every trained parameter."""
    with precision(config):
        graphdef, params, buffers = nnx.split(our_network(config), nnx.Param, Buffer)

        @jax.jit
        def loss_and_gradients(params, buffers, references_bct):
            def loss(params):
                estimates = nnx.merge(graphdef, params, buffers)(references_bct.sum(1))
                return -pit_si_sdr(estimates, references_bct)[0].mean()

            return jax.value_and_grad(loss)(params)

        loss, gradients = loss_and_gradients(params, buffers, references_bct)
        return float(loss), flatten(gradients)


def gradient_errors(config: ModelConfig, references_bct: np.ndarray) -> dict[str, float]:
    """Relative error of every parameter's gradient, and of the loss."""
    official_loss, official = official_gradients(config, references_bct)
    our_loss, ours = our_gradients(config, references_bct)
    errors = {name: relative_error(ours[name], official[name]) for name in ours}
    return errors | {"loss": abs(our_loss - official_loss) / abs(official_loss)}
