"""`mossformer-jax info`."""

from __future__ import annotations

from mossformer_jax.cli import main


def test_info_prints_every_config_field_and_the_parameter_count(tiny_model_folder, tiny_config, capsys):
    assert main(["info", str(tiny_model_folder)]) == 0
    rows = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert int(rows.pop("parameters").replace(",", "")) > 1000
    assert rows == {name: str(value) for name, value in tiny_config.to_dict().items()}


def test_a_folder_without_a_model_is_a_one_line_error(tmp_path, error_of):
    assert "no_model" in error_of("info", tmp_path / "no_model")
