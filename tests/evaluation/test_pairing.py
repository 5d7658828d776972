"""Files are paired by name for any naming scheme, and missing and surplus files are reported."""

import pytest

from mossformer_jax.evaluation.pairing import pair_files


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Creates empty files in a temporary folder, which becomes the working directory."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return make


def test_files_in_folders_are_paired_by_names_without_suffix(files):
    files("mix/b.wav", "mix/a.flac", "mix/.a.wav", "mix/notes.txt")
    files(*(f"{folder}/{name}.wav" for folder in ("s1", "s2", "e1", "e2") for name in "ab"))
    utterances, extra = pair_files("mix", ["s1", "s2"], ["e1", "e2"])
    assert [each.id for each in utterances] == ["a", "b"]
    assert utterances[0].paths() == ("mix/a.flac", "s1/a.wav", "s2/a.wav", "e1/a.wav", "e2/a.wav")
    assert extra == []


def test_templates_find_ids_and_sources_in_one_folder(files):
    files(*(f"D[1]/it_em.{n}_{name}.wav" for n in (2, 12) for name in ("mix", "source1", "source2", "source1hat")))
    files("D[1]/it_em.2_source2hat.wav", "D[1]/it_em.12_source2hat.wav", "D[1]/other_source.wav")
    utterances, extra = pair_files("D[1]/{id}_mix.wav", ["D[1]/{id}_source{k}.wav"], ["D[1]/{id}_source{k}hat.wav"])
    assert [each.id for each in utterances] == ["it_em.12", "it_em.2"]
    assert utterances[1].references == ("D[1]/it_em.2_source1.wav", "D[1]/it_em.2_source2.wav")
    assert utterances[1].estimates == ("D[1]/it_em.2_source1hat.wav", "D[1]/it_em.2_source2hat.wav")
    assert extra == []


def test_a_template_may_have_fields_in_folders_and_repeat_a_field(files):
    files("d/a/mix_a.wav", "d/a/mix_b.wav", *(f"s{k}/a.wav" for k in (1, 2, 3)), *(f"e/{k}/a.wav" for k in (1, 2, 3)))
    utterances, _ = pair_files("d/{id}//mix_{id}.wav", ["./s{k}/{id}.wav"], ["e/./{k}/{id}.wav"])
    assert [(each.id, each.mixture, len(each.references)) for each in utterances] == [("a", "d/a/mix_a.wav", 3)]


def test_missing_files_are_named_all_at_once(files):
    files(*(f"mix/{n}.wav" for n in range(8)), "s1/0.wav", *(f"e1/{n}.wav" for n in range(7)))
    with pytest.raises(FileNotFoundError) as raised:
        pair_files("mix", ["s1"], ["e1"])
    assert "s1: missing 1, 2, 3, 4, 5 and 2 more; e1: missing 7. " in str(raised.value)
    assert "templates with {id}" in str(raised.value)


def test_files_without_a_mixture_are_reported_and_skipped(files):
    files("mix/a.wav", "s1/a.wav", "e1/a.wav", "e1/b.wav", "e1/c.wav")
    utterances, extra = pair_files("mix", ["s1"], ["e1"])
    assert [each.id for each in utterances] == ["a"]
    assert extra == ["e1: skipped b, c: no such mixture in mix"]


@pytest.mark.parametrize(
    ("mixtures", "references", "estimates", "error", "message"),
    [
        ("none", ["s1"], ["e1"], FileNotFoundError, "none: no such folder; pass a folder or a path template"),
        ("empty", ["s1"], ["e1"], FileNotFoundError, "empty: no audio files in this folder"),
        ("mix/{id}.mp3", ["s1"], ["e1"], FileNotFoundError, r"mix/\{id\}.mp3: no file matches this template"),
        ("mix/{stem}.wav", ["s1"], ["e1"], ValueError, r"found the fields \{stem\}; \{id\} is required"),
        ("s{k}/{id}.wav", ["s1"], ["e1"], ValueError, r"the template of the mixtures must not have \{k\}"),
        ("mix", ["s1", "s2"], ["e1"], ValueError, "found 2 sources in the references but 1 in the estimates; pass as"),
        ("mix", ["s1"], ["o{k}/{id}.wav"], ValueError, r"found \{k\} = 2; number the sources from 1"),
        ("twice", ["s1"], ["e1"], ValueError, "twice/a.flac and twice/a.wav have the same id 'a'"),
    ],
)
def test_errors_name_the_folder_or_template(files, mixtures, references, estimates, error, message):
    files(*(f"{folder}/a.wav" for folder in ("mix", "s1", "s2", "e1", "o2", "twice")), "twice/a.flac", "empty/a.txt")
    with pytest.raises(error, match=message):
        pair_files(mixtures, references, estimates)
