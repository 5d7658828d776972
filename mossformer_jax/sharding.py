"""The device mesh: which devices work together, and how arrays are sharded over them.

A mesh has two axes. Rows of a batch are sharded over both. Parameters are replicated along `data` and sharded along
`fsdp` (fully sharded data parallelism), where XLA gathers each block's parameters when the block needs them.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

Tree = TypeVar("Tree")

DATA, FSDP = "data", "fsdp"
# Sharding smaller arrays saves too little memory to be worth the communication.
MIN_SHARDED_SIZE = 2**12


def connect(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the processes of a training on several hosts; must be called before any other use of JAX.

    Without arguments, the cluster environment is detected (TPU pods, SLURM, Open MPI, Kubernetes).

    Args:
        coordinator_address: host and port of process 0, for example "10.0.0.1:1234".
        num_processes: number of processes.
        process_id: index of this process.

    Raises:
        ValueError: only some of the arguments are given, or the cluster cannot be detected or joined.
    """
    given = [coordinator_address, num_processes, process_id]
    if None in given and given != [None, None, None]:
        raise ValueError("several hosts need --coordinator-address, --num-processes and --process-id; give all three")
    try:
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"cannot join the other hosts: {reason}; run the same command on each host, with "
            "--coordinator-address=HOST:PORT, --num-processes and --process-id"
        ) from error


def leave_others(status: int) -> None:
    """Exits at once if this process has joined others, which then stop as well; otherwise does nothing.

    A normal exit waits for all processes; after a failure, the others may have died or be waiting in a collective.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def is_one_of_several() -> bool:
    """Whether this process is probably one of several: on a TPU host, or started by srun or mpirun."""
    on_tpu = importlib.util.find_spec("libtpu") is not None and any(
        Path(device).exists() for device in ("/dev/accel0", "/dev/vfio/0")
    )
    sizes = (os.environ.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    return on_tpu or any(size.isdecimal() and int(size) > 1 for size in sizes)


def make_mesh(fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of all devices of all processes, with each copy of the parameters sharded over `fsdp` devices.

    Args:
        fsdp: number of devices per copy of the parameters.
        devices: devices to use instead, for example compile-only ones.

    Raises:
        ValueError: `fsdp` does not divide the number of devices.
    """
    count = jax.device_count() if devices is None else len(devices)
    if fsdp < 1 or count % fsdp:
        raise ValueError(f"fsdp={fsdp} is not allowed: must divide the number of devices, {count}")
    # Like jax.make_mesh, which splits a physical axis of the chips' torus between the two axes on v5e only.
    devices_df = mesh_utils.create_device_mesh((count // fsdp, fsdp), devices, allow_split_physical_axes=True)
    return Mesh(devices_df, (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Sharding with a full copy of the array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_rows(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Sharding of the leading axis over all devices."""
    return NamedSharding(mesh, PartitionSpec((DATA, FSDP)))


def by_shape(mesh: Mesh | AbstractMesh, shape: tuple[int, ...]) -> NamedSharding:
    """Sharding of a parameter: along its longest axis divisible by `fsdp`, or replicated.

    The first axis of parameters with three or more axes is that of the scanned blocks. It is not sharded, because
    each block would then be on a single device.
    """
    size = mesh.shape[FSDP]
    first = 1 if len(shape) >= 3 else 0
    axes = [axis for axis in range(first, len(shape)) if shape[axis] % size == 0]
    if size == 1 or not axes or np.prod(shape) < MIN_SHARDED_SIZE:
        return replicated(mesh)
    longest = max(axes, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*(FSDP if axis == longest else None for axis in range(len(shape)))))


def place(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Places an array, of which every process has a full copy, on the mesh."""
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def place_rows(batch: Tree, mesh: Mesh) -> Tree:
    """Places the arrays of a batch on the mesh; every process passes its own rows.

    Raises:
        ValueError: the devices cannot share the rows evenly.
    """
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(by_rows(mesh), array), batch)


def local_rows(array: jax.Array) -> np.ndarray:
    """This process's rows of an array sharded by rows, in the order in which `place_rows` received them.

    The chips of a host are not always adjacent in the mesh, whose order follows the physical links on TPUs.
    """
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def check_rows(name: str, rows: int, mesh: Mesh | AbstractMesh, pieces: int = 1) -> None:
    """Raises a ValueError that names the option `name`, unless all devices can share the rows of each piece evenly."""
    multiple = mesh.size * pieces
    if rows % multiple:
        reason = f"{mesh.size} device(s)" + (f" times accumulation={pieces}" if pieces > 1 else "")
        nearest = -(-rows // multiple) * multiple
        raise ValueError(f"{name}={rows} is not allowed: must be a multiple of {reason}; use --{name}={nearest}")


def same_everywhere(number: int) -> bool:
    """Whether all processes pass the same number; all processes must call it."""
    return jax.process_count() == 1 or len(np.unique(multihost_utils.process_allgather(np.asarray(number)))) == 1


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; all processes must call it."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))
