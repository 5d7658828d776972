"""The parity table: every preset against the official code, its weights passed through a checkpoint of its family.

python -m tests.parity.table           prints it
python -m tests.parity.table --write   and puts it into docs/parity.md
"""

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

import numpy as np

from mossformer_jax.model import PRESETS, ModelConfig
from mossformer_jax.weights import build_network
from mossformer_jax.weights.torch_checkpoints import load_torch_checkpoint
from tests.parity import oracle
from tests.parity.harness import (
    gradient_errors,
    mixtures,
    official_network,
    official_separation,
    our_network,
    our_separation,
    precision,
    relative_error,
    small,
    speakers,
)

PAGE = Path(__file__).parents[2] / "docs" / "parity.md"
BEGIN, END = "<!-- table: python -m tests.parity.table --write -->", "<!-- end of table -->"
FAMILIES = {
    "mossformer2-2spk": "B",
    "mossformer2-3spk": "C",
    "mossformer2-2spk-16k": "A",
    "mossformer2-whamr-2spk": "C",
    "mossformer2-s-2spk": "B",
    "mossformer-l-2spk": "D",
    "mossformer-m-2spk": "D",
}
NUM_SAMPLES = 4003  # 499 frames, two groups; not a multiple of the stride
FULL_SIZE = "mossformer2-2spk"


def through_checkpoint(config: ModelConfig, family: str):
    """Our network with the official weights, converted from a checkpoint file of the family."""
    state_dict = oracle.build(config).state_dict()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "official"
        if family == "C":
            oracle.write_family_c(folder, state_dict, config)
        else:
            {"A": oracle.write_family_a, "B": oracle.write_family_b, "D": oracle.write_family_d}[family](
                folder, state_dict
            )
        checkpoint = load_torch_checkpoint(folder)
    assert checkpoint.family == family
    assert dataclasses.replace(checkpoint.config, dtype=config.dtype) == config
    with precision(config):
        return build_network(config, checkpoint.parameters)


def row(name: str, full: bool) -> str:
    """One line of the table."""
    errors = []
    for dtype in ("float32", "float64"):
        config = ModelConfig.preset(name, dtype=dtype) if full else small(name, dtype)
        network = through_checkpoint(config, FAMILIES[name])
        mixture_bt = mixtures(1, NUM_SAMPLES)
        ours = our_separation(config, mixture_bt, network=network)
        errors.append(f"{relative_error(ours, official_separation(config, mixture_bt)):.1e}")
    gradients = gradient_errors(config, speakers(1, config.num_sources, NUM_SAMPLES))
    errors.append(f"{np.max(list(gradients.values())):.1e}")
    official_network.cache_clear()
    our_network.cache_clear()
    size = "full size" if full else f"{config.num_blocks} blocks of {config.model_channels} channels"
    return f"| {name} | {size} | {FAMILIES[name]} | {' | '.join(errors)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures ours against the official PyTorch code.")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    flags = parser.parse_args()
    if not oracle.is_installed():
        print(oracle.MISSING, file=sys.stderr)
        return 1

    lines = [
        "| preset | size | family | float32 | float64 | gradients, float64 |",
        "|---|---|---|---|---|---|",
    ]
    print(*lines, sep="\n")
    for name, full in [*((name, False) for name in PRESETS), (FULL_SIZE, True)]:
        lines.append(row(name, full))
        print(lines[-1], flush=True)
    if flags.write:
        page = PAGE.read_text()
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text("\n".join([before + BEGIN, *lines, END]) + after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
