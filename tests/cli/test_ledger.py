"""`separate --report` and `mossformer-jax report`: what is recorded, what a rerun skips, and what it repeats."""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
import threading

import numpy as np
import pytest

from mossformer_jax.audio import write_audio
from mossformer_jax.cli import main
from mossformer_jax.cli.failures import error_class, is_permanent
from mossformer_jax.locks import append_line


@pytest.fixture
def run(folder, stand_in, tmp_path, capsys):
    """Runs `separate --report` on the folder; returns the status, the recordings separated, and the output."""

    def run(*arguments):
        stand_in.calls.clear()
        options = ["-o", tmp_path / "out", "--report", tmp_path / "report.jsonl"]
        status = main(["separate", *map(str, options), str(folder), *map(str, arguments)])
        return status, list(stand_in.calls), capsys.readouterr()

    return run


@pytest.fixture
def ledger(tmp_path):
    """The lines of the ledger."""
    return lambda: [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]


def cells(printed: str) -> dict[str, list[str]]:
    """The rows of a printed table by their first cell."""
    rows = [line.split("  ") for line in printed.splitlines() if "  " in line]
    return {row[0].strip(): [cell.strip() for cell in row[1:] if cell.strip()] for row in rows}


def test_every_recording_gets_a_line(folder, run, ledger, tmp_path):
    (folder / "bad.wav").write_text("no audio " * 9)
    status, calls, printed = run()
    assert status == 1
    assert calls == ["a.wav", "b.flac", "bad.wav", "c.wav"]
    lines = ledger()
    assert [line["status"] for line in lines] == ["done", "done", "failed", "done"]
    assert all(set(line) == set(lines[0]) for line in lines)
    done, failed = lines[0], lines[2]
    assert done["input"] == str(folder / "a.wav")
    assert done["outputs"] == [str(tmp_path / "out" / f"a_s{number}.wav") for number in (1, 2)]
    assert done["output_bytes"] == [os.path.getsize(path) for path in done["outputs"]]
    assert (done["duration"], done["real_time_factor"]) == (0.1, pytest.approx(0.1))
    assert done["input_bytes"] == os.path.getsize(folder / "a.wav")
    assert len(done["model"]) == 16
    assert failed["error_class"] == "not_audio"
    assert "bad.wav: cannot be read as audio" in failed["error"]
    table = cells(printed.out)
    assert (table["done"][0], table["failed: not_audio"], table["total"]) == ("3", ["1"], ["4"])


def test_a_rerun_skips_what_is_done_and_does_not_repeat_what_cannot_pass(folder, run, ledger):
    (folder / "bad.wav").write_text("no audio " * 9)
    run()
    before = ledger()
    status, calls, printed = run()
    assert (status, calls) == (1, [])
    assert ledger() == before
    assert "bad.wav: cannot be read as audio" in printed.err
    assert cells(printed.out)["skipped"] == ["3"]
    write_audio(folder / "bad.wav", np.zeros(800), 8000)
    status, calls, _ = run()
    assert (status, calls) == (0, ["bad.wav"])
    assert run()[:2] == (0, [])


def test_changed_recordings_and_lost_sources_are_separated_again(folder, run, ledger, tmp_path, rng):
    run()
    write_audio(folder / "a.wav", 0.1 * rng.standard_normal(900), 8000)
    (tmp_path / "out" / "b_s2.wav").unlink()
    (tmp_path / "out" / "sub" / "c_s1.wav").write_bytes(b"cut short")
    status, calls, _ = run()
    assert (status, calls) == (0, ["a.wav", "b.flac", "c.wav"])
    assert run()[:2] == (0, [])
    assert len(ledger()) == 6


def test_a_recording_that_was_moved_away_stays_done(folder, run):
    run()
    status, calls, _ = run(folder / "a.wav", folder / "x.wav")
    assert (status, calls) == (1, ["x.wav"])
    (folder / "a.wav").unlink()
    status, calls, _ = run(folder / "a.wav")
    assert (status, calls) == (0, [])


@pytest.mark.parametrize("verify", [False, True])
def test_verify_compares_digests_instead_of_times(folder, run, verify):
    options = ["--verify"] if verify else []
    run(*options)
    os.utime(folder / "a.wav", (1, 1))
    assert run(*options)[1] == ([] if verify else ["a.wav"])
    found = os.stat(folder / "b.flac")
    content = (folder / "b.flac").read_bytes()
    (folder / "b.flac").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(folder / "b.flac", ns=(found.st_atime_ns, found.st_mtime_ns))
    assert run(*options)[1] == (["b.flac"] if verify else [])


def test_a_recording_that_changes_while_it_is_separated_is_separated_again(folder, stand_in, run, monkeypatch):
    inner = stand_in.separate_file

    def then_change(separator, path, *arguments, **keywords):
        separated = inner(separator, path, *arguments, **keywords)
        if path.endswith("a.wav"):
            write_audio(path, np.zeros(os.path.getsize(path)), 8000)
        return separated

    monkeypatch.setattr("mossformer_jax.cli.attempt.separate_file", then_change)
    for options in ([], ["--verify"]):
        run("--overwrite", *options)
        assert run(*options)[1] == ["a.wav"]


def test_errors_that_can_pass_are_tried_again(folder, stand_in, run, ledger, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    stand_in.raises["b.flac"] = OSError(errno.EIO, "Input/output error")
    stand_in.raises["a.wav"] = ValueError("the network's output holds NaN")
    status, calls, printed = run("--retries", "2")
    assert (status, calls) == (1, ["a.wav", "b.flac", "c.wav", "b.flac", "b.flac"])
    assert [line["attempts"] for line in ledger() if line["input"].endswith("b.flac")] == [1, 2, 3]
    assert "attempt 2 of 3" in printed.err
    assert printed.out.count("failed: io") == 1
    del stand_in.raises["b.flac"]
    status, calls, _ = run()
    assert (status, calls) == (1, ["a.wav", "b.flac"])


def test_overwrite_separates_again(run, ledger):
    run()
    assert run("--overwrite")[1] == ["a.wav", "b.flac", "c.wav"]
    assert len(ledger()) == 6


def test_sources_of_a_run_without_a_ledger_are_kept(run, stand_in, folder, tmp_path, ledger):
    assert main(["separate", str(folder), "-o", str(tmp_path / "out")]) == 0
    assert run()[:2] == (0, [])
    assert ledger() == []


def test_another_model_is_reported(run, tmp_path):
    run()
    text = (tmp_path / "report.jsonl").read_text()
    model = json.loads(text.splitlines()[0])["model"]
    (tmp_path / "report.jsonl").write_text(text.replace(model, "0" * 16))
    _, calls, printed = run()
    assert calls == []
    assert "3 of the recordings that were skipped were separated with another model" in printed.err


def test_incomplete_and_foreign_lines_are_skipped(run, tmp_path, ledger):
    run()
    path = tmp_path / "report.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    foreign = b'[1]\n{"status": "done", "input": "a", "outputs": [{}]}\n'
    path.write_bytes(foreign + b"".join(lines[:2]) + lines[2][:50])
    (tmp_path / "out" / "sub" / "c_s1.wav").unlink()
    (tmp_path / "out" / "sub" / "c_s2.wav").unlink()
    assert run()[1] == ["c.wav"]
    assert json.loads(path.read_text().splitlines()[-1])["input"].endswith("c.wav")
    assert main(["report", str(path)]) == 0


def test_lines_of_several_threads_and_processes_are_complete(tmp_path):
    path = tmp_path / "ledger"

    def append(number):
        for count in range(50):
            append_line(path, json.dumps([number, count, "x" * 5000]).encode())

    threads = [threading.Thread(target=append, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(line[:2] for line in lines) == [[number, count] for number in range(8) for count in range(50)]


def test_the_report_is_printed_and_written_as_csv_and_html(folder, run, tmp_path, capsys):
    (folder / "bad <name>.wav").write_text("no audio " * 9)
    run()
    table, page = tmp_path / "r.csv", tmp_path / "r.html"
    assert main(["report", str(tmp_path / "report.jsonl"), "--csv", str(table), "--html", str(page)]) == 0
    printed = capsys.readouterr().out
    assert cells(printed)["failed: not_audio"] == ["1"]
    assert "1 process on 1 host" in printed
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["status"] for row in rows] == ["done", "done", "failed", "done"]
    html = page.read_text()
    assert "bad &lt;name&gt;.wav" in html
    assert "<svg" in html
    assert "src=" not in html


def test_ledgers_of_shards_are_joined_and_the_last_line_counts(tmp_path, capsys):
    for number, status in ((1, "failed"), (2, "done")):
        records = [
            {
                "status": status,
                "input": "/a.wav",
                "outputs": ["/a_s1.wav"],
                "time": f"2026-01-0{number}",
                "duration": 36,
            },
            {"status": "done", "input": f"/{number}.wav", "outputs": [f"/{number}_s1.wav"], "time": "2026"},
        ]
        (tmp_path / f"{number}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["report", str(tmp_path / "2.jsonl"), str(tmp_path / "1.jsonl")]) == 0
    table = cells(capsys.readouterr().out)
    assert table["done"] == ["3", "0.010"]
    assert table["total"] == ["3"]


@pytest.mark.parametrize(("name", "message"), [("none", "no such file"), ("text", "is not a report of separate")])
def test_a_file_that_is_not_a_ledger_is_an_error(tmp_path, error_of, name, message):
    (tmp_path / "text").write_text("text\n")
    assert message in error_of("report", tmp_path / name)


def test_a_ledger_that_cannot_be_opened_is_an_error(folder, stand_in, tmp_path, error_of):
    assert "cannot be opened as a report" in error_of("separate", folder, "--report", tmp_path)
    assert stand_in.calls == []


def test_verify_without_a_ledger_is_wrong_usage(capsys):
    with pytest.raises(SystemExit):
        main(["separate", "a.wav", "--verify"])
    assert "--verify needs --report" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError("x"), "missing"),
        (PermissionError("x"), "permission"),
        (OSError(errno.ENOSPC, "x"), "disk_full"),
        (OSError(errno.EIO, "x"), "io"),
        (MemoryError(), "memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: x"), "memory"),
        (RuntimeError("INTERNAL"), "runtime"),
        (ValueError("x"), "other"),
    ],
)
def test_errors_have_a_class(error, expected):
    assert error_class(error, "a.wav") == expected
    assert not is_permanent(expected)


def test_errors_of_servers_have_a_class_of_their_own():
    assert error_class(OSError("x"), "http://host/a.wav") == "download"


def _wav(name, folder, waveform, subtype="FLOAT"):
    write_audio(folder / name, waveform, 8000, subtype)
    return folder / name


def broken_files(folder) -> dict[str, str]:
    """Writes one file per way in which recordings are broken; returns the error classes by name."""
    noise = np.random.default_rng(0).standard_normal(800) * 0.1
    content = _wav("good.wav", folder, noise).read_bytes()
    flac = folder / "cut.flac"
    write_audio(flac, np.tile(noise, 20), 8000)
    flac.write_bytes(flac.read_bytes()[:9000] + b"\xff" * 5000)
    _wav("nan.wav", folder, np.zeros(800))
    (folder / "nan.wav").write_bytes(content[:-4] + np.float32(np.nan).tobytes())
    _wav("short.wav", folder, noise[:3])
    _wav("none.wav", folder, noise[:0])
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("words " * 20)
    (folder / "zeros.wav").write_bytes(bytes(1000))
    (folder / "page.wav").write_text("<!doctype html><html>")
    (folder / "archive.wav").write_bytes(b"PK\x03\x04" + bytes(100))
    write_audio(folder / "rate.wav", noise, 8000)
    header = (folder / "rate.wav").read_bytes()
    (folder / "rate.wav").write_bytes(header[:24] + (7).to_bytes(4, "little") + header[28:])
    (folder / "good.wav").unlink()
    return {
        "cut.flac": "damaged",
        "nan.wav": "not_finite",
        "short.wav": "too_short",
        "none.wav": "empty",
        "empty.wav": "empty",
        "text.wav": "not_audio",
        "zeros.wav": "not_audio",
        "page.wav": "not_audio",
        "archive.wav": "not_audio",
        "rate.wav": "header",
    }


def test_broken_recordings_are_recorded_with_their_class(tmp_path, tiny_model_folder, ledger, capsys):
    (tmp_path / "in").mkdir()
    expected = broken_files(tmp_path / "in")
    options = ["-o", tmp_path / "out", "--report", tmp_path / "report.jsonl", "--model", tiny_model_folder]
    assert main(["separate", str(tmp_path / "in"), *map(str, options)]) == 1
    assert {os.path.basename(line["input"]): line["error_class"] for line in ledger()} == expected
    assert all(is_permanent(kind) for kind in expected.values())
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_names_that_are_not_utf_8_are_recorded(folder, run, ledger, tmp_path):
    if sys.platform in ("win32", "darwin"):
        pytest.skip("these systems refuse such names")
    os.rename(folder / "a.wav", os.fsencode(folder / "caf") + b"\xe9.wav")
    run()
    assert run()[:2] == (0, [])
    page = tmp_path / "r.html"
    assert main(["report", str(tmp_path / "report.jsonl"), "--html", str(page), "--csv", str(tmp_path / "r.csv")]) == 0
