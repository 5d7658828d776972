"""Training batches drawn on the devices."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Int

from mossformer_jax.data.batch import Batch
from mossformer_jax.data.mixing import DynamicMixing, TrainingMixtures
from mossformer_jax.data.numbered_batches import NumberedBatches
from mossformer_jax.data.on_device.acoustics import TABLE_CODECS
from mossformer_jax.data.on_device.mixing import DeviceMixing, Held
from mossformer_jax.data.on_device.recordings import num_bytes
from mossformer_jax.sharding import DATA, FSDP, by_rows, place, replicated


class DeviceBatches(NumberedBatches):
    """Endless training batches, drawn by a compiled program from recordings in device memory.

    A batch depends only on the seed and its number. When the object is created, all files are read and the program is
    compiled; a file that cannot be read is an error. Every device holds all recordings and draws its own rows.

    Args:
        mixtures: the mixtures to draw.
        batch_size: rows per batch, over all devices.
        num_samples: length of a row in samples; shorter mixtures are padded with zeros.
        seed: seed of the batches, from 0 to 2**32 - 1.
        mesh: the devices, which must be able to share the rows evenly.

    Attributes:
        num_bytes: memory of the recordings on each device, in bytes.

    Raises:
        FileNotFoundError, ValueError: a file is missing or corrupt, the mixtures are not `DynamicMixing`, a codec runs
            on the host only, or the recordings do not fit into the memory of the devices.
    """

    def __init__(self, mixtures: TrainingMixtures, *, batch_size: int, num_samples: int, seed: int, mesh: Mesh):
        options = _checked(mixtures)
        self.num_bytes = _check_memory(options)
        super().__init__({"seed": seed, "batch_size": batch_size, "epoch_size": len(mixtures)})
        self._mesh = mesh
        mixing = DeviceMixing(options, num_samples, mesh)
        self._held = mixing.held
        rows = batch_size // mesh.size

        def draw_rows(held: Held, number: Int[Array, ""], first: Int[Array, " 1"]) -> Batch:
            key = random.fold_in(random.key(np.uint32(seed), impl="threefry2x32"), number)
            keys = jax.vmap(lambda row: random.fold_in(key, row))(first[0] + jnp.arange(rows))
            return Batch(*jax.vmap(mixing.draw, in_axes=(None, 0))(held, keys))

        everywhere, by_row = PartitionSpec(), PartitionSpec((DATA, FSDP))
        specs = (everywhere, everywhere, by_row)
        draw = jax.jit(jax.shard_map(draw_rows, mesh=mesh, in_specs=specs, out_specs=by_row, check_vma=False))
        self._first_rows = place(np.arange(mesh.size, dtype=np.int32) * rows, by_rows(mesh))
        with jax.enable_x64(False):  # batches are float32, also for a model in float64
            self._draw = draw.lower(self._held, self._number(), self._first_rows).compile()

    def __next__(self) -> Batch:
        """The next batch, sharded by rows; without `index`. The host does not wait for it to be computed."""
        number = self._number()
        self._step += 1
        return self._draw(self._held, number, self._first_rows)

    def _number(self) -> Array:
        return place(np.asarray(self._step, np.int32), replicated(self._mesh))


def _checked(mixtures: TrainingMixtures) -> DynamicMixing:
    if not isinstance(mixtures, DynamicMixing):
        raise ValueError(
            "on_device=True needs training data with a corpus, which are mixed on the fly; these have a layout of "
            "stored mixtures, which stay on the host: use --config.data.on_device=False"
        )
    codecs = () if mixtures.channel is None else mixtures.channel.codecs
    host_only = [name for name in codecs if name != "telephone" and name not in TABLE_CODECS]
    if host_only:
        allowed = ",".join(name for name in codecs if name not in host_only) or "telephone,mu-law"
        raise ValueError(
            f"on_device=True does not support the codec(s) {', '.join(host_only)}, which run on the host only; use "
            f"--config.data.train.channel.codecs={allowed}"
        )
    if mixtures.babble is not None and len(np.unique(mixtures.speech.speakers)) <= mixtures.num_sources:
        raise ValueError(
            f"babble needs more speakers than the {mixtures.num_sources} sources have; add speakers to the corpus"
        )
    return mixtures


def _check_memory(mixtures: DynamicMixing) -> int:
    """The bytes that the recordings take on each device; checks that there is enough memory."""
    parts: list[Any] = [mixtures.speech, mixtures.noise]
    parts += [mixtures.recorded_noise and mixtures.recorded_noise.noise]
    parts += [mixtures.reverberation and mixtures.reverberation.responses]
    needed = sum(num_bytes(part) for part in parts if part is not None)
    free = _free_bytes()
    if free is not None and needed > free:
        raise ValueError(
            f"on_device=True needs {needed:,} bytes of device memory for the recordings, but only {free:,} are free; "
            "use less speech, or --config.data.on_device=False"
        )
    return needed


def _free_bytes() -> int | None:
    """Free memory of the fullest local device in bytes; None if unknown (CPUs)."""
    found = [device.memory_stats() for device in jax.local_devices()]
    free = [stats["bytes_limit"] - stats["bytes_in_use"] for stats in found if stats and "bytes_limit" in stats]
    return min(free, default=None)
