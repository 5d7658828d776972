"""Prepares LibriMix as a TFDS data set: `python -m mossformer_jax.data.prepare libri2mix/8k_min_clean ...`.

From LibriSpeech and LibriMix's metadata, or from its generated tree:

    python -m mossformer_jax.data.prepare libri2mix/8k_min_clean --librispeech LibriSpeech --metadata metadata/Libri2Mix
    python -m mossformer_jax.data.prepare libri2mix/8k_min_clean --librimix Libri2Mix --splits dev test
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        _prepare(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mossformer_jax.data.prepare", description="Prepares LibriMix as a TFDS data set."
    )
    parser.add_argument("name", help="data set and config: libri{2,3}mix/{8k,16k}_{min,max}_{clean,both,single}")
    parser.add_argument("--librimix", metavar="DIR", help="a generated LibriMix tree")
    parser.add_argument("--librispeech", metavar="DIR", help="LibriSpeech, to mix from (instead of --librimix)")
    parser.add_argument("--metadata", metavar="DIR", help="LibriMix's metadata/Libri2Mix or metadata/Libri3Mix")
    parser.add_argument("--noise", metavar="DIR", help="wham_noise, for configs ending in both and single")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="train-360, train-100, dev, test (default: all)")
    parser.add_argument("--data-dir", metavar="DIR", help="TFDS's data folder (default: ~/tensorflow_datasets)")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an existing data set and all its splits once the new one is complete",
    )
    return parser


def _prepare(options: argparse.Namespace) -> None:
    # Imported here so that --help works without TFDS.
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError("needs tensorflow_datasets; run: pip install 'mossformer-jax[train]'") from error

    from mossformer_jax.data.layouts.options import check_choice
    from mossformer_jax.data.libri2mix import Libri2Mix, Libri3Mix, open_splits

    builders = {builder.name: builder for builder in (Libri2Mix, Libri3Mix)}
    data_set, _, config = options.name.partition("/")
    check_choice("data set", data_set, tuple(builders))
    builder_class = builders[data_set]
    configs = {known.name: known for known in builder_class.BUILDER_CONFIGS}
    check_choice("config", config, tuple(configs))
    origin = {name: getattr(options, name) for name in ("librimix", "librispeech", "metadata", "noise", "splits")}
    mixtures = open_splits(configs[config], builder_class.NUM_SPEAKERS, **origin)

    def build() -> tfds.core.DatasetBuilder:
        return builder_class(config=config, data_dir=options.data_dir, mixtures=mixtures)

    folder = Path(build().data_path)
    _put_back(folder)
    if folder.exists() and not options.overwrite:
        raise FileExistsError(f"{folder}: already exists; use --overwrite to prepare it again")
    with _out_of_the_way(folder):
        # A new builder, because the first one may have read the old data set's description.
        builder = build()
        builder.download_and_prepare()
    for split, source in mixtures.items():
        hours = sum(builder.info.metadata[split]["num_samples"]) / source.sample_rate / 3600
        print(f"{split}: {len(source):,} mixtures, {hours:.1f} h")


def _aside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.replaced")


def _put_back(folder: Path) -> None:
    """Restores a data set that was moved aside when an earlier preparation was killed."""
    if _aside(folder).exists() and not folder.exists():
        _aside(folder).rename(folder)


@contextmanager
def _out_of_the_way(folder: Path) -> Iterator[None]:
    """Moves a folder aside while the block recreates it, and restores it if the block fails."""
    if not folder.exists():
        yield
        return
    aside = _aside(folder)
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
        raise
    shutil.rmtree(aside)


if __name__ == "__main__":
    sys.exit(main())
