"""`mossformer-jax train --compile-only` and `mossformer-jax info --compile-only`: errors and output.

Tests that compile are skipped if the compiler is not installed; `make test-tpu-compile` and `make test-gpu-compile`
create an environment with the compiler and run them.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import jax
import pytest

from mossformer_jax.accelerators import commands
from mossformer_jax.accelerators import report as reports
from mossformer_jax.accelerators.chips import CHIPS, parse_target
from mossformer_jax.accelerators.report import DoesNotFit, Report, print_report
from mossformer_jax.cli import main
from tests.training import runs

FULL = str(runs.REPOSITORY / "configs" / "libri2mix.py")
needs_tpu_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed; run: make test-tpu-compile"
)
needs_gpu_compiler = pytest.mark.skipif(
    not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)),
    reason="JAX's CUDA plugin is not installed; run: make test-gpu-compile",
)


def run(*command: str) -> str:
    """Runs a command in a separate process, without the tests' JAX settings, and returns its output."""
    ended = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=runs.REPOSITORY, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_an_unknown_chip_is_rejected_before_the_config_is_read(capsys):
    assert main(["train", "--config", "no_such.py", "--compile-only=v2"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "choose from v5e, v6e, v5p, h100" in line


def test_info_rejects_an_unknown_topology(capsys):
    assert main(["info", "--compile-only", "v5p:4x4"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "as in v5p:2x2x2" in line


@pytest.mark.parametrize("seconds", ["inf", "nan"])
def test_info_rejects_a_length_that_is_not_finite(capsys, seconds):
    arguments = ["info", "mossformer2-2spk", "--compile-only", "v5e", "--seconds", seconds]
    assert main(arguments) == 1
    assert f"--seconds is {seconds}; it must be a finite number" in capsys.readouterr().err


def test_a_report_gives_the_time_bound_and_the_largest_batch(monkeypatch, capsys):
    """The program is a mock: 1 GiB, and per mixture 2 GiB, 1 TFLOP and 1.638 GB of traffic."""

    def compiled(units: int, target) -> Report:
        peak = (1 + 2 * units) * 2**30
        if peak > target.chip.memory:
            raise DoesNotFit("too large")
        return Report(2**30, peak - 2**30, peak, units * 1e12, units * 1.638e9)

    monkeypatch.setattr(reports, "compile_report", compiled)
    print_report(lambda units: units, parse_target("v5e:2x2"), batch=4, audio_seconds=4.0, unit=2)
    printed = capsys.readouterr().out
    assert "peak 9.00 GiB of 16.00 GiB" in printed
    assert "roofline: 20.3 ms, bound by computation (computation 20.3 ms, memory 8.0 ms)" in printed
    assert "8 per chip: does not fit (too large)" in printed
    assert printed.endswith("6 mixtures per chip, 24 in total\n")
    assert CHIPS["v5e"].budget > 13 * 2**30


@pytest.mark.medium
def test_the_reported_model_has_the_sizes_of_the_initial_weights(monkeypatch, capsys, tiny_model_folder):
    monkeypatch.setattr(commands, "compile_only_devices", lambda _: jax.devices())
    monkeypatch.setattr(commands, "print_report", lambda *_, **__: None)
    monkeypatch.setattr(commands, "prepare_environment", lambda: None)
    flags = [f"--config.train.initial_weights={tiny_model_folder}", "--config.model.num_blocks=3"]
    commands.report_training(FULL, flags, "h100")
    assert "training step for h100:1, 1 chip(s): 3 blocks of 8 channels" in capsys.readouterr().out


@pytest.mark.slow
@needs_tpu_compiler
def test_a_sharded_step_compiles_for_tpus(tmp_path):
    flags = ["--workdir", str(tmp_path / "run"), "--config.data.batch_size=8", "--config.train.fsdp=2"]
    printed = run("train.py", "--config", str(runs.TINY), *flags, "--compile-only=v5e:2x2", "--no-search")
    assert "v5e:2x2, 4 chip(s), state sharded over 2" in printed
    assert "2 per chip: fits" in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@needs_tpu_compiler
def test_eight_mixtures_of_the_full_model_fit_a_v5e():
    flags = ["--config.model.dtype=bfloat16", "--config.model.remat=blocks", "--config.data.batch_size=8"]
    printed = run("train.py", "--config", FULL, *flags, "--compile-only=v5e", "--no-search")
    assert "8 per chip: fits" in printed


@pytest.mark.slow
@needs_tpu_compiler
def test_a_separation_compiles_for_a_tpu(tiny_model_folder):
    script = "import sys; from mossformer_jax.cli import main; sys.exit(main())"
    printed = run("-c", script, "info", str(tiny_model_folder), "--compile-only", "v6e", "--batch", "2")
    assert re.search(r"2 per chip: fits, peak [\d.]+ GiB", printed)


@pytest.mark.slow
@needs_gpu_compiler
def test_sixty_four_mixtures_of_the_full_model_fit_an_h100():
    flags = ["--config.model.dtype=bfloat16", "--config.model.remat=blocks", "--config.data.batch_size=64"]
    printed = run("train.py", "--config", FULL, *flags, "--compile-only=h100", "--no-search")
    assert "64 per chip: fits" in printed
