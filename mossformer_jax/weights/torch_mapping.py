"""Strict mapping between official state dicts (of numpy arrays) and our config and parameters, by `torch_names`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mossformer_jax.model import ModelConfig
from mossformer_jax.weights.parameters import Parameters, parameter_shapes
from mossformer_jax.weights.pickles import printable
from mossformer_jax.weights.torch_names import FAMILY_ROOTS, SHARED_BY_ALL_BLOCKS, Rule, official_names, rules

# Prefixes of all keys added by data-parallel training, or by a module that contains the network.
WRAPPERS = ("module.", "model.", "net.")
COMPILED = "_orig_mod."  # added by torch.compile, anywhere in a key
FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {
    "A": {"sample_rate": 16000, "input_level_db": -25.0},
    "B": {"sample_rate": 8000},
    "C": {"sample_rate": 8000},
    "D": {"sample_rate": 8000},
}
_LONGEST_KEY = 250  # characters; the longest official one has about 100
# Fixed in the official code and not visible in a checkpoint.
GROUP_SIZE = 256
# The tensors that determine the sizes, and the number of their axes.
SIZE_TENSORS = {
    "encoder.kernel": 3,
    "mask_net.input_projection.kernel": 3,
    "mask_net.source_projection.kernel": 3,
    "mask_net.blocks.attention.to_qk.linear.kernel": 2,
    "mask_net.blocks.fsmn.input_projection.kernel": 3,
}


def strip_wrappers(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Removes the prefixes `module.`, `model.` and `net.` if all keys have them, and every `_orig_mod.`."""
    stripped = {_name(key): value for key, value in state_dict.items()}
    while stripped and (prefix := next((p for p in WRAPPERS if all(key.startswith(p) for key in stripped)), None)):
        stripped = {key.removeprefix(prefix): value for key, value in stripped.items()}
    return stripped


def split_networks(state_dict: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
    """The networks in a state dict by the prefix of their keys; empty if there is none.

    If there is only one network, keys without its prefix are kept, so that they are reported as unknown.
    """
    named = {_name(key): value for key, value in state_dict.items()}
    roots = [FAMILY_ROOTS[family]["blocks"] for family in ("B", "C", "D")]
    prefixes = sorted({key[: key.find(root)] for key in named for root in roots if _has_root(key, root)})
    if len(prefixes) == 1:
        return {prefixes[0]: {key.removeprefix(prefixes[0]): value for key, value in named.items()}}
    return {
        prefix: {key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)}
        for prefix in prefixes
    }


def _name(key: Any) -> str:
    """A key without `_orig_mod.`. One that no module can have is shortened, because errors show the names."""
    name = str(key).replace(COMPILED, "")
    return name if name.isascii() and name.isprintable() and len(name) < _LONGEST_KEY else printable(name)


def _has_root(key: str, root: str) -> bool:
    at = key.find(root)
    return at == 0 or (at > 0 and key[at - 1] == ".")


def recognise_family(state_dict: Mapping[str, Any], *, from_clearervoice: bool) -> str:
    """The family of a checkpoint, from the names of its blocks. A and B have the same names but differ in wrapping.

    Raises:
        ValueError: the names do not belong to any known family.
    """
    for family in ("B", "C", "D"):
        if any(key.startswith(FAMILY_ROOTS[family]["blocks"]) for key in state_dict):
            return "A" if family == "B" and from_clearervoice else family
    roots = ", ".join(FAMILY_ROOTS[family]["blocks"] + "*" for family in ("A", "C", "D"))
    seen = ", ".join(list(state_dict)[:3]) or "nothing"
    raise ValueError(f"not an official MossFormer checkpoint: it contains no {roots}; it starts with {seen}")


def from_official(
    state_dict: Mapping[str, np.ndarray], family: str, options: Mapping[str, Any]
) -> tuple[ModelConfig, Parameters]:
    """Converts an official state dict to our config and parameters.

    Args:
        state_dict: arrays by official name, without prefixes.
        family: "A", "B", "C" or "D".
        options: config fields not determined by the tensors (`sample_rate`, `direct_decoding`, `input_level_db`).

    Raises:
        ValueError: keys are missing or unknown, shapes differ, numbers are not finite, or the repeated frequency
            tables differ; one error lists all of them by official name.
    """
    roots = FAMILY_ROOTS[family]
    with_fsmn = any(key.startswith(roots["blocks"] + "fsmn.") for key in state_dict)
    num_blocks = _count_blocks(state_dict, roots["blocks"])
    if not num_blocks:
        raise ValueError(f"state dict: contains no block ({roots['blocks']}layers.0.* and so on); it is incomplete")
    names = {rule: _expected_names(rule, family, num_blocks, state_dict) for rule in rules(with_fsmn)}

    problems = _name_problems(state_dict, names)
    size_problems, sizes = _sizes(state_dict, names)
    if not size_problems:
        config = ModelConfig(**sizes, num_blocks=num_blocks, group_size=GROUP_SIZE, **options)
        problems += _tensor_problems(state_dict, names, parameter_shapes(config))
    problems += size_problems
    if problems:
        raise ValueError("; ".join(problems))
    return config, {rule.ours: _convert(rule, [state_dict[name] for name in names[rule]]) for rule in names}


def to_official(config: ModelConfig, parameters: Mapping[str, np.ndarray], family: str) -> dict[str, np.ndarray]:
    """Converts our parameters to an official state dict.

    Raises:
        ValueError: the official code of the family does not support this config, or a parameter has no official name;
            the message names all of them.
    """
    problems = official_limits(config, family)
    if unnamed := sorted(parameters.keys() - {rule.ours for rule in rules(config.fsmn_channels is not None)}):
        problems.append(f"there are no parameters {', '.join(unnamed)} in it")
    if problems:
        raise ValueError(f"the official code of family {family} does not support this model: {'; '.join(problems)}")
    state_dict = {}
    for rule in rules(with_fsmn=True):
        array = np.asarray(parameters[rule.ours])
        for i, name in enumerate(official_names(rule, family, config.num_blocks)):
            one = array[i] if rule.per_block and rule.ours != SHARED_BY_ALL_BLOCKS else array
            state_dict[name] = np.array(rule.layout.to_torch(np.asarray(one)), order="C")
    return state_dict


def official_limits(config: ModelConfig, family: str) -> list[str]:
    """The config fields that the official code of family A or C does not support."""
    fixed = {
        "stride": (config.kernel_size // 2, "half of kernel_size"),
        "group_size": (GROUP_SIZE, "fixed there"),
        "query_key_channels": (128, "fixed there"),
        "fsmn_channels": (256, "fixed there; MossFormer v1 is a different class"),
        "encoder_channels": (config.model_channels, "equal to model_channels, the number of its decoder's inputs"),
    }
    if family == "A":
        fixed["direct_decoding"] = (False, "always off there; use family C")
    elif family != "C":
        raise ValueError(f"family={family!r} is not allowed: only A and C can be written")
    return [
        f"{field} is {getattr(config, field)}, must be {value} ({why})"
        for field, (value, why) in fixed.items()
        if getattr(config, field) != value
    ]


def _count_blocks(state_dict: Mapping[str, Any], root: str) -> int:
    """The number of different block numbers. A gap in the numbers leads to missing and unknown keys."""
    numbered = (key.removeprefix(root).split(".") for key in state_dict if key.startswith(root))
    return len({parts[1] for parts in numbered if parts[0] in ("layers", "fsmn") and len(parts) > 1})


def _expected_names(rule: Rule, family: str, num_blocks: int, state_dict: Mapping[str, Any]) -> list[str]:
    names = official_names(rule, family, num_blocks)
    if rule.ours == SHARED_BY_ALL_BLOCKS:  # safetensors stores shared tensors only once
        return [name for name in names if name in state_dict] or names
    return names


def _name_problems(state_dict: Mapping[str, Any], names: Mapping[Rule, list[str]]) -> list[str]:
    expected = {name for rule_names in names.values() for name in rule_names}
    problems = []
    if missing := sorted(expected - state_dict.keys()):
        problems.append(f"missing {', '.join(missing)}")
    if unknown := sorted(state_dict.keys() - expected):
        problems.append(f"unknown {', '.join(unknown)}")
    return problems


def _sizes(state_dict: Mapping[str, np.ndarray], names: Mapping[Rule, list[str]]) -> tuple[list[str], dict[str, Any]]:
    """Problems with the tensors that determine the sizes, and the sizes of the config if there are none."""
    shapes: dict[str, tuple[int, ...]] = {}
    problems = []
    for rule, (name, *_) in names.items():
        if rule.ours not in SIZE_TENSORS:
            continue
        if name not in state_dict:
            problems.append(f"the sizes cannot be determined without {name}")
        elif state_dict[name].ndim != SIZE_TENSORS[rule.ours]:
            problems.append(f"{name} has shape {state_dict[name].shape}, not {SIZE_TENSORS[rule.ours]} axes")
        else:
            shapes[rule.ours] = state_dict[name].shape
    if problems:
        return problems, {}

    encoder, source_projection = shapes["encoder.kernel"], shapes["mask_net.source_projection.kernel"]
    model_channels = shapes["mask_net.input_projection.kernel"][0]
    if source_projection[0] % model_channels:
        name = "conv1d_out.weight"
        return [f"{name} has shape {source_projection}, not a multiple of the model's {model_channels} channels"], {}
    fsmn = shapes.get("mask_net.blocks.fsmn.input_projection.kernel")
    return [], {
        "num_sources": source_projection[0] // model_channels,
        "encoder_channels": encoder[0],
        "model_channels": model_channels,
        "kernel_size": encoder[2],
        "stride": encoder[2] // 2,
        "query_key_channels": shapes["mask_net.blocks.attention.to_qk.linear.kernel"][0],
        "fsmn_channels": fsmn[0] if fsmn else None,
    }


def _tensor_problems(
    state_dict: Mapping[str, np.ndarray], names: Mapping[Rule, list[str]], our_shapes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    problems = []
    for rule, rule_names in names.items():
        shared = rule.ours == SHARED_BY_ALL_BLOCKS
        ours = our_shapes[rule.ours][1:] if rule.per_block and not shared else our_shapes[rule.ours]
        expected = rule.layout.torch_shape(ours)
        for name in rule_names:
            array = state_dict.get(name)
            if array is None:
                continue
            if array.shape != expected:
                problems.append(f"{name} has shape {array.shape}, not {expected}")
            elif not np.issubdtype(array.dtype, np.floating):
                problems.append(f"{name} has dtype {array.dtype}, not floating point")
            elif not np.isfinite(array).all():
                problems.append(f"{name} is not finite")
            elif shared and not np.array_equal(array, state_dict.get(rule_names[0], array)):
                problems.append(f"{name} differs from {rule_names[0]}; the network has one table for all blocks")
    return problems


def _convert(rule: Rule, arrays: list[np.ndarray]) -> np.ndarray:
    converted = [rule.layout.from_torch(array) for array in arrays]
    stacked = np.stack(converted) if rule.per_block and rule.ours != SHARED_BY_ALL_BLOCKS else converted[0]
    return np.array(stacked, order="C")
