"""The table of names covers both networks completely."""

import re
from pathlib import Path

import pytest

from mossformer_jax.model import ModelConfig
from mossformer_jax.weights import parameter_shapes
from mossformer_jax.weights.torch_names import FAMILY_ROOTS, FAMILY_TITLES, official_names, rules

NAMES_PAGE = Path(__file__).parents[2] / "docs" / "names.md"


@pytest.mark.parametrize("fsmn_channels", [8, None])
def test_the_rules_cover_each_of_our_parameters_once(fsmn_channels):
    config = ModelConfig(
        encoder_channels=4, model_channels=4, num_blocks=2, query_key_channels=8, fsmn_channels=fsmn_channels
    )
    filled = [rule.ours for rule in rules(fsmn_channels is not None)]
    assert sorted(filled) == sorted(parameter_shapes(config))


@pytest.mark.parametrize("family", FAMILY_ROOTS)
def test_every_official_name_has_only_one_rule(family):
    names = [name for rule in rules(with_fsmn=True) for name in official_names(rule, family, 3)]
    assert len(names) == len(set(names))


def test_the_names_page_lists_every_rule_and_root():
    rows = [
        tuple(re.findall(r"`([^`]+)`", line)[:2]) for line in NAMES_PAGE.read_text().splitlines() if line[:3] == "| `"
    ]
    for rule in rules(with_fsmn=True):
        assert (rule.official, rule.ours) in rows
    page = NAMES_PAGE.read_text()
    for family, roots in FAMILY_ROOTS.items():
        assert FAMILY_TITLES[family] in page
        assert all(f"`{root}`" in page for root in roots.values())
