"""Three steps and a validation on each of several meshes of simulated devices: eight_devices.py FILE.npz."""

from __future__ import annotations

import dataclasses
import re
import sys

import jax
import numpy as np
from jax.sharding import AxisType

from mossformer_jax.data.batch import Batch
from mossformer_jax.data.on_device import DeviceBatches
from mossformer_jax.data.training_mixtures import open_training_mixtures
from mossformer_jax.sharding import DATA, FSDP, make_mesh, place_rows
from mossformer_jax.training.configuration import resolve
from mossformer_jax.training.state import begin, on_host
from mossformer_jax.training.step import make_train_step
from mossformer_jax.training.validation import Validation
from tests.evaluation.conftest import Noises
from tests.training import tiny

# Names, and devices along `data` and `fsdp`.
MESHES = {"1": (1, 1), "2": (2, 1), "8": (8, 1), "2x4": (2, 4), "1x8": (1, 8)}
STEPS = 3


def main(file: str) -> None:
    model, recipe, data = resolve(tiny.get_config())
    # Wide enough that most parameters are sharded.
    model = dataclasses.replace(model, encoder_channels=64, model_channels=64, dtype="float64")
    recipe = dataclasses.replace(recipe, lr=1e-3, accumulation=1, ema_decay=None)
    rng = np.random.default_rng(0)
    sources_bct = 0.1 * rng.standard_normal((8, 2, 800))
    batch = Batch(sources_bct.sum(1), sources_bct, np.full(8, 800, np.int32))
    found: dict[str, np.ndarray] = {}
    for name, shape in MESHES.items():
        devices = jax.devices()[: np.prod(shape)]
        mesh = jax.make_mesh(shape, (DATA, FSDP), axis_types=2 * (AxisType.Auto,), devices=devices)
        if len(devices) == jax.device_count():
            assert make_mesh(shape[1]) == mesh
        state = begin(model, recipe, mesh)
        largest = max(state.parameters.values(), key=lambda array: array.size)
        (moments,) = (part for part in state.optimizer if hasattr(part, "mu"))
        assert {key: array.sharding for key, array in moments.mu.items()} == {
            key: array.sharding for key, array in state.parameters.items()
        }
        found[f"share/{name}"] = largest.addressable_shards[0].data.size / largest.size
        program = make_train_step(model, recipe, STEPS, mesh).lower(state, place_rows(batch, mesh)).compile()
        found[f"reductions/{name}"] = len(re.findall(r" all-reduce(?:-start)?\(", program.as_text()))
        losses = []
        for _ in range(STEPS):
            state, metrics = program(state, place_rows(batch, mesh))
            losses.append(np.asarray(metrics)[0])
        found[f"losses/{name}"] = np.array(losses)
        for key, array in on_host(state.parameters, mesh).items():
            found[f"parameters/{name}/{key}"] = array
        # Three mixtures: on eight devices, most rows of the batch are padding.
        validated = Validation(model, recipe, Noises((800, 700, 800), model.sample_rate), 0, mesh)(state.weights)
        assert validated is not None
        found[f"validated/{name}"] = np.array([validated.si_sdri_db, *validated.output_gains])
        if name in ("1", "2x4"):
            drawn = DeviceBatches(
                open_training_mixtures(**data.train), batch_size=8, num_samples=800, seed=0, mesh=mesh
            )
            found[f"drawn/{name}"] = next(drawn).sources
    np.savez(file, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
