"""CSV files that list speech files: columns, splits, encodings and errors."""

from __future__ import annotations

import pytest

from mossformer_jax.data.utterances import Utterances

RATE = 8000


def test_manifest_rows_are_selected_by_split_and_unknown_speakers_are_merged(tmp_path):
    rows = (
        "path,speaker,speaker_known,split",
        "1.flac,anna,1,train",
        "2.flac,x,0,train",
        "3.flac,y,0,train",
        "4.flac,z,1,dev",
    )
    (tmp_path / "m.csv").write_text("\n".join(rows))
    speech = Utterances.from_manifest(tmp_path / "m.csv", sample_rate=RATE, split="train")
    assert (len(speech), speech.speaker_names) == (3, ("anna", "unknown"))
    assert speech.paths[0] == str(tmp_path / "1.flac")
    with pytest.raises(ValueError, match=r"m\.csv: has no row with split 'test'"):
        Utterances.from_manifest(tmp_path / "m.csv", sample_rate=RATE, split="test")
    (tmp_path / "n.csv").write_text("file,who\n1.flac,anna\n")
    with pytest.raises(ValueError, match=r"n\.csv: has no column path, speaker; its columns are file, who"):
        Utterances.from_manifest(tmp_path / "n.csv", sample_rate=RATE)
    (tmp_path / "k.csv").write_text("path,speaker,num_samples\n1.flac,anna,long\n")
    with pytest.raises(ValueError, match=r"k\.csv, line 2: num_samples='long' must be a whole number, 0 or more"):
        Utterances.from_manifest(tmp_path / "k.csv", sample_rate=RATE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,speaker\n1.wav,ann\nbob\n", ", line 3: has 1 cells for 2 columns: 'bob'"),
        ("path,speaker\n\n1.wav,\n", ", line 3: has path '1.wav' and speaker ''; fill in both"),
        ("path,speaker\n,ann\n", ", line 2: has path '' and speaker 'ann'; fill in both"),
        ("path,speaker,num_samples,sample_rate\n1.wav,ann,9,0\n", ", line 2: sample_rate='0' must be a whole"),
        ("path,speaker,n_samples\n1.wav,ann,-9\n", ", line 2: n_samples='-9' must be a whole number, 0 or more"),
        ("path,speaker\n1.wav,jos\xe9\n", ": is not text in UTF-8 (invalid continuation byte at byte 22); convert it"),
    ],
)
def test_manifest_errors_are_one_line(tmp_path, text, message):
    path = tmp_path / "m.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as caught:
        Utterances.from_manifest(path, sample_rate=RATE)
    assert str(caught.value).startswith(f"{path}{message}")


def test_a_manifest_saved_by_a_spreadsheet_is_read(tmp_path):
    (tmp_path / "m.csv").write_text("path,speaker\r\n1.wav,jos\xe9\r\n", encoding="utf-8-sig", newline="")
    assert Utterances.from_manifest(tmp_path / "m.csv", sample_rate=RATE).speaker_names == ("jos\xe9",)
