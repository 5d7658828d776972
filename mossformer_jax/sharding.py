"""The one place that knows the mesh: which devices work together, and which part of an array each of them holds.

A mesh has two axes. Rows of a batch are dealt out over both; parameters are repeated along `data` and cut up along
`fsdp` (fully sharded data parallelism), where XLA fetches each block's parameters as the block needs them.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA, FSDP = "data", "fsdp"
# Cutting up a smaller array saves no memory worth a message.
MIN_SHARDED_SIZE = 2**12


def connect(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the processes of a training on several hosts; to be called before any other use of JAX.

    Without arguments the cluster is asked (TPU pods, SLURM, Open MPI, Kubernetes).

    Args:
        coordinator_address: host and port of process 0, for example "10.0.0.1:1234".
        num_processes: how many processes there are.
        process_id: which of them this is.

    Raises:
        ValueError: only some of the arguments are given, or the cluster cannot be asked or joined.
    """
    given = [coordinator_address, num_processes, process_id]
    if None in given and given != [None, None, None]:
        raise ValueError("several hosts need --coordinator-address, --num-processes and --process-id; give all three")
    try:
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"cannot join the other hosts: {reason}; give --coordinator-address=HOST:PORT, --num-processes and "
            "--process-id, and the same command on each of them"
        ) from error


def leave_others(status: int) -> None:
    """Ends this process at once if it has joined others, which then end, too; else does nothing.

    An ordinary end waits for all of them, and where this one has failed they may be gone, or wait for it in a step.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def is_one_of_several() -> bool:
    """Whether this process seems to be one of several: on a TPU host, or started by srun or mpirun."""
    on_tpu = importlib.util.find_spec("libtpu") is not None and any(
        Path(device).exists() for device in ("/dev/accel0", "/dev/vfio/0")
    )
    sizes = (os.environ.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    return on_tpu or any(size.isdecimal() and int(size) > 1 for size in sizes)


def make_mesh(fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices of all processes, `fsdp` of them sharing one copy of the parameters.

    Args:
        fsdp: how many.
        devices: other devices, for example some that only compile.

    Raises:
        ValueError: the devices cannot be divided like that.
    """
    count = jax.device_count() if devices is None else len(devices)
    if fsdp < 1 or count % fsdp:
        raise ValueError(f"fsdp={fsdp} is not allowed: must divide the number of devices, {count}")
    # As jax.make_mesh, which lets the two axes share one axis of the chips' torus on v5e only.
    devices_df = mesh_utils.create_device_mesh((count // fsdp, fsdp), devices, allow_split_physical_axes=True)
    return Mesh(devices_df, (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def by_rows(mesh: Mesh) -> NamedSharding:
    """The leading axis is dealt out over all devices."""
    return NamedSharding(mesh, PartitionSpec((DATA, FSDP)))


def by_shape(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """How a parameter of this shape lies on the mesh: cut up along its longest axis that `fsdp` divides, or repeated.

    The first axis of a parameter that has three or more counts the blocks of the scanned stack: it stays whole, or
    every block would live on a single device.
    """
    size = mesh.shape[FSDP]
    first = 1 if len(shape) >= 3 else 0
    axes = [axis for axis in range(first, len(shape)) if shape[axis] % size == 0]
    if size == 1 or not axes or np.prod(shape) < MIN_SHARDED_SIZE:
        return replicated(mesh)
    longest = max(axes, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*(FSDP if axis == longest else None for axis in range(len(shape)))))


def place(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """An array that every process holds whole, as one array over the mesh."""
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def place_rows(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """A batch of which every process holds its part of the rows, as arrays over the mesh.

    Raises:
        ValueError: the devices cannot share the rows evenly.
    """
    return {name: jax.make_array_from_process_local_data(by_rows(mesh), array) for name, array in batch.items()}


def local_rows(array: jax.Array) -> np.ndarray:
    """This process's part of an array that lies by rows, as it was given to `place_rows`.

    A host's chips need not be neighbours in a mesh: on TPUs it goes through all chips as their links do.
    """
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def check_rows(name: str, rows: int, mesh: Mesh, pieces: int = 1) -> None:
    """Raises a ValueError that names the option `name`, unless all devices can share the rows of each piece evenly."""
    multiple = mesh.size * pieces
    if rows % multiple:
        reason = f"{mesh.size} device(s)" + (f" times accumulation={pieces}" if pieces > 1 else "")
        nearest = -(-rows // multiple) * multiple
        raise ValueError(f"{name}={rows} is not allowed: must be a multiple of {reason}; give --{name}={nearest}")


def same_everywhere(number: int) -> bool:
    """Whether all processes give the same number; all of them must ask."""
    return jax.process_count() == 1 or len(np.unique(multihost_utils.process_allgather(np.asarray(number)))) == 1


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; all of them must ask."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))
