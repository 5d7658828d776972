"""Fixtures that several rooms share."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jax
import jaxtyping
import numpy as np
import pytest
from flax import nnx

from mossformer_jax.model import ModelConfig, MossFormer2
from mossformer_jax.separation import Separator
from mossformer_jax.weights import save_model

REPOSITORY = Path(__file__).parents[1]


def load_tool(name: str) -> ModuleType:
    """A script of tools/, which is no package, as a module."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def _programs_compiled_once(tmp_path_factory) -> None:
    """Many tests load a model of their own and compile the same program: the second takes it from a folder."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _optimize(fully: bool) -> None:
    jax.config.update("jax_disable_most_optimizations", not fully)
    # And in the processes that a test starts.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(not fully))


@pytest.fixture(scope="session", autouse=True)
def _programs_compiled_in_short() -> None:
    """A test spends nearly all its time compiling for a tiny network; without LLVM's costly passes, a third less."""
    _optimize(fully=False)


@pytest.fixture(scope="module")
def fully_optimized(_programs_compiled_in_short) -> Iterator[None]:
    """Compiles as users do: for what is about the machine's arithmetic, speed or memory, and for large networks."""
    _optimize(fully=True)
    yield
    _optimize(fully=False)


@pytest.fixture(scope="session")
def libri2mix_samples() -> Path:
    """The folder with six real Libri2Mix test mixtures; it lies outside the repository, so that it may be missing."""
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
    """Every part of MossFormer2 is in it, and it compiles in seconds."""
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
    """Shared, and so compiled once for 800 samples at 8 kHz, which most tests use."""
    return Separator.from_pretrained(tiny_model_folder)
