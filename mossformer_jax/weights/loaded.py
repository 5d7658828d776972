"""Loading a stored model for separation."""

from __future__ import annotations

import os
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mossformer_jax.model import ModelConfig, MossFormer2
from mossformer_jax.model.derivatives import explained_derivatives
from mossformer_jax.model.mossformer2 import check_mixture
from mossformer_jax.programs import shared_program
from mossformer_jax.weights.parameters import Parameters, build_network, count_parameters
from mossformer_jax.weights.store import load_parameters


@runtime_checkable
class CompiledModel(Protocol):
    """The network compiled for one shape of padded mixtures."""

    def __call__(self, mixture_bt: ArrayLike, lengths_b: ArrayLike) -> Float[Array, "b c t"]:
        """Separates float32 mixtures of this shape; `lengths_b` are their true lengths in samples, int32."""


@shared_program
def separation_program(graphdef: nnx.GraphDef[MossFormer2]):
    """The jitted function `(state, mixture_bt, lengths_b) -> sources_bct` of a network split by `nnx.split`."""
    return jax.jit(lambda state, mixture_bt, lengths_b: nnx.merge(graphdef, state)(mixture_bt, lengths_b))


class LoadedModel:
    """A network with its weights, compiled once per input shape.

    Attributes:
        config: the model's sizes and options.
        num_parameters: number of trained parameters; frequency tables are not counted.
    """

    def __init__(self, config: ModelConfig, parameters: Parameters):
        self.config = config
        self.num_parameters = count_parameters(config)
        self._graphdef, self._state = nnx.split(build_network(config, parameters))
        self._separate = separation_program(self._graphdef)

    @property
    def device(self) -> jax.Device:
        """The device on which the weights are."""
        return next(iter(jax.tree.leaves(self._state)[0].devices()))

    @property
    def network(self) -> MossFormer2:
        """The network, for example for further training."""
        return nnx.merge(self._graphdef, self._state)

    def __call__(self, mixture_bt: ArrayLike, lengths_b: ArrayLike | None = None) -> Float[Array, "b c t"]:
        """Separates a batch of mixtures without changing their level.

        The caller must scale the mixtures to `config.input_level_db` (`Separator` does this).

        Args:
            mixture_bt: mixtures, (batch, samples), floating point.
            lengths_b: true length of each mixture in samples, if they are padded at the end.

        Returns:
            The sources, (batch, sources, samples).

        Raises:
            ValueError: a shape, dtype or length is not allowed; the message lists the allowed ones.
        """
        mixture = jnp.asarray(mixture_bt)
        lengths = None if lengths_b is None else jnp.asarray(lengths_b)
        check_mixture(mixture, lengths, self.config)
        with explained_derivatives():
            return self._separate(self._state, mixture, lengths)

    def compile(self, batch: int, num_samples: int) -> CompiledModel:
        """Compiles the network ahead of time.

        Args:
            batch: number of mixtures.
            num_samples: length of the padded mixtures, in samples.
        """
        mixture = jax.ShapeDtypeStruct((batch, num_samples), np.float32)
        lengths = jax.ShapeDtypeStruct((batch,), np.int32)
        program = self._separate.lower(self._state, mixture, lengths).compile()
        return lambda mixture_bt, lengths_b: program(self._state, mixture_bt, lengths_b)


def load_model(path: str | os.PathLike[str] = "default", *, shifts: int | None = None) -> LoadedModel:
    """Loads a model for separation.

    Args:
        path: "default" (the model of the package), a model folder, the folder of a training run, or the name of a model
            on a hub (docs/pretrained.md).
        shifts: number of shifted copies to average; None: the `ModelConfig.shifts` of the model.

    Raises:
        FileNotFoundError: there is no such model.
        OSError: the hub cannot be reached.
        ValueError: the model cannot be read, `path` is not a model folder, or `shifts` does not divide the stride; the
            message suggests a remedy.
    """
    config, parameters = load_parameters(path)
    return LoadedModel(config.with_shifts(shifts), parameters)
