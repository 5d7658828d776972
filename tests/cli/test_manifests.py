"""`--manifest` and `--shard`: which recordings a process of an archive separates."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mossformer_jax.cli import main
from mossformer_jax.cli.inputs import InputRecording
from mossformer_jax.cli.jobs import Job, plan_jobs
from mossformer_jax.cli.manifests import read_manifest
from mossformer_jax.cli.shards import Shard, select, shard_of_cluster, shares

ROWS = [
    InputRecording("a.wav", Path("x"), stem="one", id="1", duration=2.5),
    InputRecording("sub/b, c.wav", duration=1.0),
    InputRecording("http://host/c.wav", id="c"),
]
CSV = 'path,output,id,duration,speaker\na.wav,x/one,1,2.5,me\n"sub/b, c.wav",,,1.0,\nhttp://host/c.wav,,c,,you\n'
JSONL = "\n".join(
    json.dumps(row)
    for row in (
        {"path": "a.wav", "output": "x/one", "id": 1, "duration": 2.5},
        {"path": "sub/b, c.wav", "duration": 1},
        {"path": "http://host/c.wav", "id": "c", "text": "other keys"},
    )
)
TEXT = "a.wav\r\n\nsub/b, c.wav\nhttp://host/c.wav"


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.mark.parametrize(("name", "content"), [("m.csv", CSV), ("m.csv", "\ufeff" + CSV), ("m.JSONL", JSONL)])
def test_manifests_name_recordings_outputs_ids_and_durations(write, name, content):
    assert read_manifest(write(name, content)) == ROWS


def test_a_text_file_lists_one_path_per_line(write):
    assert read_manifest(write("m.txt", TEXT)) == [InputRecording(row.location) for row in ROWS]


@pytest.mark.parametrize("content", [CSV, JSONL, TEXT])
def test_standard_input_is_recognised_by_its_first_line(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content.encode())))
    assert [row.location for row in read_manifest("-")] == [row.location for row in ROWS]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.xls", "a", "its name must end in .csv, .jsonl, .txt"),
        ("m.txt", "\n \n", "lists no recordings"),
        ("m.txt", b"\xff\xfe\xff", "is not text in UTF-8"),
        ("m.csv", "file\na.wav\n", "has no column path, only file"),
        ("m.csv", "path;id\na.wav;1\n", "separate them by commas"),
        ("m.csv", "path,duration\na.wav,1\nb.wav,long\n", "line 3: duration='long' is not allowed"),
        ("m.csv", "path,duration\na.wav,-1\n", "line 2: duration='-1'"),
        ("m.csv", "path,id\na.wav,1\nb.wav,1\n", "a.wav and b.wav have the same id '1'"),
        ("m.csv", "path,output\na.wav,../x\n", "line 2: output='../x' is not allowed"),
        ("m.csv", "path,id\n,1\n", "line 2: has no path"),
        ("m.jsonl", '{"path": "a.wav"}\n{"path": 1}', "line 2: path=1 is not allowed"),
        ("m.jsonl", '{"path": "a.wav", "duration": true}', "duration=True is not allowed"),
        ("m.jsonl", "[1]", "line 1: is not a JSON object"),
        ("m.jsonl", "{", "line 1: is not JSON"),
    ],
)
def test_a_bad_manifest_is_a_one_line_error(write, name, content, message):
    path = write(name, content)
    with pytest.raises(ValueError, match=r"^") as raised:
        read_manifest(path)
    assert message in str(raised.value)
    assert str(raised.value).startswith(path)
    assert "\n" not in str(raised.value)


def test_a_missing_manifest_is_an_error(tmp_path, error_of):
    assert "no such file; give a .csv, .jsonl or .txt file" in error_of("separate", "--manifest", tmp_path / "m.csv")


def test_the_recordings_of_a_manifest_are_separated_to_their_outputs(folder, stand_in, tmp_path, write, capsys):
    rows = [f"{folder / 'a.wav'},calls/0001", f"{folder / 'b.flac'},", f"{folder / 'missing.wav'},x", "http://[bad,"]
    manifest = write("m.csv", "\n".join(["path,output", *rows]))
    assert main(["separate", "--manifest", manifest, "-o", str(tmp_path / "out")]) == 1
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.wav")}
    assert written == {f"{name}_s{number}.wav" for name in ("calls/0001", "b") for number in (1, 2)}
    address, missing = capsys.readouterr().err.splitlines()
    assert "http://[bad: not a valid address" in address
    assert "missing.wav: no such file" in missing


def test_outputs_of_a_manifest_without_a_folder_are_relative_to_the_current_one(tmp_path, monkeypatch):
    (job,) = plan_jobs([ROWS[0]], 2)
    assert job.outputs == (Path("x/one_s1.wav"), Path("x/one_s2.wav"))


@pytest.mark.medium
@pytest.mark.parametrize("durations", [False, True])
def test_shards_are_disjoint_and_complete_and_do_not_depend_on_the_order(durations):
    durations = [number % 7.0 if durations else None for number in range(200)]
    recordings = [InputRecording(f"{number}.wav", duration=duration) for number, duration in enumerate(durations)]
    jobs = [Job(recording.location, (), recording=recording) for recording in recordings]
    for count in range(1, 65):
        found = shares(jobs, count)
        assert set(found) <= set(range(1, count + 1))
        assert shares(jobs[::-1], count) == found[::-1]
        selected = select(jobs, Shard(count, count))
        assert selected == [job for job, share in zip(jobs, found, strict=True) if share == count]
        if None not in durations:
            totals = [
                sum(job.duration for job, share in zip(jobs, found, strict=True) if share == index)
                for index in range(1, count + 1)
            ]
            assert max(totals) - min(totals) <= 6.0


def test_a_recording_stays_in_its_shard_when_others_are_added():
    """A fixed example, because the split must be the same on every machine and in every release."""
    jobs = [Job(f"{number}.wav", ()) for number in range(30)]
    before = {job.input for job in select(jobs[:20], Shard(2, 3))}
    assert before == {job.input for job in select(jobs, Shard(2, 3))} & {job.input for job in jobs[:20]}
    assert before == {f"{number}.wav" for number in (0, 2, 6, 9, 11, 12, 18, 19)}


def test_the_shards_of_a_folder_are_the_same_wherever_it_is_mounted(folder, stand_in, tmp_path):
    moved = folder.rename(tmp_path / "mounted elsewhere")
    calls = []
    for index in range(1, 4):
        assert main(["separate", str(moved), "--shard", f"{index}/3", "-o", str(tmp_path / f"{index}")]) == 0
        calls.append(set(stand_in.calls))
        stand_in.calls.clear()
    assert sorted(name for names in calls for name in names) == ["a.wav", "b.flac", "c.wav"]
    found = [InputRecording(f"/x/{name}", Path(name).parent, found=True) for name in ("a.wav", "b.flac", "sub/c.wav")]
    jobs = [Job(recording.location, (), recording=recording) for recording in found]
    assert [{Path(job.input).name for job in select(jobs, Shard(index, 3))} for index in range(1, 4)] == calls


def test_shards_by_duration_do_not_depend_on_what_exists(folder, stand_in, tmp_path, write):
    """Recordings that are missing or already done when one of the processes starts do not change the split."""
    rows = [f"{folder / name},{seconds}" for name, seconds in (("a.wav", 3), ("b.flac", 2), ("sub/c.wav", 1))]
    manifest = write("m.csv", "\n".join(["path,duration", *rows, f"{folder / 'missing.wav'},9"]))
    options = ["--manifest", manifest, "-o", str(tmp_path / "out")]
    statuses = [main(["separate", *options, "--shard", f"{index}/3"]) for index in (1, 2, 3)]
    assert stand_in.calls.pop(stand_in.calls.index("missing.wav"))
    assert stand_in.calls == ["a.wav", "b.flac", "c.wav"]
    assert sorted(statuses) == [0, 0, 1]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "20"}, Shard(1, 20)),
        ({"SLURM_ARRAY_TASK_ID": "20", "SLURM_ARRAY_TASK_COUNT": "20", "SLURM_ARRAY_TASK_MIN": "1"}, Shard(20, 20)),
        (
            dict(zip(["ID", "COUNT", "MIN", "STEP"], ["25", "4", "5", "10"], strict=True)),
            Shard(3, 4),
        ),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}, Shard(4, 4)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "1",
                "SLURM_ARRAY_TASK_COUNT": "2",
                "SLURM_PROCID": "1",
                "SLURM_STEP_NUM_TASKS": "4",
            },
            Shard(6, 8),
        ),
    ],
)
def test_a_shard_is_taken_from_slurm(environment, expected):
    environment = {name if "SLURM" in name else f"SLURM_ARRAY_TASK_{name}": text for name, text in environment.items()}
    assert shard_of_cluster(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "3"}, "SLURM_ARRAY_TASK_ID=7 is not one of 3 tasks"),
        ({"SLURM_ARRAY_TASK_ID": "a", "SLURM_ARRAY_TASK_COUNT": "3"}, "SLURM_ARRAY_TASK_ID='a' is not a whole number"),
        ({}, "found neither a SLURM array or step nor a cluster of JAX; write K/N"),
    ],
)
def test_a_shard_that_cannot_be_found_is_an_error(environment, message):
    with pytest.raises(ValueError, match="--shard auto: ") as raised:
        shard_of_cluster(environment)
    assert message in str(raised.value)


def test_a_shard_without_recordings_is_a_success(folder, stand_in, tmp_path, capsys):
    outcomes = []
    for index in (1, 2):
        assert main(["separate", str(folder / "a.wav"), "--shard", f"{index}/2", "-o", str(tmp_path / "out")]) == 0
        outcomes.append(capsys.readouterr().out.splitlines()[-1])
    assert sorted(outcome.startswith("0 recordings") for outcome in outcomes) == [False, True]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/3", "1/0", "-1/3", "1/3/5"])
def test_wrong_shards_are_wrong_usage(text, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["separate", "a.wav", f"--shard={text}"])
    assert stopped.value.code == 2
    assert "is not a shard; write K/N" in capsys.readouterr().err


def test_inputs_or_a_manifest_are_required(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["separate", "-o", "out"])
    assert stopped.value.code == 2
    assert "INPUT or --manifest" in capsys.readouterr().err
