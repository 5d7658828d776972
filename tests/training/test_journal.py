"""The records of a training: files that survive a kill, and the terminal."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import io
import json
import logging
import math
import os
import signal
import struct
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest
import soundfile
from tensorboardX.proto.event_pb2 import Event, SessionLog

from mossformer_jax.training import journal as journal_module
from mossformer_jax.training.journal import Example, Journal, Progress
from mossformer_jax.training.records import read_metrics
from mossformer_jax.training.tensorboard import TensorBoard

RECORD = Progress(50, 0.5, -3.21, 1.5e-4, 2.5, 3.4, 0.02, 1)
KILLED = """
import os, signal, sys
from pathlib import Path
from mossformer_jax.training.journal import Journal, Progress
journal = Journal(Path(sys.argv[1]), total_steps=100)
journal.note("begins")
for step in (10, 20, 30):
    journal.progress(Progress(step, 0.5, -3.0, 1e-4, 2.5, 3.4, 0.02, 0))
os.kill(os.getpid(), signal.SIGKILL)
"""


def events(folder):
    """All events of a run, in order."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return found


def values(folder):
    """The (step, value) pairs of each tag."""
    found = defaultdict(list)
    for event in events(folder):
        for value in event.summary.value:
            found[value.tag].append((event.step, getattr(value, value.WhichOneof("value"))))
    return found


def lines(folder):
    """Those of log.txt, without date and time."""
    return [line[20:] for line in (folder / "log.txt").read_text().splitlines()]


def steps(folder):
    return [record["step"] for record in read_metrics(folder)]


@pytest.fixture
def no_curves(monkeypatch):
    """loss.png takes a second to draw."""
    monkeypatch.setattr(journal_module, "plot_training", lambda *_: None)


@pytest.fixture
def example(rng):
    signals_ct = 0.1 * rng.standard_normal((5, 4000)).astype(np.float32)
    # Louder than a file can hold.
    return Example("a mixture", 8000, signals_ct[0], 40 * signals_ct[1:3], signals_ct[3:])


def test_a_record_is_written_to_every_output(tmp_path, capsys):
    with Journal(tmp_path, total_steps=100) as journal:
        journal.progress(RECORD)
        journal.validated(50, {"si_sdri_db": np.float32(4.5), "loss_db": -4.0}, best=True)
    records = read_metrics(tmp_path)
    times = [datetime.datetime.fromisoformat(record.pop("time")) for record in records]
    assert all(abs(time - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=5) for time in times)
    assert records == [
        {"kind": "train", **dataclasses.asdict(RECORD)},
        {"kind": "validation", "step": 50, "best": True, "si_sdri_db": 4.5, "loss_db": -4.0},
    ]
    assert lines(tmp_path) == [
        "step 50/100, epoch 0.50: loss -3.21 dB, lr 1.50e-04, gradient norm 2.50, 3.4 mixtures/s, 2% waiting for data, "
        "1 skipped, 0:00:00 left",
        "validation at step 50: SI-SDRi 4.50 dB, loss -4.00 dB (best so far)",
    ]
    assert capsys.readouterr().out == (tmp_path / "log.txt").read_text()
    assert values(tmp_path)["train/loss"] == [(50, np.float32(-3.21))]
    assert values(tmp_path)["validation/si_sdri_db"] == [(50, 4.5)]
    assert (tmp_path / "loss.png").exists()


@pytest.mark.parametrize("loss", [math.nan, math.inf, np.float32(math.nan)])
@pytest.mark.usefixtures("no_curves")
def test_values_that_are_not_finite_are_null_in_json_and_shown_in_the_log(tmp_path, loss, capfd):
    with Journal(tmp_path, total_steps=100) as journal:
        journal.progress(dataclasses.replace(RECORD, loss=loss))
    assert read_metrics(tmp_path)[0]["loss"] is None
    assert f"loss {loss} dB" in lines(tmp_path)[0]
    assert not math.isfinite(values(tmp_path)["train/loss"][0][1])
    assert capfd.readouterr().err == ""


@pytest.mark.medium
def test_a_killed_process_leaves_everything_it_wrote_on_disk(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert steps(tmp_path) == [10, 20, 30]
    assert [line.partition(",")[0] for line in lines(tmp_path)] == [
        "begins",
        "step 10/100",
        "step 20/100",
        "step 30/100",
    ]
    assert [step for step, _ in values(tmp_path)["train/loss"]] == [10, 20, 30]
    assert killed.stdout == (tmp_path / "log.txt").read_text()


@pytest.mark.medium
def test_resuming_drops_records_of_repeated_steps_and_keeps_the_log(tmp_path):
    with Journal(tmp_path, total_steps=100) as journal:
        for step in (10, 20, 30, 40):
            journal.progress(dataclasses.replace(RECORD, step=step))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tra')  # a kill while writing
    with (tmp_path / "log.txt").open("a") as file:
        file.write("2000-01-01 00:00:00 ste")
    with Journal(tmp_path, total_steps=100, step=20) as journal:
        journal.progress(dataclasses.replace(RECORD, step=25))
    assert steps(tmp_path) == [10, 20, 25]
    assert lines(tmp_path)[4:6] == [
        "ste",
        "resumed at step 20; dropped 2 records of later steps, which are repeated",
    ]
    assert len(lines(tmp_path)) == 7
    restarts = [event.step for event in events(tmp_path) if event.session_log.status == SessionLog.START]
    assert restarts == [1, 21]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"log.txt", "metrics.jsonl", "tensorboard", "loss.png"}


@pytest.mark.usefixtures("no_curves")
def test_warnings_of_the_package_are_in_the_log_once(tmp_path, capsys):
    package, pipeline = (logging.getLogger(f"mossformer_jax{name}") for name in ("", ".data.pipeline"))
    before = (list(package.handlers), package.propagate)
    of_absl = logging.StreamHandler()  # which scripts install
    logging.getLogger().addHandler(of_absl)
    with Journal(tmp_path, total_steps=100):
        pipeline.warning("replaced by another mixture: %s", "a [b].wav:\ndamaged")
    logging.getLogger().removeHandler(of_absl)
    assert lines(tmp_path) == ["warning: replaced by another mixture: a [b].wav: damaged"]
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ((tmp_path / "log.txt").read_text(), "")
    assert (package.handlers, package.propagate) == before


@pytest.mark.usefixtures("no_curves")
def test_a_terminal_has_a_live_line_below_the_notes(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with Journal(tmp_path, total_steps=100, step=10) as journal:
        journal.validated(10, {"si_sdri_db": 4.5}, best=False)
        journal.progress(RECORD)
        journal.note("a [note]")
        assert sys.stdout is not terminal  # other output is printed above the line
        print("a print")
    shown = terminal.getvalue()
    assert "loss -3.21 dB  SI-SDRi 4.50 dB  lr 1.50e-04  gradient norm 2.50" in shown
    assert "10/100" in shown
    assert "50/100" in shown
    assert "a [note]" in shown
    assert "step 50" not in shown  # it is in the log alone
    assert "step 50/100" in lines(tmp_path)[1]
    assert shown.index("a [note]") < shown.index("a print")
    assert sys.stdout is terminal


@pytest.mark.medium
@pytest.mark.usefixtures("no_curves")
def test_examples_are_scaled_by_one_factor_and_references_written_once(tmp_path, example, capfd):
    with Journal(tmp_path, total_steps=100) as journal:
        for step in (10, 20):
            journal.validated(step, {}, best=False, examples=[example])
    found = values(tmp_path)
    assert {tag: [step for step, _ in pairs] for tag, pairs in found.items()} == {
        "a mixture/mixture": [10, 20],
        "a mixture/estimate 1": [10, 20],
        "a mixture/estimate 2": [10, 20],
        "a mixture/reference 1": [10],
        "a mixture/reference 2": [10],
        "a_mixture/spectrograms": [10, 20],
    }
    sounds = [
        soundfile.read(io.BytesIO(found[f"a mixture/{name}"][0][1].encoded_audio_string))
        for name in ("mixture", "estimate 1", "estimate 2", "reference 1", "reference 2")
    ]
    assert {rate for _, rate in sounds} == {8000}
    signals_ct = np.stack([example.mixture_t, *example.estimates_ct, *example.references_ct])
    # Half a step of 16 bit, and float32 rounding.
    np.testing.assert_allclose([t for t, _ in sounds], 0.9 * signals_ct / np.abs(signals_ct).max(), atol=2**-15)
    picture = found["a_mixture/spectrograms"][0][1]
    assert (picture.width, picture.colorspace) == (600, 3)
    assert capfd.readouterr().err == ""


@pytest.mark.medium
@pytest.mark.parametrize("estimate", [math.nan, 0.0])
@pytest.mark.usefixtures("no_curves")
def test_examples_of_a_broken_model_are_shown(tmp_path, estimate):
    silence_ct = np.zeros((2, 800), np.float32)
    with Journal(tmp_path, total_steps=100) as journal:
        broken = Example("x", 8000, silence_ct[0], silence_ct + np.float32(estimate), silence_ct)
        journal.validated(10, {}, best=False, examples=[broken])
    assert "x/spectrograms" in values(tmp_path)
    assert not any("warning" in line for line in lines(tmp_path))


def test_a_failed_plot_is_a_warning_and_does_not_hide_an_error(tmp_path, monkeypatch, example):
    def fail(*_):
        raise RuntimeError("no font")

    monkeypatch.setattr(journal_module, "plot_training", fail)
    monkeypatch.setattr("mossformer_jax.training.tensorboard.spectrogram_figure", fail)
    with pytest.raises(KeyError, match="own"), Journal(tmp_path, total_steps=100) as journal:  # noqa: PT012
        journal.validated(10, {"si_sdri_db": 1.0}, best=True, examples=[example])
        raise KeyError("own")
    warning = "warning: {} could not be drawn: RuntimeError: no font"
    assert [line for line in lines(tmp_path) if "warning" in line] == [
        warning.format(what) for what in ("the examples", "loss.png")
    ]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no file that is always full")
@pytest.mark.usefixtures("no_curves")
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    full = open("/dev/full", "w")  # noqa: SIM115
    with pytest.raises(OSError, match="run the same command again to resume") as caught:  # noqa: PT012, SIM117
        with Journal(tmp_path, total_steps=100) as journal:
            journal._metrics.close()
            journal._metrics = full
            journal.progress(RECORD)
    with contextlib.suppress(OSError):
        full.close()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "metrics.jsonl"))


@pytest.mark.usefixtures("no_curves")
def test_closing_on_a_full_disk_does_not_hide_an_error(tmp_path, monkeypatch):
    close = TensorBoard.close

    def fail(tensorboard):
        close(tensorboard)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TensorBoard, "close", fail)
    with pytest.raises(KeyError, match="own"), Journal(tmp_path, total_steps=100):
        raise KeyError("own")


@pytest.mark.usefixtures("no_curves")
def test_a_restart_within_a_second_does_not_overwrite_events(tmp_path):
    for step in (0, 10):
        Journal(tmp_path, total_steps=100, step=step).close()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


@pytest.mark.usefixtures("no_curves")
def test_closing_twice_is_no_error(tmp_path):
    journal = Journal(tmp_path, total_steps=100)
    journal.close()
    journal.close()


@pytest.mark.usefixtures("no_curves")
def test_metrics_are_json_of_numbers(tmp_path):
    with Journal(tmp_path, total_steps=100) as journal:
        journal.progress(dataclasses.replace(RECORD, loss=np.float32(-1.5), skipped=np.int64(3)))
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    record = json.loads(line, parse_constant=pytest.fail)
    assert (record["loss"], record["skipped"]) == (-1.5, 3)


@pytest.mark.usefixtures("no_curves")
def test_the_log_estimates_the_time_left(tmp_path, monkeypatch):
    clock = iter([0.0, 60.0, 80.0, 100.0])  # the first ten steps include a compilation of 40 s
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: next(clock))
    with Journal(tmp_path, total_steps=100) as journal:
        for step in (10, 20, 30):
            journal.progress(dataclasses.replace(RECORD, step=step))
    assert [line.rpartition(", ")[2] for line in lines(tmp_path)] == ["0:09:00 left", "0:02:40 left", "0:02:20 left"]
