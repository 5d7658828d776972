"""Fixtures shared by several test folders."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import jax
import jaxtyping
import numpy as np
import pytest
from flax import nnx
from jax.experimental.compilation_cache import compilation_cache

from mossformer_jax.model import ModelConfig, MossFormer2
from mossformer_jax.separation import Separator
from mossformer_jax.weights import save_model

REPOSITORY = Path(__file__).parents[1]
COMPILED = REPOSITORY / ".pytest_cache" / "compiled"
# PYTHONPATH of processes that tests start.
PYTHONPATH = os.pathsep.join([str(REPOSITORY / "tests" / "startup"), str(REPOSITORY)])
# For XLA_FLAGS: XLA's previous code generator halves the time of a compilation. Compiling a program in one piece
# instead of 32 saves another fifth of the CPU time; many pieces only help with many cores. Newer releases no longer
# have the previous generator, and XLA aborts if a flag is unknown.
FAST_COMPILATION = (
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    if jax.__version_info__ < (0, 11)
    else ""
)


# Settings of JAX that the command changes.
CHANGED_BY_THE_COMMAND = (
    "jax_platforms",
    "jax_default_device",
    "jax_debug_nans",
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@contextmanager
def settings_of_jax_restored() -> Iterator[None]:
    """Undoes what the command changes in JAX's settings, for the other tests of this process."""
    before = {name: getattr(jax.config, name) for name in CHANGED_BY_THE_COMMAND}
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        # JAX decides only once whether and where it keeps programs.
        compilation_cache.reset_cache()


def load_tool(name: str) -> ModuleType:
    """Imports a script of tools/, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fast-compiler",
        action="store_true",
        help="compile with XLA's previous code generator, which takes a third less time; tests marked "
        "default_compiler are deselected: run them with -m default_compiler",
    )


def pytest_configure(config: pytest.Config) -> None:
    gc.set_threshold(50_000)  # tests/startup/sitecustomize.py gives the reason
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [PYTHONPATH, os.environ.get("PYTHONPATH")]))
    if config.getoption("--fast-compiler"):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FAST_COMPILATION}".strip()
    if not hasattr(config, "workerinput"):
        COMPILED.mkdir(parents=True, exist_ok=True)
        _forget_old_programs()


def _forget_old_programs() -> None:
    """Removes programs compiled more than a week ago, because every change of the model or of JAX adds new ones."""
    for file in COMPILED.iterdir():
        if file.stat().st_mtime < time.time() - 7 * 24 * 3600:
            file.unlink(missing_ok=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks the tests that need the default compiler, and runs the files with slow tests first.

    Otherwise, one worker could be left with a slow file while the other one is idle.
    """
    for item in items:
        if "fully_optimized" in getattr(item, "fixturenames", ()):
            item.add_marker("default_compiler")
    if config.getoption("--fast-compiler"):
        others = [item for item in items if item.get_closest_marker("default_compiler")]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def _programs_compiled_once() -> None:
    """Compiles each program once: tests, workers and later test runs share a cache of compiled programs."""
    jax.config.update("jax_compilation_cache_dir", str(COMPILED))
    # Storing a program takes milliseconds.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # Also for commands and for processes started by tests, which would otherwise use the cache of the user.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(COMPILED)


def _optimize(fully: bool) -> None:
    jax.config.update("jax_disable_most_optimizations", not fully)
    # Also for processes started by tests.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(not fully))


@pytest.fixture(scope="session", autouse=True)
def _programs_compiled_in_short() -> None:
    """Turns off LLVM's costly passes: tests mostly compile tiny networks, which then takes a third less time."""
    _optimize(fully=False)


@pytest.fixture(scope="module")
def fully_optimized(_programs_compiled_in_short) -> Iterator[None]:
    """Compiles with default options, for tests of arithmetic, speed or memory and for large networks."""
    _optimize(fully=True)
    yield
    _optimize(fully=False)


@pytest.fixture(scope="session")
def libri2mix_samples() -> Path:
    """The folder with six real Libri2Mix test mixtures. It is not part of the repository and may be missing."""
    root = Path(os.environ.get("MOSSFORMER_JAX_DATA", REPOSITORY.parent / "shared" / "data"))
    folder = root / "libri2mix_samples"
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder} (set MOSSFORMER_JAX_DATA to the folder that holds them)")
    return folder


@pytest.fixture(autouse=True)
def _checks_of_the_package_itself(request) -> Iterator[None]:
    """Annotations are not checked where a test is about the package's own check of an argument."""
    jaxtyping.config.update("jaxtyping_disable", request.node.get_closest_marker("own_checks") is not None)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """A tiny MossFormer2 with all its parts, which compiles in seconds."""
    return ModelConfig(
        encoder_channels=16, model_channels=8, num_blocks=1, group_size=32, query_key_channels=8, fsmn_channels=8
    )


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory, tiny_config) -> Path:
    """A stored model with random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(folder, tiny_config, nnx.state(MossFormer2(tiny_config, rngs=nnx.Rngs(0))))
    return folder


@pytest.fixture(scope="session")
def tiny_separator(tiny_model_folder) -> Separator:
    """A shared separator, so that it is compiled only once for 800 samples at 8 kHz, the length in most tests."""
    return Separator.from_pretrained(tiny_model_folder)
