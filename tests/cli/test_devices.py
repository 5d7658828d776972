"""Devices and the compilation cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from mossformer_jax.cli import main


@pytest.mark.medium
@pytest.mark.parametrize("platform", ["", "cuda"])
def test_a_missing_accelerator_is_an_error_only_if_it_was_requested(recordings, platform):
    script = "import sys; from mossformer_jax.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "score", "--mixture", "mix.wav"]
    command += ["--reference", "s1.wav", "s2.wav", "--estimate", "s2.wav", "s1.wav"]
    environment = {**os.environ, "JAX_PLATFORMS": platform}
    ran = subprocess.run(command, cwd=recordings, env=environment, capture_output=True, text=True)
    if platform:
        assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
        assert ran.stderr.startswith("mossformer-jax: error: ")
        assert platform in ran.stderr
    else:
        assert (ran.returncode, ran.stderr) == (0, "")
        assert "SI-SDRi" in ran.stdout


@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_a_missing_device_is_a_one_line_error(tiny_model_folder, error_of, device):
    if any(found.platform == device for found in jax.devices()):
        pytest.skip(f"there is a {device}")
    assert f"no device for --device {device}" in error_of("info", tiny_model_folder, "--device", device)


def test_the_cpu_can_be_chosen(tiny_model_folder, capsys):
    assert main(["info", str(tiny_model_folder), "--device", "cpu"]) == 0
    assert jax.config.jax_platforms == "cpu"
    assert jax.config.jax_default_device == jax.devices("cpu")[0]


@pytest.mark.medium
def test_a_second_run_reuses_the_compiled_program(recordings, tiny_model_folder, capsys):
    kept = []
    for _ in range(2):
        assert main(["separate", str(recordings / "mix.wav"), "--model", str(tiny_model_folder), "--overwrite"]) == 0
        cache = Path(jax.config.jax_compilation_cache_dir)
        kept.append({path.name for path in cache.iterdir() if path.name.endswith("-cache")})
    assert kept[0]
    assert kept[0] == kept[1]


def test_no_compile_cache_stores_nothing(tiny_model_folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["info", str(tiny_model_folder), "--no-compile-cache"]) == 0
    assert not jax.config.jax_enable_compilation_cache
    assert not (tmp_path / "cache").exists()


def test_the_compile_cache_option_overrides_the_environment(tiny_model_folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "environment"))
    assert main(["info", str(tiny_model_folder)]) == 0
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "environment")
    assert main(["info", str(tiny_model_folder), "--compile-cache", str(tmp_path / "option")]) == 0
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "option")


def test_the_cache_is_in_the_users_cache_folder_by_default(tiny_model_folder, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    assert main(["info", str(tiny_model_folder)]) == 0
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mossformer-jax" / "compiled")


def test_a_cache_that_cannot_be_written_is_a_warning(tiny_model_folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["info", str(tiny_model_folder), "--compile-cache", str(tmp_path / "file" / "cache")]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("mossformer-jax: warning: compiled programs are not stored: ")
    assert printed.err.count("\n") == 1
    assert not jax.config.jax_enable_compilation_cache


@pytest.mark.parametrize("folder", ["://", "://x", "ftp://host/x", "\0"])
def test_a_cache_that_is_neither_a_folder_nor_a_bucket_is_a_warning(tiny_model_folder, capsys, folder):
    assert main(["info", str(tiny_model_folder), "--compile-cache", folder]) == 0
    assert capsys.readouterr().err.startswith("mossformer-jax: warning: compiled programs are not stored: ")
