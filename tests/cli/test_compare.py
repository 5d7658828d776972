"""`mossformer-jax compare`."""

import pytest

from mossformer_jax.cli import main
from mossformer_jax.evaluation.report import utterance_row, write_metrics


@pytest.fixture
def evaluations(tmp_path, monkeypatch):
    """Two metrics.csv with four utterances in common, in different orders."""
    monkeypatch.chdir(tmp_path)
    first = {"a": 10.0, "b": 11.0, "c": 12.0, "d": 13.0, "old": 99.0}
    second = {"new": -99.0, "d": 13.5, "c": 12.1, "b": 8.0, "a": 12.0}
    for name, figures in (("A", first), ("B", second)):
        (tmp_path / name).mkdir()
        rows = [utterance_row(id, 1.0, {"si_sdr": [x + 1] * 2, "si_sdri": [x] * 2}) for id, x in figures.items()]
        write_metrics(tmp_path / name / "metrics.csv", rows)
    return tmp_path


def test_means_intervals_and_the_most_changed_are_printed(evaluations, capsys):
    assert main(["compare", "A/metrics.csv", "B", "--changed", "2"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].split() == ["A", "B", "B", "-", "A", "95", "%", "interval", "B", "higher"]
    # Means over the utterances that both files have: 11.5 and 11.4.
    assert lines[2].split()[:5] == ["SI-SDRi", "(dB)", "11.500", "11.400", "-0.100"]
    assert lines[2].endswith("3 of 4")
    assert lines[4] == "Largest changes, SI-SDRi (dB):"
    assert [line.split()[::3] for line in lines[6:]] == [["b", "-3.000"], ["a", "+2.000"]]
    assert "only in A/metrics.csv, not compared: old" in printed.err
    assert "only in B, not compared: new" in printed.err


def test_the_plot_is_written_for_any_folder_names(evaluations, capsys):
    (evaluations / "B").rename("B$^$")  # which would be broken mathematics
    assert main(["compare", "A", "B$^$", "--metric", "si_sdr", "--changed", "0", "-o", "scatter.png"]) == 0
    assert (evaluations / "scatter.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.splitlines()[-1] == "scatter.png"


def test_invalid_files_and_metrics_are_a_one_line_error(evaluations, error_of):
    assert "C/metrics.csv: no such file" in error_of("compare", "A", "C/metrics.csv")
    assert "--metric sdr: not in both files; choose one of si_sdr, si_sdri" in error_of(
        "compare", "A", "A", "--metric", "sdr"
    )
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "A", "B", "-o", "scatter.jpg"])
    assert stopped.value.code == 2


def test_evaluations_of_different_data_are_refused(evaluations, capsys):
    write_metrics("other.csv", [utterance_row("other", 1.0, {"si_sdr": [1.0]})])
    assert main(["compare", "A", "other.csv"]) == 1
    assert "A/metrics.csv and other.csv have no utterance and metric in common" in capsys.readouterr().err
