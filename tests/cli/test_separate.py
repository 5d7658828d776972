"""`mossformer-jax separate`, with a stand-in for the network where only the files matter."""

from __future__ import annotations

import errno
import functools
import http.server
import io
import json
import os
import sys
import threading

import numpy as np
import pytest
import soundfile

from mossformer_jax.audio import read_audio, write_audio
from mossformer_jax.cli import main
from mossformer_jax.cli.download import without_password
from mossformer_jax.separation import OutputOptions, Separator


def run(*arguments) -> int:
    return main(["separate", *(str(argument) for argument in arguments)])


def files_below(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.medium
def test_separate_writes_one_file_per_source_and_prints_the_run_time(recordings, tiny_model_folder, capsys):
    folder = recordings / "out"
    assert main(["separate", f"{recordings}/mix.wav", "-o", f"{folder}", "--model", f"{tiny_model_folder}"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[:2] == [f"{folder / 'mix_s1.wav'}", f"{folder / 'mix_s2.wav'}"]
    for words in ("0.10 s of audio at 8000 Hz", "compiled in", "run in", "real-time factor", "written as PCM_16"):
        assert words in printed.out
    assert printed.err == ""
    assert {path.name for path in folder.iterdir()} == {"mix_s1.wav", "mix_s2.wav"}
    assert read_audio(folder / "mix_s1.wav")[0].shape == (1, 800)


def test_every_option_reaches_the_network(recordings, stand_in):
    options = ["--scale", "rms", "--mixture-consistency", "--channels", "each", "--subtype", "PCM_24"]
    assert run(recordings / "mix.wav", *options) == 0
    assert stand_in.options == OutputOptions("rms", mixture_consistency=True, channels="each", subtype="PCM_24")


@pytest.mark.medium
def test_every_option_is_one_that_the_network_takes(recordings, tiny_model_folder, capsys):
    write_audio(recordings / "stereo.wav", np.stack([read_audio(recordings / f"s{n}.wav")[0][0] for n in (1, 2)]), 8000)
    options = ["--scale", "rms", "--mixture-consistency", "--channels", "each", "--memory", "200MB", "--window", "2"]
    options += ["--format", "flac", "--subtype", "PCM_24", "--model", tiny_model_folder, "--device", "cpu"]
    assert run(recordings / "stereo.wav", *options) == 0
    audio = soundfile.info(recordings / "stereo_s2.flac")
    assert (audio.channels, audio.subtype, audio.frames) == (2, "PCM_24", 800)


def test_output_folder_keeps_the_subfolders_of_the_inputs(folder, stand_in, tmp_path, capsys):
    assert run(folder, "-o", tmp_path / "out") == 0
    assert files_below(tmp_path / "out") == {f"{name}_s{n}.wav" for name in ("a", "b", "sub/c") for n in (1, 2)}
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 7
    last = (
        "3 recordings, 0.30 s of audio: compiled in 1.50 s, run in 0.03 s (real-time factor 0.100), written as PCM_16"
    )
    assert printed.out.splitlines()[-1] == last
    assert printed.err == ""


def test_a_bad_file_does_not_stop_the_others(folder, stand_in, tmp_path, capsys):
    (folder / "bad.wav").write_text("no audio " * 9)
    stand_in.raises["b.flac"] = RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nwhile allocating")
    assert run(folder, folder / "missing.wav", "-o", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert files_below(tmp_path / "out") == {f"{name}_s{n}.wav" for name in ("a", "sub/c") for n in (1, 2)}
    assert "2 recordings, 0.20 s" in printed.out
    assert printed.out.endswith("; 3 recordings failed\n")
    memory, bad, missing = printed.err.splitlines()
    assert memory.startswith(f"mossformer-jax: error: {folder / 'b.flac'}: out of memory (RESOURCE_EXHAUSTED")
    assert "--memory" in memory
    assert bad.startswith(f"mossformer-jax: error: {folder / 'bad.wav'}: cannot be read as audio")
    assert missing == f"mossformer-jax: error: {folder / 'missing.wav'}: no such file; check the path"


def test_recordings_in_other_formats_are_counted_and_named(folder, stand_in, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    others = [folder / "call.m4a", folder / "sub" / "meet.webm"]
    for path in others:
        path.write_bytes(bytes(100))
    (folder / "notes.txt").write_text("no recording")
    assert run(folder, "-o", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert len(stand_in.calls) == 3
    named = f"2 files skipped, because the format cannot be read: {others[0]}, {others[1]}"
    assert printed.out.splitlines()[-1].endswith(f"; {named}")
    advice = "run: pip install 'mossformer-jax[video]', or convert them to WAV or FLAC"
    advice += f", for example: ffmpeg -i {others[0]} OUTPUT.wav"
    assert printed.err == f"mossformer-jax: error: {named}; {advice}\n"
    assert run(folder, "-o", tmp_path / "out", "--ignore-unreadable", "--overwrite") == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("mossformer-jax: warning: 2 files skipped")
    assert named in printed.out
    assert run(folder, "-o", tmp_path / "out", "--json") == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["input"] for record in records if record["status"] == "unreadable"] == [str(path) for path in others]
    assert all("convert it" in record["error"] for record in records[:2])
    assert set(records[0]) == set(records[-1])


def test_a_folder_of_other_formats_only_is_an_error_that_names_them(tmp_path, stand_in, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "call.m4a").touch()
    assert run(tmp_path) == 1
    printed = capsys.readouterr()
    assert printed.out == f"1 file skipped, because the format cannot be read: {tmp_path / 'call.m4a'}\n"
    assert printed.err.count("\n") == 1


def test_an_empty_folder_and_a_bad_address_do_not_stop_the_others(folder, stand_in, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", "http://[bad", folder / "a.wav", "-o", tmp_path / "out") == 1
    assert stand_in.calls == ["a.wav"]
    empty, address = capsys.readouterr().err.splitlines()
    assert "empty: no audio files found" in empty
    assert "http://[bad: not a valid address" in address


def test_a_full_disk_stops_the_run(folder, stand_in, capsys):
    stand_in.raises["b.flac"] = OSError(errno.ENOSPC, "No space left on device")
    assert run(folder) == 1
    assert stand_in.calls == ["a.wav", "b.flac"]
    full, stopped = capsys.readouterr().err.splitlines()
    assert "b.flac: [Errno 28] No space left on device" in full
    assert "1 of 3 not started" in stopped


def test_existing_separations_are_skipped_without_overwrite(folder, stand_in, capsys):
    assert run(folder) == 0
    for number in (1, 2):
        (folder / "sub" / f"c_s{number}.wav").unlink()
    stand_in.calls.clear()
    capsys.readouterr()
    assert run(folder) == 0  # the sources, which are in the same folder now, are not inputs
    assert stand_in.calls == ["c.wav"]
    printed = capsys.readouterr().out
    assert printed.endswith("; 2 recordings skipped because the files exist (--overwrite replaces them)\n")
    assert run(folder, "--overwrite") == 0
    assert stand_in.calls == ["c.wav", "a.wav", "b.flac", "c.wav"]


@pytest.mark.medium
@pytest.mark.parametrize("theirs", ["a_s1.wav", "a.png"])
def test_a_foreign_file_is_replaced_only_with_overwrite(folder, stand_in, capsys, theirs):
    write_audio(folder / "a_s1.wav", np.zeros(80), 8000)
    (folder / "a_s1.wav").rename(folder / theirs)
    before = (folder / theirs).read_bytes()
    assert run(folder, "--plot") == 1
    assert stand_in.calls == ["b.flac", "c.wav"]
    assert (folder / theirs).read_bytes() == before
    error = f"mossformer-jax: error: {folder / 'a.wav'}: not separated"
    message = f"{error}, because {folder / theirs} exists and {folder / 'a_s'}"
    assert capsys.readouterr().err.startswith(message)
    assert not (folder / "a_s2.wav").exists()
    assert run(folder, "--plot", "--overwrite") == 0
    assert (folder / theirs).read_bytes() != before


def test_recordings_separated_by_another_run_meanwhile_are_skipped(folder, stand_in, monkeypatch, capsys):
    inner = stand_in.separate_file

    def and_the_next(separator, path, *arguments, **keywords):
        for name in ("b_s1.wav", "b_s2.wav"):
            write_audio(folder / name, np.zeros(80), 8000)
        return inner(separator, path, *arguments, **keywords)

    monkeypatch.setattr("mossformer_jax.cli.attempt.separate_file", and_the_next)
    assert run(folder) == 0
    assert stand_in.calls == ["a.wav", "c.wav"]
    assert "1 recording skipped because the files exist" in capsys.readouterr().out


@pytest.mark.medium
def test_missing_plots_are_drawn_from_existing_sources(folder, stand_in, capsys):
    assert run(folder) == 0
    sources = {path: path.read_bytes() for path in folder.rglob("*_s?.wav")}
    stand_in.calls.clear()
    capsys.readouterr()
    assert run(folder, "--plot") == 0
    assert stand_in.calls == []
    assert {path: path.read_bytes() for path in folder.rglob("*_s?.wav")} == sources
    *pictures, last = capsys.readouterr().out.splitlines()
    assert pictures == [str(folder / name) for name in ("a.png", "b.png", "sub/c.png")]
    assert all((folder / name).exists() for name in pictures)
    assert last == "plots added for 3 recordings with existing sources"


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="these systems refuse such names themselves")
@pytest.mark.parametrize("shown", [False, True])
def test_names_that_are_not_utf_8_or_too_long_do_not_stop_the_others(folder, stand_in, monkeypatch, capsys, shown):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: shown)
    old, long = os.fsencode(folder / "caf") + b"\xe9.wav", folder / f"{'l' * 249}.wav"
    os.rename(folder / "a.wav", old)
    (folder / "b.flac").rename(long.with_suffix(".flac"))
    assert run(folder, "--quiet") == 1
    assert os.path.exists(old[:-4] + b"_s2.wav")
    assert (folder / "sub" / "c_s2.wav").exists()
    assert "1 recording failed" in capsys.readouterr().out


def test_a_single_skipped_recording_is_reported(folder, stand_in, capsys):
    assert run(folder / "a.wav") == run(folder / "a.wav") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 recording skipped because the files exist")


def test_recordings_with_the_same_name_are_refused_before_separating(folder, stand_in, tmp_path, error_of, capsys):
    write_audio(folder / "a.flac", np.zeros(800), 8000)
    message = error_of("separate", folder, "-o", tmp_path / "out")
    assert f"{folder / 'a.flac'} and {folder / 'a.wav'} would both be written to" in message
    assert "--name '{stem}_{suffix}_s{source}'" in message
    assert stand_in.calls == []
    assert not (tmp_path / "out").exists()
    assert run(folder, "-o", tmp_path / "out", "--name", "{stem}_{suffix}_s{source}") == 0
    assert {"a_wav_s1.wav", "a_flac_s1.wav", "sub/c_wav_s2.wav"} <= files_below(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "{stem}"], "add {source} to it"),
        (["--name", "{stm}_{source}"], "unknown field {stm}"),
        (["--name", "{stem"], "cannot be filled in"),
        (["--name", "x/{stem}_{source}"], "names a folder"),
        (["--format", "flac", "--subtype", "FLOAT"], "cannot be written with --format flac"),
        (["--memory", "lots"], "'lots' is not a size"),
        (["--memory", "0"], "'0' is not a size"),
        (["--window", "0"], "'0' must be above 0"),
        (["--window", "nan"], "'nan' must be above 0"),
        (["--name", "{source:>1000000000}"], "is too long"),
        (["--max-download", "1e308"], "must be at most 1e9"),
        (["--scale", "loud"], "loud"),
        (["--compile-cache", "x", "--no-compile-cache"], "not allowed with"),
    ],
)
def test_wrong_usage_is_status_2(options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("a.wav", *options)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("text", "size"), [("1GB", 1e9), ("800mb", 8e8), ("1.5 GiB", 1.5 * 2**30), ("2", 2e9)])
def test_memory_is_given_in_units(folder, stand_in, monkeypatch, text, size):
    given = {}
    monkeypatch.setattr(
        "mossformer_jax.separation.Separator.from_pretrained",
        lambda model, **keywords: given.update(keywords) or stand_in,
    )
    assert run(folder / "a.wav", "--memory", text, "--window", "2") == 0
    assert given == {"memory": size, "window_seconds": 2.0, "shifts": None}


def test_json_prints_only_one_object_per_recording(folder, stand_in, tmp_path, capsys):
    stand_in.raises["b.flac"] = ValueError("b.flac: too odd")
    assert run(folder / "a.wav", "-o", tmp_path) == 0
    capsys.readouterr()
    assert run(folder, "-o", tmp_path, "--json") == 1
    skipped, failed, done = (
        json.loads(line, parse_constant=pytest.fail) for line in capsys.readouterr().out.splitlines()
    )
    assert set(skipped) == set(failed) == set(done)
    assert [record["status"] for record in (skipped, failed, done)] == ["skipped", "failed", "done"]
    assert failed["error"] == f"{folder / 'b.flac'}: b.flac: too odd"
    assert failed["outputs"] == []
    assert done["input"] == str(folder / "sub" / "c.wav")
    assert done["outputs"] == [str(tmp_path / "sub" / f"c_s{n}.wav") for n in (1, 2)]
    assert (done["duration"], done["sample_rate"], done["gain"]) == (0.1, 8000, 1.0)
    assert done["real_time_factor"] == pytest.approx(0.1)
    assert done["boundaries"] == [{"time": 0.5, "margin": None, "evidence": "overlap"}]


def test_an_interrupted_run_prints_how_many_recordings_are_done(folder, stand_in, capsys):
    stand_in.raises["b.flac"] = KeyboardInterrupt()
    assert run(folder) == 130
    assert stand_in.calls == ["a.wav", "b.flac"]
    assert capsys.readouterr().err == "mossformer-jax: interrupted: 1 of 3 recordings done\n"
    assert files_below(folder) == {"a.wav", "b.flac", "sub/c.wav", "a_s1.wav", "a_s2.wav"}


def test_failures_before_an_interruption_are_printed(folder, stand_in, capsys):
    stand_in.raises |= {"a.wav": ValueError("too odd"), "b.flac": KeyboardInterrupt()}
    assert run(folder) == 130
    failed, interrupted = capsys.readouterr().err.splitlines()
    assert failed == f"mossformer-jax: error: {folder / 'a.wav'}: too odd"
    assert interrupted == "mossformer-jax: interrupted: 0 of 3 recordings done"


def test_an_interrupted_process_ends_at_once(folder, stand_in, monkeypatch):
    """Python's normal shutdown would crash a computation that is still running."""
    stand_in.raises["a.wav"] = KeyboardInterrupt()
    monkeypatch.setattr(sys, "argv", ["mossformer-jax", "separate", str(folder)])
    statuses = []
    monkeypatch.setattr("os._exit", statuses.append)
    assert main() == 130
    assert statuses == [130]


def test_clipping_and_other_warnings_name_the_file(recordings, stand_in, monkeypatch, capsys):
    inner = stand_in.separate_file

    def warning(*arguments, **keywords):
        separated = inner(*arguments, **keywords)
        return type(separated)(**{**vars(separated), "gain": 0.5, "warnings": ("something\nodd",)})

    monkeypatch.setattr("mossformer_jax.cli.attempt.separate_file", warning)
    assert run(recordings / "mix.wav") == 0
    odd, clipped = capsys.readouterr().err.splitlines()
    assert odd == f"mossformer-jax: warning: {recordings / 'mix.wav'}: something odd"
    assert "PCM_16 would have clipped; all sources were scaled by 0.5" in clipped


def test_quiet_names_no_files(folder, stand_in, capsys):
    assert run(folder, "--quiet") == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_a_name_that_the_terminal_cannot_show_is_printed_in_escapes(folder, stand_in, monkeypatch):
    (folder / "a.wav").rename(folder / "\u65e5.wav")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert run(folder / "\u65e5.wav") == 0
    assert sys.stdout.buffer.getvalue().splitlines()[0].endswith(b"\\u65e5_s1.wav")


def test_the_bar_is_drawn_only_on_a_terminal_and_paths_go_to_stdout(folder, stand_in, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    stand_in.raises["b.flac"] = ValueError("counts, too")
    assert run(folder) == 1
    printed = capsys.readouterr()
    assert "c.wav" in printed.err
    assert "100 %" in printed.err
    assert "x real time" in printed.err
    assert printed.out.splitlines()[0] == str(folder / "a_s1.wav")
    assert len(printed.out.splitlines()) == 5


@pytest.fixture
def server(folder):
    """Serves the folder over HTTP; returns the address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_urls_are_downloaded_and_their_errors_name_them(folder, stand_in, server, tmp_path, monkeypatch, capsys):
    (folder / "bad.wav").write_text("no audio " * 9)
    urls = [f"{server}/{name}" for name in ("sub/c.wav?x=1", "bad.wav", "missing.wav", "b.flac")]
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    assert run(*urls) == 1
    assert files_below(work) == {f"{name}_s{n}.wav" for name in "bc" for n in (1, 2)}
    bad, missing = capsys.readouterr().err.splitlines()
    assert bad.startswith(f"mossformer-jax: error: {urls[1]}: cannot be read as audio")
    assert urls[2] in missing
    assert "404" in missing


@pytest.mark.medium
def test_shifts_are_averaged(recordings, tiny_model_folder):
    mixture, rate = read_audio(recordings / "mix.wav")
    written = {}
    for shifts in (1, 2):
        flags = ["--model", tiny_model_folder, "--shifts", shifts, "--subtype", "FLOAT", "--overwrite"]
        assert run(recordings / "mix.wav", *flags) == 0
        written[shifts] = np.concatenate([read_audio(recordings / f"mix_s{n}.wav")[0] for n in (1, 2)])
        expected = Separator.from_pretrained(tiny_model_folder, shifts=shifts)(mixture, rate).sources
        np.testing.assert_array_equal(written[shifts], expected)
    assert not np.allclose(written[1], written[2], rtol=1e-2)


def test_shifts_that_do_not_divide_the_stride_are_a_one_line_error(recordings, tiny_model_folder, error_of):
    arguments = [recordings / "mix.wav", "--model", tiny_model_folder, "--shifts", 3]
    assert "shifts=3 is not allowed: must be a divisor of stride=8" in error_of("separate", *arguments)


def test_an_enormous_window_is_a_one_line_error(recordings, tiny_model_folder, error_of):
    arguments = [recordings / "mix.wav", "--model", tiny_model_folder, "--window", "1e308"]
    assert "window_seconds=1e+308 is not allowed: must be at most 86,400" in error_of("separate", *arguments)


@pytest.mark.medium
@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="these systems refuse such names themselves")
def test_a_plot_of_a_name_that_is_not_utf_8_is_drawn(folder, stand_in):
    old = os.fsencode(folder / "caf") + b"\xe9.wav"
    os.rename(folder / "a.wav", old)
    assert run(os.fsdecode(old), "--plot") == 0
    assert os.path.getsize(old[:-4] + b".png") > 1000


def test_passwords_in_urls_are_not_shown():
    assert without_password("https://me:word@host:80/a@b.wav?c=@") == "https://host:80/a@b.wav?c=@"
    assert without_password("me@home.wav") == "me@home.wav"


def test_downloads_are_limited(stand_in, server, tmp_path, monkeypatch, error_of):
    monkeypatch.chdir(tmp_path)
    assert "a.wav" in error_of("separate", f"{server}/a.wav", "--max-download", "0.001")


@pytest.mark.medium
def test_a_plot_is_written_next_to_the_sources(folder, stand_in, tmp_path, capsys):
    assert run(folder / "a.wav", "-o", tmp_path / "out", "--plot") == 0
    assert files_below(tmp_path / "out") == {"a_s1.wav", "a_s2.wav", "a.png"}
    assert (tmp_path / "out" / "a.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path / "out" / "a.png") in capsys.readouterr().out.splitlines()


def test_a_plot_without_matplotlib_is_refused_before_separating(folder, stand_in, monkeypatch, error_of):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'mossformer-jax[eval]'" in error_of("separate", folder, "--plot")
    assert stand_in.calls == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.wav"], "missing.wav: no such file"),
        (["line\nbreak.wav"], "line break.wav: no such file"),
        (["empty"], "empty: no audio files found; their names must end in .wav"),
        (["empty/*"], "empty/*: no audio files found"),
        (["mix.wav", "-o", "s1.wav"], "s1.wav: is a file"),
        (["mix.wav", "-o", "s1.wav/x"], "s1.wav/x: cannot be created"),
    ],
)
def test_bad_input_is_a_one_line_error_with_status_1(recordings, stand_in, monkeypatch, error_of, arguments, message):
    (recordings / "empty").mkdir()
    monkeypatch.chdir(recordings)
    assert message in error_of("separate", *arguments)


@pytest.mark.parametrize("model", ["no_model", "mix.wav"])
def test_an_invalid_model_is_a_one_line_error(recordings, monkeypatch, error_of, model):
    monkeypatch.chdir(recordings)
    assert model in error_of("separate", "s1.wav", "--model", model)


def test_a_named_source_of_this_run_is_skipped_with_a_warning(folder, stand_in, capsys):
    assert run(folder / "a.wav") == 0
    capsys.readouterr()
    assert run(*sorted(folder.glob("a*.wav"))) == 0
    warning = f"mossformer-jax: warning: {folder / 'a_s1.wav'} and 1 more: skipped"
    assert capsys.readouterr().err.startswith(warning)
    assert stand_in.calls == ["a.wav"]
