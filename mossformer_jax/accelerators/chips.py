"""Chips that programs can be compiled for without the hardware: their specifications, and compile-only devices.

Compiling for TPUs needs the package `libtpu`; compiling for H100s needs JAX's CUDA plugin and `ptxas`. The machine
needs neither a TPU nor a GPU.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
from dataclasses import dataclass, field
from math import prod
from typing import Any

import jax

GIB = 2**30
# Share of a chip's memory kept free for the runtime, prefetched batches and the code of other programs.
RESERVE = 0.05

H100_DESCRIPTION = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  l2_cache_size: 52428800
  memory_bandwidth: 3352320000000
  device_memory_size: 84942979072
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""XLA's `GpuTargetConfig` of an H100 SXM, from NVIDIA's Hopper tuning guide and the limits that CUDA reports."""


@dataclass(frozen=True)
class Chip:
    """A type of accelerator, with its vendor's published specifications.

    Attributes:
        name: short name of the chip.
        platform: "tpu" or "cuda".
        memory: main memory in bytes.
        flops: peak FLOP/s of bfloat16 matrix products without sparsity.
        bandwidth: bandwidth of the main memory in bytes per second.
        alone: topology of a single chip.
        example: a topology of several chips.
        compiler_options: XLA options for compilation without the chip.
    """

    name: str
    platform: str
    memory: float
    flops: float
    bandwidth: float
    alone: str
    example: str
    compiler_options: dict[str, Any] = field(default_factory=dict)

    @property
    def budget(self) -> float:
        """Memory that a program may use, in bytes."""
        return self.memory * (1 - RESERVE)


# Autotuning needs a GPU, and Triton's tile sizes for matrix products are chosen only by autotuning.
_UNMEASURED = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}

# cloud.google.com/tpu/docs/{v5e,v6e,v5p} and NVIDIA's data sheet of the H100 SXM, read in 2025.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", "tpu", 16 * GIB, 197e12, 819e9, "1x1", "4x4"),
        Chip("v6e", "tpu", 32 * GIB, 918e12, 1640e9, "1x1", "4x4"),
        Chip("v5p", "tpu", 95 * GIB, 459e12, 2765e9, "1x1x1", "2x2x2"),
        Chip("h100", "cuda", 80e9, 989e12, 3350e9, "1", "8", _UNMEASURED),
    )
}


# By platform: the modules that can compile for it (one is enough), and the extra that installs the newest of them.
COMPILERS = {"tpu": (("libtpu",), "tpu"), "cuda": (("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12"), "cuda13")}


@dataclass(frozen=True)
class Target:
    """One or more chips of one type and their topology.

    Attributes:
        chip: the type of chip.
        topology: such as "4x4" (TPUs) or "8" (GPUs of one host).
    """

    chip: Chip
    topology: str

    def __str__(self) -> str:
        return f"{self.chip.name}:{self.topology}"

    @property
    def num_chips(self) -> int:
        """Number of chips."""
        return prod(map(int, self.topology.split("x")))


def parse_target(text: str) -> Target:
    """Parses "CHIP" (a single chip) or "CHIP:TOPOLOGY".

    Raises:
        ValueError: the chip or topology is unknown; the message lists the choices.
    """
    name, colon, topology = text.partition(":")
    if name not in CHIPS:
        raise ValueError(f"{text!r}: unknown chip; choose from {', '.join(CHIPS)}, with a topology as in v5e:4x4")
    chip = CHIPS[name]
    axes = chip.alone.count("x") + 1
    if colon and not re.fullmatch("x".join([r"[1-9]\d*"] * axes), topology):
        form = "a number of GPUs" if chip.platform == "cuda" else f"{axes} numbers of chips"
        raise ValueError(f"{text!r}: invalid topology; for {name}, pass {form}, as in {name}:{chip.example}")
    return Target(chip, topology or chip.alone)


def prepare_environment() -> None:
    """Prevents the compiler packages from looking for hardware; must be called before JAX is used.

    Variables that are already set in the environment are kept.
    """
    quiet = {"TPU_MIN_LOG_LEVEL": "3", "TPU_STDERR_LOG_LEVEL": "3", "TF_CPP_MIN_LOG_LEVEL": "2"}
    # Without these variables, libtpu queries the cloud's metadata server and waits for an answer.
    alone = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-1"}
    # Compilation does not use a TPU, so it need not wait for one that is in use.
    alone["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    cuda = {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}
    for name, value in (quiet | alone | cuda).items():
        os.environ.setdefault(name, value)
    # Everything except the compilation runs on the CPU, even if there is an accelerator.
    jax.config.update("jax_platforms", "cpu")
    # Programs for compile-only devices are not cached.
    jax.config.update("jax_enable_compilation_cache", False)
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)


def compile_only_devices(target: Target) -> list[jax.Device]:
    """Devices that programs can be compiled for but not run on.

    Raises:
        ValueError: the compiler is not installed or does not support the topology; the message gives the remedy.
    """
    from jax.experimental import topologies

    chip = target.chip
    compilers, extra = COMPILERS[chip.platform]
    if not any(map(_is_installed, compilers)):
        raise ValueError(f"the compiler for {chip.name} is not installed; run: pip install 'mossformer-jax[{extra}]'")
    try:
        if chip.platform == "cuda":
            options = {"target_config": H100_DESCRIPTION, "topology": f"1x1x{target.topology}"}
            return topologies.get_topology_desc(chip.name, platform="cuda", **options).devices
        # By default a host has several chips, so a single chip must be requested explicitly.
        bounds = {"chips_per_host_bounds": (1, 1, 1)} if target.num_chips == 1 else {}
        return topologies.get_topology_desc(str(target), platform="tpu", **bounds).devices
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"cannot compile for {target} ({reason}); use a supported topology, such as {chip.name}:{chip.example}"
        ) from error


def _is_installed(module: str) -> bool:
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.util.find_spec(module) is not None
    return False
