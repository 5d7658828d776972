"""Speaker tables of LibriSpeech and WSJ0."""

from __future__ import annotations

import pytest

from mossformer_jax.evaluation.speakers import find_genders, read_genders

LIBRISPEECH = """;ID  |SEX| SUBSET           |MINUTES| NAME
14   | F | train-clean-360  | 25.03 | Kristin LeMoine
20   |
 M | a line that was cut in two
908  | M | test-clean       |  8.05 | Sam Stinson
"""
WSJ0 = """;; speaker information
 001  F   trn   American
 22GA M   tst   English
"""


def test_the_tables_of_librispeech_and_wsj0_are_read(tmp_path):
    (tmp_path / "SPEAKERS.TXT").write_text(LIBRISPEECH)
    (tmp_path / "spkrinfo.txt").write_text(WSJ0)
    assert read_genders(tmp_path / "SPEAKERS.TXT") == {"14": "F", "908": "M"}
    assert read_genders(tmp_path / "spkrinfo.txt") == {"001": "F", "22ga": "M"}
    (tmp_path / "none.txt").write_text("speaker,gender\n")
    with pytest.raises(ValueError, match=r"none\.txt: no speakers found"):
        read_genders(tmp_path / "none.txt")


def test_librispeechs_speaker_table_is_found_in_the_data_folders(tmp_path, monkeypatch):
    (tmp_path / "LibriSpeech").mkdir()
    (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").write_text(LIBRISPEECH)
    for options in ({"librispeech": str(tmp_path)}, {"root": str(tmp_path / "LibriSpeech"), "librispeech": None}):
        assert find_genders(options) == {"14": "F", "908": "M"}
    monkeypatch.chdir(tmp_path)
    for options in ({"layout": "demo"}, {"librispeech": None, "root": None}):
        assert find_genders(options) == {}
