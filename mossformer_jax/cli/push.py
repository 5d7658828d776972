"""`mossformer-jax push`: uploads a model with a model card to the Hugging Face hub."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

EXAMPLES = """\
examples:
  mossformer-jax push runs/libri2mix me/libri2mix-separator --licence cc-by-4.0
  mossformer-jax push models/ours me/name --card README.md --private

Uploads config.json, model.safetensors and a model card, in one commit. Log in first: hf auth login.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser(
        "push",
        help="upload a model to the Hugging Face hub",
        description="Uploads a model with a model card to the Hugging Face hub.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", help="folder of a training run (its best weights), or of a model")
    add("repository", metavar="OWNER/NAME", help="repository on the hub; created if it does not exist")
    add("--licence", "--license", metavar="ID", help="licence of the weights, such as apache-2.0 (default: not stated)")
    add("--description", default="", metavar="TEXT", help="a paragraph for the model card")
    add("--card", type=Path, metavar="FILE", help="your own model card, in Markdown (default: one is written)")
    add("--private", action="store_true", help="make a new repository private")
    add("--print-card", action="store_true", help="print the model card and upload nothing")
    parser.set_defaults(run=_push, extras="hub")


def _push(options: argparse.Namespace) -> int:
    from mossformer_jax.weights import read_config
    from mossformer_jax.weights.upload import model_card, push_model

    if options.card is None:
        card = model_card(
            options.repository,
            read_config(options.model),
            licence=options.licence,
            figures=_validation_figures(Path(options.model)),
            description=options.description,
        )
    elif not options.card.is_file():
        raise FileNotFoundError(f"{options.card}: no such file; check the path")
    else:
        card = options.card.read_text(encoding="utf-8")
    if options.print_card:
        print(card)
        return 0
    print(push_model(options.model, options.repository, card, private=options.private))
    return 0


def _validation_figures(run: Path) -> dict[str, str]:
    """The figures of the best validation of a training run; empty for other folders."""
    from mossformer_jax.training.records import read_metrics

    best = [record for record in read_metrics(run) if record.get("kind") == "validation" and record.get("best")]
    if not best:
        return {}
    names = {"si_sdri_db": "SI-SDRi on the validation set (dB)", "si_sdr_db": "SI-SDR on the validation set (dB)"}
    figures = {title: f"{best[-1][name]:.2f}" for name, title in names.items() if best[-1].get(name) is not None}
    return {**figures, "training steps": f"{best[-1]['step']:,}"}
