"""Opening layouts by name with the options of a config."""

from __future__ import annotations

import pkgutil

import ml_collections
import numpy as np
import pytest

from mossformer_jax.data.layouts import LAYOUTS, open_mixtures
from mossformer_jax.data.training_mixtures import open_training_mixtures


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_can_be_imported(layout):
    assert callable(pkgutil.resolve_name(LAYOUTS[layout]))


def test_options_of_a_config_are_passed_on(tmp_path, write_audio_files):
    written = write_audio_files(tmp_path / "wav8k" / "max" / "tt", ["mix_clean", "s1", "s2"], ["a"])
    config = ml_collections.ConfigDict(
        {"layout": "wham", "root": str(tmp_path), "split": "tt", "mode": "max", "task": "mix_clean"}
    )
    np.testing.assert_array_equal(open_mixtures(**config).read(0).mixture, written["mix_clean", "a"])


def test_the_closest_layout_is_suggested():
    with pytest.raises(ValueError, match=r"no layout 'libri2mix'; did you mean 'librimix'\? All: librimix, wsj0mix,"):
        open_mixtures("libri2mix", root="anywhere")


def test_the_closest_option_is_suggested():
    with pytest.raises(ValueError, match=r"layout 'wham' has no option 'taks'; did you mean 'task'\? All: root, split"):
        open_mixtures("wham", root="anywhere", split="tr", taks="mix_both")


def test_the_error_names_a_missing_option():
    with pytest.raises(ValueError, match="layout 'librimix' needs the option 'split'; add it to the config"):
        open_mixtures("librimix", root="anywhere")


def test_mixtures_that_cannot_be_remixed_are_an_error_before_training(tmp_path, write_audio_files):
    signals = ["mix_both_reverb", "s1_anechoic", "s2_anechoic", "noise"]
    write_audio_files(tmp_path / "wav8k" / "min" / "tr", signals, ["a", "b"])
    options = {"layout": "whamr", "root": str(tmp_path), "split": "tr"}
    with pytest.raises(ValueError, match=r"cannot be remixed at other speeds, .*; set speeds=\(100,\)"):
        open_training_mixtures(**options)
    assert len(open_training_mixtures(**options, speeds=(100,))) == 2


def test_a_missing_layout_is_an_error():
    with pytest.raises(ValueError, match="mixtures with path, sample_rate need a layout; set it to one of"):
        open_mixtures(path="x", sample_rate=8000)
