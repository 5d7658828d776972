"""The scripts of examples/ for clusters."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.skipif(os.name == "nt", reason="bash")
def test_the_slurm_script_separates_one_share_of_a_manifest(tmp_path):
    """With a stand-in for the command, which prints its arguments."""
    command = tmp_path / "mossformer-jax"
    command.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment |= {"SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "8"}
    ran = subprocess.run(
        [EXAMPLES / "slurm_array.sh", "my calls.csv", tmp_path / "out"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    printed = ran.stdout.splitlines()
    assert printed[:4] == ["separate", "--manifest", "my calls.csv", "-o"]
    assert printed[printed.index("--jobs") + 1] == "8"
    assert printed[printed.index("--shard") + 1] == "auto"
    assert printed[printed.index("--report") + 1] == f"{tmp_path}/out/report-3.jsonl"
    # The command accepts these options.
    from mossformer_jax.cli import make_parser

    make_parser().parse_args(printed)


def test_the_ray_script_imports_jax_in_its_actors_only():
    """With a stand-in for Ray."""
    program = """if True:
        import runpy, sys, types
        sys.modules["ray"] = types.ModuleType("ray")
        sys.modules["ray.data"] = types.SimpleNamespace(ActorPoolStrategy=None, DataContext=None)
        runpy.run_path(sys.argv[1])
        sys.exit("jax" in sys.modules)
        """
    subprocess.run([sys.executable, "-c", program, EXAMPLES / "ray_separate.py"], check=True)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_the_ray_script_separates_a_manifest(folder, tiny_model_folder, tmp_path):
    (folder / "bad.wav").write_text("no audio " * 9)
    manifest = tmp_path / "list.txt"
    manifest.write_text("\n".join(str(path) for path in sorted(folder.rglob("*.*"))))
    arguments = [manifest, "-o", tmp_path / "out", "--actors", "1", "--model", tiny_model_folder]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, EXAMPLES / "ray_separate.py", *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 1, ran.stderr
    rows = [json.loads(line) for line in (tmp_path / "out" / "report.jsonl").read_text().splitlines()]
    assert sorted(row["status"] for row in rows) == ["done", "done", "done", "failed"]
    assert {row["error_class"] for row in rows} == {None, "not_audio"}
    assert len(list((tmp_path / "out").glob("*_s?.wav"))) == 6
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "0 recordings done, 1 failed, 3 existed before" in ran.stdout
