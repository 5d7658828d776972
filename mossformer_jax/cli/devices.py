"""The device that JAX runs on and the folder that keeps its compiled programs: options of all commands that use it."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile

from mossformer_jax.cli.terminal import warn

DEVICES = ("cpu", "gpu", "tpu")


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Adds --device, --compile-cache and --no-compile-cache."""
    group = parser.add_argument_group("device")
    group.add_argument("--device", choices=DEVICES, help="what to run on (default: the fastest that there is)")
    cache = group.add_mutually_exclusive_group()
    cache.add_argument(
        "--compile-cache",
        metavar="DIR",
        help="folder that keeps compiled programs, so that later runs start in seconds "
        "(default: JAX_COMPILATION_CACHE_DIR, else the user's cache folder)",
    )
    cache.add_argument("--no-compile-cache", action="store_true", help="keep no compiled programs")


def add_host_options(parser: argparse.ArgumentParser) -> None:
    """Adds --distributed, --coordinator-address, --num-processes and --process-id."""
    group = parser.add_argument_group("several hosts (the same command on each; TPU pods and SLURM are recognised)")
    group.add_argument("--distributed", action="store_true", help="join the other processes of the cluster in any case")
    group.add_argument("--coordinator-address", metavar="HOST:PORT", help="process 0, where there is no cluster to ask")
    group.add_argument("--num-processes", type=int, metavar="N", help="how many there are; 1 alone: stay alone")
    group.add_argument("--process-id", type=int, metavar="I", help="which of them this is, from 0")


def join_hosts(options: argparse.Namespace) -> None:
    """Joins the other processes as the options of `add_host_options` or the cluster say; before `prepare_jax`.

    Raises:
        ValueError: the options are incomplete, or the other processes cannot be joined.
    """
    from mossformer_jax.sharding import connect, is_one_of_several

    given = options.coordinator_address, options.num_processes, options.process_id
    if given == (None, 1, None):
        return  # one of several processes, each for itself
    if options.distributed or given != (None, None, None) or is_one_of_several():
        connect(*given)


def prepare_jax(options: argparse.Namespace) -> None:
    """Wakes JAX up as the options of `add_device_options` ask.

    Raises:
        ValueError: there is no device of the kind that the options or the environment ask for.
    """
    import jax

    # JAX would remark on every accelerator that it does not find.
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    _set_compile_cache(options)
    if options.device == "cpu":
        # Before the first look at the devices, so that no accelerator is woken up and its memory taken.
        jax.config.update("jax_platforms", "cpu")
    try:
        devices = jax.local_devices(backend=options.device)  # one of another host's could not be used
    # AssertionError: JAX's answer to JAX_PLATFORMS=cuda where its CUDA plugin is not installed.
    except (RuntimeError, AssertionError) as error:
        wanted = os.environ.get("JAX_PLATFORMS", "")
        asked, instead = (
            (f"--device {options.device}", "name another")
            if options.device
            else (f"JAX_PLATFORMS={wanted!r}", "unset it")
        )
        raise ValueError(
            f"JAX finds no device for {asked}; {instead}, or install mossformer-jax[cuda13], [cuda12] or [tpu]"
        ) from error
    if options.device:
        jax.config.update("jax_default_device", devices[0])


def _set_compile_cache(options: argparse.Namespace) -> None:
    import jax
    import platformdirs

    if options.no_compile_cache:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    folder = options.compile_cache or os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = folder or os.path.join(platformdirs.user_cache_dir("mossformer-jax"), "compiled")
    # A bucket (gs://...) is JAX's own business.
    if "://" not in folder:
        try:
            os.makedirs(folder, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            reason = error.strerror or error
            warn(f"compiled programs are not kept: {folder}: {reason}; name another folder with --compile-cache")
            jax.config.update("jax_enable_compilation_cache", False)
            return
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
