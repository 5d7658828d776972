"""Prepares LibriMix as a TFDS data set: `python -m mossformer_jax.data.prepare libri2mix/8k_min_clean ...`.

From LibriSpeech and LibriMix's metadata, or from its generated tree:

    python -m mossformer_jax.data.prepare libri2mix/8k_min_clean --librispeech LibriSpeech --metadata metadata/Libri2Mix
    python -m mossformer_jax.data.prepare libri2mix/8k_min_clean --librimix Libri2Mix --splits dev test
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


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
    parser.add_argument("--librispeech", metavar="DIR", help="LibriSpeech, to mix from instead")
    parser.add_argument("--metadata", metavar="DIR", help="LibriMix's metadata/Libri2Mix or metadata/Libri3Mix")
    parser.add_argument("--noise", metavar="DIR", help="wham_noise, for both and single")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="train-360, train-100, dev, test (default: all)")
    parser.add_argument("--data-dir", metavar="DIR", help="TFDS's data folder (default: ~/tensorflow_datasets)")
    parser.add_argument("--overwrite", action="store_true", help="if it is there, remove it and prepare it again")
    return parser


def _prepare(options: argparse.Namespace) -> None:
    # Here, so that --help needs no TFDS.
    import tensorflow_datasets as tfds

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
    builder = builder_class(config=config, data_dir=options.data_dir, mixtures=mixtures)
    if builder.data_path.exists() and not options.overwrite:
        raise FileExistsError(f"{builder.data_path}: is there already; give --overwrite to prepare it again")
    mode = tfds.GenerateMode.REUSE_CACHE_IF_EXISTS if options.overwrite else tfds.GenerateMode.REUSE_DATASET_IF_EXISTS
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(download_mode=mode))
    for split, source in mixtures.items():
        hours = sum(builder.info.metadata[split]["num_samples"]) / source.sample_rate / 3600
        print(f"{split}: {len(source):,} mixtures, {hours:.1f} h")


if __name__ == "__main__":
    sys.exit(main())
