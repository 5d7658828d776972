"""Options of all commands that run JAX: the device and the compilation cache."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile

from mossformer_jax.cli.terminal import warn

DEVICES = ("cpu", "gpu", "tpu")
_BUCKETS = ("gs://", "s3://")


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Adds --device, --compile-cache and --no-compile-cache."""
    group = parser.add_argument_group("device")
    group.add_argument("--device", choices=DEVICES, help="device to run on (default: an accelerator if there is one)")
    cache = group.add_mutually_exclusive_group()
    cache.add_argument(
        "--compile-cache",
        metavar="DIR",
        help="folder for compiled programs, so that later runs start faster "
        "(default: JAX_COMPILATION_CACHE_DIR, else the user's cache folder)",
    )
    cache.add_argument("--no-compile-cache", action="store_true", help="do not store compiled programs")


def add_host_options(parser: argparse.ArgumentParser) -> None:
    """Adds --distributed, --coordinator-address, --num-processes and --process-id."""
    group = parser.add_argument_group("several hosts (run the same command on each; TPU pods and SLURM are detected)")
    group.add_argument("--distributed", action="store_true", help="join the cluster even if it is not detected")
    group.add_argument("--coordinator-address", metavar="HOST:PORT", help="address of process 0, if it is not detected")
    group.add_argument(
        "--num-processes",
        type=int,
        metavar="N",
        help="number of processes; 1 without the other options runs this process alone, even on a cluster",
    )
    group.add_argument("--process-id", type=int, metavar="I", help="index of this process, from 0")


def join_hosts(options: argparse.Namespace) -> None:
    """Joins the other processes, as given by the options of `add_host_options` or by the cluster.

    Call it before `prepare_jax`.

    Raises:
        ValueError: the options are incomplete, or the other processes cannot be joined.
    """
    from mossformer_jax.sharding import connect, is_one_of_several

    given = options.coordinator_address, options.num_processes, options.process_id
    if given == (None, 1, None):
        return  # several independent processes
    if options.distributed or given != (None, None, None) or is_one_of_several():
        connect(*given)


def prepare_jax(options: argparse.Namespace) -> None:
    """Sets JAX up according to the options of `add_device_options`.

    Raises:
        ValueError: there is no device of the requested kind.
    """
    import jax

    # JAX would log a message for every accelerator that it does not find.
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    _set_compile_cache(options)
    if options.device == "cpu":
        # Before the devices are first listed, so that no accelerator is initialised and its memory reserved.
        jax.config.update("jax_platforms", "cpu")
    try:
        devices = jax.local_devices(backend=options.device)  # devices of other hosts cannot be used
    # AssertionError: raised by JAX for JAX_PLATFORMS=cuda if its CUDA plugin is not installed.
    except (RuntimeError, AssertionError) as error:
        wanted = os.environ.get("JAX_PLATFORMS", "")
        asked, instead = (
            (f"--device {options.device}", "choose another")
            if options.device
            else (f"JAX_PLATFORMS={wanted!r}", "unset it")
        )
        raise ValueError(
            f"JAX finds no device for {asked}; {instead}, or install mossformer-jax[cuda13], [cuda12] or [tpu]"
        ) from error
    if options.device:
        jax.config.update("jax_default_device", devices[0])


def is_on_cpu(options: argparse.Namespace) -> bool:
    """Whether JAX computes on a CPU; call it after `prepare_jax`."""
    import jax

    return (options.device or jax.default_backend()) == "cpu"


def _set_compile_cache(options: argparse.Namespace) -> None:
    import jax
    import platformdirs

    if options.no_compile_cache:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    folder = options.compile_cache or os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = folder or os.path.join(platformdirs.user_cache_dir("mossformer-jax"), "compiled")
    if "://" in folder:  # a bucket, which JAX itself handles
        if not folder.startswith(_BUCKETS):
            kinds = ", ".join(_BUCKETS)
            warn(f"compiled programs are not stored: {folder}: is neither a folder nor a bucket ({kinds}...)")
            jax.config.update("jax_enable_compilation_cache", False)
            return
    else:
        try:
            os.makedirs(folder, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except (OSError, ValueError) as error:  # ValueError: a path with a null character
            reason = getattr(error, "strerror", None) or error
            warn(f"compiled programs are not stored: {folder}: {reason}; name another folder with --compile-cache")
            jax.config.update("jax_enable_compilation_cache", False)
            return
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
