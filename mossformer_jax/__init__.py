"""MossFormer2 speech separation in JAX.

The public names are imported on first use, so that `import mossformer_jax` does not wait for JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mossformer_jax.audio import read_audio, resample, write_audio
    from mossformer_jax.export.loading import load_exported
    from mossformer_jax.model import PRESETS, Intermediates, ModelConfig, MossFormer2, any_derivative
    from mossformer_jax.scoring import pairwise_si_sdr, pit_si_sdr, si_sdr
    from mossformer_jax.separation import Separation, Separator
    from mossformer_jax.weights import LoadedModel, load_model, save_model

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "Intermediates",
    "LoadedModel",
    "ModelConfig",
    "MossFormer2",
    "Separation",
    "Separator",
    "__version__",
    "any_derivative",
    "load_exported",
    "load_model",
    "pairwise_si_sdr",
    "pit_si_sdr",
    "read_audio",
    "resample",
    "save_model",
    "si_sdr",
    "write_audio",
]

_PACKAGES = {
    "audio": ("read_audio", "resample", "write_audio"),
    "export.loading": ("load_exported",),
    "model": ("PRESETS", "Intermediates", "ModelConfig", "MossFormer2", "any_derivative"),
    "scoring": ("pairwise_si_sdr", "pit_si_sdr", "si_sdr"),
    "separation": ("Separation", "Separator"),
    "weights": ("LoadedModel", "load_model", "save_model"),
}


def __getattr__(name: str) -> Any:
    for package, names in _PACKAGES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{package}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
