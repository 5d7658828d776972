"""A run that is interrupted and resumed ends bit-identical to an uninterrupted one.

The runs that are killed are processes of their own; the others are runs of this process.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from tests.training import runs

pytestmark = pytest.mark.slow

STEPS = 32
# Validations after steps 4, 8, ..., checkpoints after those and 3, 6, ...; an epoch has 3 steps.
INTERRUPTIONS = [
    ("SIGTERM step 4", 4),  # a validation is due after this step; the resumed run does it
    ("SIGKILL step 5", 4),  # between checkpoints, in the middle of an epoch
    ("SIGKILL unnamed 6", 4),  # during a save
    ("SIGTERM step 7", 7),
    ("SIGKILL validated 8", 7),  # the best weights are written, the checkpoint that refers to them is not
    ("SIGKILL saved 24", 24),
    ("SIGINT step 25", 25),
    ("SIGKILL saved 32", 32),  # all steps are done, but not everything is written
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("undisturbed")
    finished = runs.train_here(workdir)
    assert finished.returncode == 0, finished.stderr
    return workdir


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, undisturbed) -> Path:
    """A run that was interrupted in every way, one after the other; `undisturbed` has compiled its programs."""
    workdir = tmp_path_factory.mktemp("interrupted")
    for interrupt, saved_step in INTERRUPTIONS:
        name, place, step = interrupt.split()
        run = runs.train if name == "SIGKILL" else runs.train_here
        ended = run(workdir, interrupt=interrupt)
        if name == "SIGKILL":
            assert ended.returncode == -signal.SIGKILL, ended.stderr
        else:
            assert ended.returncode == 0, ended.stderr
            assert f"stopped by {name} after step {step} of {STEPS}, all saved" in ended.stdout.splitlines()[-1]
        assert "Traceback" not in ended.stderr
        if place == "unnamed":
            assert list((workdir / "checkpoints").glob(f"{step}.*tmp*")), "no unfinished checkpoint is left"
        assert max(int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*") if path.name.isdecimal()) == (
            saved_step
        )
    finished = runs.train_here(workdir)
    assert finished.returncode == 0, finished.stderr
    assert f"finished after step {STEPS}" in finished.stdout.splitlines()[-1]
    return workdir


def test_every_part_of_the_state_has_changed_in_the_run(undisturbed):
    rates = [record["learning_rate"] for record in runs.records(undisturbed) if record["kind"] == "train"]
    assert runs.notes(undisturbed, STEPS)["standing"]["plateau"]["factor"] < 1, "the plateau was never reached"
    assert rates[0] < max(rates)
    assert rates[-1] < max(rates)
    arrays = runs.checkpoint(undisturbed, STEPS)
    assert arrays["step"] == STEPS
    assert {name.split("/")[0] for name in arrays} == {
        *("step", "parameters", "buffers", "optimizer", "average", "plateau_factor", "skipped", "skipped_in_a_row"),
        "key",
    }


def test_written_models_are_those_of_an_undisturbed_run(undisturbed, interrupted):
    assert runs.written_models(interrupted) == runs.written_models(undisturbed)


def test_the_state_is_that_of_an_undisturbed_run(undisturbed, interrupted):
    runs.check_same_checkpoint(interrupted, undisturbed, STEPS)
    assert runs.notes(interrupted, STEPS)["standing"] == runs.notes(undisturbed, STEPS)["standing"]
    assert runs.notes(interrupted, STEPS)["batches"] == runs.notes(undisturbed, STEPS)["batches"]


def test_the_records_are_those_of_an_undisturbed_run(undisturbed, interrupted):
    assert runs.records(interrupted) == runs.records(undisturbed)


def test_a_finished_run_is_not_changed(interrupted):
    def contents() -> dict[str, tuple[int, bytes]]:
        files = (path for name in ("best", "last", "checkpoints") for path in (interrupted / name).rglob("*"))
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files if path.is_file()}

    before = contents()
    finished = runs.train_here(interrupted)
    assert finished.returncode == 0, finished.stderr
    assert contents() == before


def test_a_finished_run_continues_with_more_steps_and_stops_with_fewer(undisturbed, tmp_path):
    workdir = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    fewer = runs.train_here(workdir, "--config.train.steps=10")
    assert fewer.returncode == 0, fewer.stderr
    assert f"finished after step {STEPS}" in fewer.stdout
    more = runs.train_here(workdir, f"--config.train.steps={STEPS + 1}")
    assert more.returncode == 0, more.stderr
    # The run with fewer steps did not train, so it left the config of the run as it was.
    assert f"config.train.steps changed from {STEPS} to {STEPS + 1}" in more.stdout
    assert runs.checkpoint(workdir, STEPS + 1)["step"] == STEPS + 1
