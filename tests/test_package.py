"""The package as users install it: a wheel, outside the clone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest

import mossformer_jax
from mossformer_jax.audio import read_audio
from mossformer_jax.model import ModelConfig
from mossformer_jax.weights import load_parameters
from tests.parity import oracle

REPOSITORY = Path(__file__).parents[1]


def _run(*command: str | Path, **options) -> str:
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_every_public_name_can_be_imported():
    assert {name: getattr(mossformer_jax, name) for name in mossformer_jax.__all__}
    assert set(dir(mossformer_jax)) == set(mossformer_jax.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        mossformer_jax.no_such_name  # noqa: B018


@pytest.mark.parametrize("folder", ["examples", "examples/synthetic"])
def test_the_example_mixture_is_the_sum_of_its_sources(folder):
    mixture, first, second = (read_audio(REPOSITORY / folder / f"{n}.wav") for n in ("mixture", "source1", "source2"))
    assert mixture[1] == first[1] == second[1] == 8000
    np.testing.assert_allclose(mixture[0], first[0] + second[0], rtol=0, atol=0.5 / 2**15)  # 16-bit rounding
    assert all(np.abs(waveform).max() > 0.1 for waveform, _ in (first, second))
    assert np.abs(mixture[0]).max() < 1.0 - 1 / 2**15  # not clipped


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Without isolation, so that hatchling is not downloaded.
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    _run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, REPOSITORY)
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_contains_exactly_the_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path for path in REPOSITORY.glob("mossformer_jax/**/*") if path.is_file() and path.suffix != ".pyc"]
    assert "mossformer_jax/py.typed" in names
    assert {path.relative_to(REPOSITORY).as_posix() for path in files} <= names  # the modules and the assets
    assert {f"mossformer_jax/configs/{path.name}" for path in REPOSITORY.glob("configs/*.py")} <= names
    page = [path for path in REPOSITORY.glob("web/page/*") if path.is_file()]
    assert {f"mossformer_jax/page/{path.name}" for path in page} <= names
    assert {name.split("/")[0] for name in names} == {
        "mossformer_jax",
        f"mossformer_jax-{mossformer_jax.__version__}.dist-info",
    }


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The scripts of an environment that has the wheel.

    Its dependencies are those of this environment, linked into an empty one; the package itself comes from the wheel.
    """
    environment = tmp_path_factory.mktemp("installed") / "environment"
    _run(sys.executable, "-m", "venv", environment)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    _run(scripts / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, env=_environment())
    site_packages = sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)})
    # Python does not read .pth files in a linked folder, so the one that refers to the clone has no effect.
    Path(site_packages, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return scripts


def _environment() -> dict[str, str]:
    """The environment variables of this process without the clone."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.mark.slow
def test_the_wheel_runs_every_command_in_an_empty_folder(installed, tmp_path):
    def run(*words: str | Path) -> str:
        return _run(*words, cwd=tmp_path, env=_environment() | {"JAX_PLATFORMS": "cpu"})

    location = run(installed / "python", "-c", "import mossformer_jax; print(mossformer_jax.__file__)")
    assert Path(location.strip()).is_relative_to(installed.parent)
    command = installed / "mossformer-jax"

    sizes = {"num_blocks": 1, "encoder_channels": 16, "model_channels": 8, "query_key_channels": 8, "fsmn_channels": 8}
    network = [f"--config.model.{name}={value}" for name, value in sizes.items()]
    short = ["--config.train.steps=2", "--config.train.decay_steps=0", "--config.train.validate_every=2"]
    small = [
        "--config.data.seconds=0.2",
        "--config.data.validation.num_mixtures=1",
        "--config.data.test.num_mixtures=1",
    ]
    run(command, "train", "--config", "demo", *network, *short, *small)
    assert (tmp_path / "runs" / "demo" / "last" / "config.json").is_file()
    assert "SI-SDRi (dB)" in run(command, "evaluate", "--run", "runs/demo")
    assert "parameters" in run(command, "info", "runs/demo")
    assert "mixtures in an epoch" in run(command, "data", "inspect", "--config", "demo", "--measure", "1")

    mixture = REPOSITORY / "examples" / "mixture.wav"
    run(command, "separate", mixture, "-o", "out", "--model", "runs/demo")
    assert read_audio(tmp_path / "out" / "mixture_s2.wav")[0].shape == read_audio(mixture)[0].shape


@pytest.mark.slow
@pytest.mark.skipif(not oracle.is_installed(), reason=oracle.MISSING)
def test_the_wheel_converts_an_official_checkpoint(installed, tmp_path):
    config = ModelConfig(encoder_channels=24, model_channels=24, num_blocks=1)
    oracle.write_family_c(tmp_path / "official", oracle.build(config).state_dict(), config)
    command = installed / "mossformer-jax"
    _run(command, "convert", "--input", "official", "--output", "ours", cwd=tmp_path, env=_environment())
    assert load_parameters(tmp_path / "ours")[0] == config
