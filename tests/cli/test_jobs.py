"""Planning: which files are read and which are written. Nothing is separated, so empty files suffice."""

from __future__ import annotations

import sys
import time
from itertools import chain
from pathlib import Path

import pytest

from mossformer_jax.cli.inputs import InputRecording, LeftOut, find_recordings
from mossformer_jax.cli.jobs import check_template, plan_jobs


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """The current folder, with recordings and other things in it."""
    monkeypatch.chdir(tmp_path)
    return _touch("b.wav", "A.FLAC", "sub/c.mp3", "sub/deep/d.ogg", "notes.txt", ".hidden.wav", ".hidden/e.wav")


def _touch(*names) -> Path:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    return Path.cwd()


def _found(*inputs, output_folder=None) -> list[str]:
    recordings = find_recordings([str(text) for text in inputs], output_folder)
    return [Path(recording.location).as_posix() for recording in recordings]


def _plan(*inputs, output_folder=None, **options) -> dict[str, list[str]]:
    recordings = find_recordings([str(text) for text in inputs], output_folder)
    jobs = plan_jobs(recordings, 2, output_folder, **options)
    return {Path(job.input).as_posix(): [path.as_posix() for path in job.written] for job in jobs}


def test_a_folder_is_searched_for_audio_with_its_subfolders(tree):
    assert _found(".") == ["A.FLAC", "b.wav", "sub/c.mp3", "sub/deep/d.ogg"]
    assert find_recordings(["sub"])[1] == InputRecording(str(Path("sub/deep/d.ogg")), Path("deep"), found=True)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.wav", ["b.wav"]),
        ("*", ["A.FLAC", "b.wav", "sub/c.mp3", "sub/deep/d.ogg"]),
        ("**/*.ogg", ["sub/deep/d.ogg"]),
        ("sub/**", ["sub/c.mp3", "sub/deep/d.ogg"]),
        ("[ab].wav", ["b.wav"]),
        ("su?/*.mp3", ["sub/c.mp3"]),
    ],
)
def test_patterns_are_expanded(tree, pattern, found):
    assert _found(pattern) == found
    assert sorted(_found(tree / pattern)) == [(tree / name).as_posix() for name in found]


def test_a_file_with_that_exact_name_takes_precedence_over_the_pattern(tree):
    _touch("[ab].wav")
    assert _found("[ab].wav") == ["[ab].wav"]


def test_a_recording_named_several_times_is_separated_once(tree):
    assert _found("b.wav", "./b.wav", tree / "b.wav", "sub/../b.wav", "*.wav", "http://x/b.wav", "http://x/b.wav") == [
        "b.wav", "http:/x/b.wav"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["empty", "empty/*.wav", "none*", ".hid*/*.txt"])
def test_an_input_without_audio_is_an_error(tree, name):
    Path("empty").mkdir()
    with pytest.raises(ValueError, match="no audio files found") as raised:
        find_recordings(["b.wav", name])
    assert str(raised.value).startswith(f"{name}: ")


def test_sources_are_written_next_to_their_recordings_or_in_the_same_tree(tree):
    assert _plan("sub", "b.wav") == {
        "sub/c.mp3": ["sub/c_s1.wav", "sub/c_s2.wav"],
        "sub/deep/d.ogg": ["sub/deep/d_s1.wav", "sub/deep/d_s2.wav"],
        "b.wav": ["b_s1.wav", "b_s2.wav"],
    }
    expected = {
        "sub/c.mp3": ["out/c_s1.wav", "out/c_s2.wav"],
        "sub/deep/d.ogg": ["out/deep/d_s1.wav", "out/deep/d_s2.wav"],
    }
    assert _plan("sub", output_folder=Path("out")) == expected
    assert _plan("sub/**/*.*", output_folder=Path("out")) == expected
    assert _plan("sub/deep/d.ogg", output_folder=Path("out")) == {"sub/deep/d.ogg": ["out/d_s1.wav", "out/d_s2.wav"]}


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{stem}_s{source}", ["c_s1.flac", "c_s2.flac", "c.png"]),
        ("{folder} {stem}-{suffix} {source:02d}", ["sub c-mp3 01.flac", "sub c-mp3 02.flac", "sub c-mp3.png"]),
        ("speaker{source}_{stem}", ["speaker1_c.flac", "speaker2_c.flac", "c.png"]),
        ("s{source}", ["s1.flac", "s2.flac", "c.png"]),
    ],
)
def test_names_follow_the_template(tree, template, names):
    check_template(template)
    planned = _plan("sub/c.mp3", output_folder=Path("out"), template=template, audio_format="flac", plot=True)
    assert planned == {"sub/c.mp3": [f"out/{name}" for name in names]}


def test_a_url_is_named_after_the_last_part_of_its_path(tree):
    urls = ["http://host:80/x/my%20call.mp3?key=1#now", "https://me:word@host/a%2F..%2Fb.wav", "http://host/"]
    planned = plan_jobs(find_recordings(urls), 2, template="{folder}_{stem}_s{source}")
    assert [job.input for job in planned] == urls
    assert [job.outputs[0] for job in planned] == [
        Path("host_my call_s1.wav"), Path("host_a_.._b_s1.wav"), Path("host_download_s1.wav")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{stem}", "add {source} to it"),
        ("{stem}_{{source}}", "add {source} to it"),
        ("{stem}_{number}", "unknown field {number}"),
        ("{stem.__class__}_{source}", "unknown field"),
        ("{}_{source}", "unknown field {}"),
        ("{stem", "cannot be filled in"),
        ("{stem:d}_{source}", "cannot be filled in"),
        ("../{stem}_{source}", "names a folder"),
        ("{source:>1000000000}", "is too long"),
        ("{stem:{source}}_{source}", "is too long"),
        ("{source}\0", "contains a null character"),
    ],
)
def test_templates_that_cannot_be_are_refused(template, message):
    with pytest.raises(ValueError, match=message) as raised:
        check_template(template)
    assert repr(template) in str(raised.value)


def test_separating_a_folder_again_skips_the_sources_in_it(tree):
    first = _plan("sub")
    _touch(*chain(*first.values()))
    assert _plan("sub") == first
    assert _plan(*Path("sub").rglob("*.*")) == first  # as a shell expands it


def test_sources_in_an_output_folder_within_the_searched_one_are_no_recordings(tree):
    for pattern in (".", "**/*"):
        first = _plan(pattern, output_folder=Path("sub/out"))
        _touch(*chain(*first.values()), "sub/out/more.wav")
        assert _plan(pattern, output_folder=Path("sub/out")) == first
    assert _found("sub/deep", output_folder=Path("sub")) == [
        "sub/deep/d.ogg"
    ]  # the searched one is within the output folder


def test_a_named_recording_is_not_overwritten_by_the_source_of_another(tree):
    _touch("b_s1.wav")
    with pytest.raises(ValueError, match=r"^b_s1\.wav: would be overwritten by a source of b\.wav"):
        _plan("b.wav", "b_s1.wav")


def test_a_recording_is_not_overwritten_by_its_own_source(tree):
    _touch("s1.wav")
    with pytest.raises(ValueError, match=r"^s1\.wav: would be overwritten by a source of s1\.wav"):
        _plan("s1.wav", template="s{source}")


def test_recordings_that_would_all_be_overwritten_are_refused(tree):
    _touch("s1.wav", "s2.wav")
    with pytest.raises(ValueError, match=r"^s1\.wav: would be overwritten by a source of another input"):
        _plan("s?.wav", template="s{source}")


def test_two_recordings_do_not_write_one_file(tree):
    _touch("b.flac", "sub/b.wav")
    with pytest.raises(ValueError, match=r"^b\.flac and b\.wav would both .*--name '{stem}_{suffix}_s{source}'"):
        _plan("b.flac", "b.wav")
    with pytest.raises(ValueError, match=r"would both .*--name '{folder}_{stem}_s{source}'"):
        _plan("b.wav", "sub/b.wav", output_folder=Path("out"))
    assert len(_plan("b.wav", "sub/b.wav", output_folder=Path("out"), template="{folder}_{stem}_s{source}")) == 2
    _touch("day1/calls/a.wav", "day2/calls/a.wav")
    for pair in (("day1", "day2"), ("http://host/x/a.wav", "http://host/y/a.wav")):
        with pytest.raises(ValueError, match=r"would both .*; separate them in two runs with different -o"):
            _plan(*pair, output_folder=Path("out"), template="{folder}_{stem}_s{source}")


def test_a_recording_is_done_when_all_of_its_files_are_there(tree):
    (job,) = plan_jobs(find_recordings(["b.wav"]), 2, plot=True)
    for path in job.written:
        assert not job.is_done()
        _touch(path)
    assert job.is_done()


@pytest.mark.medium
def test_a_thousand_files_are_planned_in_no_time(tmp_path):
    for number in range(1000):
        (tmp_path / f"{number % 10}").mkdir(exist_ok=True)
        (tmp_path / f"{number % 10}" / f"{number}.wav").touch()
    start = time.process_time()
    jobs = plan_jobs(find_recordings([str(tmp_path)], tmp_path / "out"), 2, tmp_path / "out", plot=True)
    assert not any(job.is_done() for job in jobs)
    assert len(jobs) == 1000
    assert time.process_time() - start < 2.0  # it takes 0.4 s


def test_files_that_look_like_recordings_but_cannot_be_read_are_reported(tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    _touch("call.m4a", "sub/CALL.MP4", "sub/deep/x.webm", ".hidden.m4a", "readme.md", "data.bin")
    Path("voice").write_bytes(b"#!AMR\n123")
    Path("memo.xyz").write_bytes(b"\0\0\0\x18ftypM4A ")
    Path("wave.dat").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    left_out: list[LeftOut] = []
    assert len(find_recordings([".", "*"], None, left_out)) == 4
    names = ["call.m4a", "memo.xyz", "voice", "wave.dat", "sub/CALL.MP4", "sub/deep/x.webm"]
    assert [Path(file.location).as_posix() for file in left_out] == names
    assert all(file.is_file and file.reason.startswith(f"{file.location}: ") for file in left_out)
    reasons = {file.location: file.reason for file in left_out}
    advice = "convert it to WAV or FLAC, or run: pip install 'mossformer-jax[video]'"
    assert reasons["call.m4a"].endswith(f"(.m4a file); {advice}")
    assert "(AMR speech)" in reasons["voice"]
    assert "rename it" in reasons["wave.dat"]


def test_videos_and_phone_files_are_found_if_they_can_be_read(tree):
    pytest.importorskip("av")
    _touch("call.m4a", "sub/CALL.MP4", "raw.g722")
    Path("memo.xyz").write_bytes(b"\0\0\0\x18ftypM4A ")
    left_out: list[LeftOut] = []
    found = {recording.location for recording in find_recordings(["."], None, left_out)}
    assert {"call.m4a", str(Path("sub/CALL.MP4"))} < found
    assert [file.location for file in left_out] == ["memo.xyz", "raw.g722"]
    assert "rename it" in left_out[0].reason
    assert left_out[1].reason.endswith("(.g722 file); convert it to WAV or FLAC")


def test_a_pattern_of_such_files_names_them(tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    _touch("call.m4a", "sub/call.m4a")
    left_out: list[LeftOut] = []
    assert find_recordings(["**/*.m4a"], None, left_out) == []
    assert [file.location for file in left_out] == ["call.m4a", str(Path("sub/call.m4a"))]


def test_an_input_without_recordings_does_not_stop_the_others(tree):
    Path("empty").mkdir()
    left_out: list[LeftOut] = []
    inputs = ["empty", "b.wav", "none*", "http://[bad", "https://host:99999/a.wav", "http://"]
    assert [recording.location for recording in find_recordings(inputs, None, left_out)] == ["b.wav"]
    assert [each.location for each in left_out] == ["empty", "none*", *inputs[3:]]
    assert not any(each.is_file for each in left_out)
    assert all(each.reason.endswith("not a valid address; check the host and the port") for each in left_out[2:])
