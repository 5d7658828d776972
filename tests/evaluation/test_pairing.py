"""Files are paired by name, whatever tool named them, and what is missing or left over is said."""

import pytest

from mossformer_jax.evaluation.pairing import pair_files


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Makes empty files below a folder, which becomes the current one."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return make


def test_folders_are_paired_by_names_without_suffix(files):
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


def test_a_template_may_name_folders_and_a_field_twice(files):
    files("d/a/mix_a.wav", "d/a/mix_b.wav", *(f"s{k}/a.wav" for k in (1, 2, 3)), *(f"e/{k}/a.wav" for k in (1, 2, 3)))
    utterances, _ = pair_files("d/{id}//mix_{id}.wav", ["./s{k}/{id}.wav"], ["e/./{k}/{id}.wav"])
    assert [(each.id, each.mixture, len(each.references)) for each in utterances] == [("a", "d/a/mix_a.wav", 3)]


def test_missing_files_are_named_all_at_once(files):
    files(*(f"mix/{n}.wav" for n in range(8)), "s1/0.wav", *(f"e1/{n}.wav" for n in range(7)))
    with pytest.raises(FileNotFoundError) as raised:
        pair_files("mix", ["s1"], ["e1"])
    assert "s1: 1, 2, 3, 4, 5 and 2 more are missing; e1: 7 is missing. " in str(raised.value)
    assert "templates with {id}" in str(raised.value)


def test_files_of_no_mixture_are_named_and_left_out(files):
    files("mix/a.wav", "s1/a.wav", "e1/a.wav", "e1/b.wav", "e1/c.wav")
    utterances, extra = pair_files("mix", ["s1"], ["e1"])
    assert [each.id for each in utterances] == ["a"]
    assert extra == ["e1: b, c are left out: there is no such mixture in mix"]


@pytest.mark.parametrize(
    ("mixtures", "references", "estimates", "error", "message"),
    [
        ("none", ["s1"], ["e1"], FileNotFoundError, "none: no such folder; name a folder, or a template"),
        ("empty", ["s1"], ["e1"], FileNotFoundError, "empty: no audio there"),
        ("mix/{id}.mp3", ["s1"], ["e1"], FileNotFoundError, r"mix/\{id\}.mp3: no file has such a name"),
        ("mix/{stem}.wav", ["s1"], ["e1"], ValueError, r"has the fields \{stem\}; must have \{id\}"),
        ("s{k}/{id}.wav", ["s1"], ["e1"], ValueError, "there is one mixture of all sources"),
        ("mix", ["s1", "s2"], ["e1"], ValueError, "the references have 2 sources, the estimates 1; give as many"),
        ("mix", ["s1"], ["o{k}/{id}.wav"], ValueError, r"\{k\} is 2; sources are numbered from 1"),
        ("twice", ["s1"], ["e1"], ValueError, "twice/a.flac and twice/a.wav have the same id 'a'"),
    ],
)
def test_places_that_cannot_be_used_are_named(files, mixtures, references, estimates, error, message):
    files(*(f"{folder}/a.wav" for folder in ("mix", "s1", "s2", "e1", "o2", "twice")), "twice/a.flac", "empty/a.txt")
    with pytest.raises(error, match=message):
        pair_files(mixtures, references, estimates)
