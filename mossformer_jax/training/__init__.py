"""Training: from a config to weights, on all available devices.

Everything that a training loop of your own needs can be imported from here (docs/python.md). The names are imported on
first use, because they need the extra `train`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mossformer_jax.data.batch import Batch
    from mossformer_jax.data.layouts import open_mixtures
    from mossformer_jax.data.pipeline import evaluation_batches, train_batches
    from mossformer_jax.data.training_mixtures import open_training_mixtures
    from mossformer_jax.scoring import pit_training_score
    from mossformer_jax.training.configuration import load_config
    from mossformer_jax.training.loop import Training
    from mossformer_jax.training.recipe import Recipe
    from mossformer_jax.training.results import Outcome

__all__ = [
    "Batch",
    "Outcome",
    "Recipe",
    "Training",
    "evaluation_batches",
    "load_config",
    "open_mixtures",
    "open_training_mixtures",
    "pit_training_score",
    "train_batches",
]

_MODULES = {
    "data.batch": ("Batch",),
    "data.layouts": ("open_mixtures",),
    "data.pipeline": ("evaluation_batches", "train_batches"),
    "data.training_mixtures": ("open_training_mixtures",),
    "scoring": ("pit_training_score",),
    "training.configuration": ("load_config",),
    "training.loop": ("Training",),
    "training.recipe": ("Recipe",),
    "training.results": ("Outcome",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"mossformer_jax.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
