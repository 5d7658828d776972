"""`mossformer-jax data inspect`: statistics and samples of a config's data."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mossformer_jax.cli.arguments import whole_number
from mossformer_jax.cli.terminal import print_table

if TYPE_CHECKING:
    from mossformer_jax.data.records import Mixture, MixtureSource
    from mossformer_jax.data.speech import Speech

SPLITS = ("train", "validation", "test")
MAX_LENGTHS = 2000
MAX_SECONDS = 3600


def add_parser(commands: Any) -> None:
    """Adds the subcommand to the command's parser."""
    parser = commands.add_parser("data", help="inspect the data of a config; simulate rooms to train with")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    inspect = actions.add_parser(
        "inspect",
        help="print the number of mixtures, hours and speakers, the levels and the overlap; write samples to listen to",
        epilog="Override fields of the config as in training: --config.data.train.root=/speech",
    )
    inspect.add_argument("--config", required=True, metavar="CONFIG", help="name of a shipped config, or a config file")
    inspect.add_argument("--split", choices=SPLITS, default="train", help="default: %(default)s")
    inspect.add_argument(
        "--measure", type=whole_number(1), default=200, metavar="N", help="number of mixtures to measure (default: 200)"
    )
    inspect.add_argument("-o", "--output", metavar="DIR", help="folder for samples to listen to (default: none)")
    inspect.add_argument(
        "--samples",
        type=whole_number(1),
        default=2,
        metavar="N",
        help="number of samples to write (default: %(default)s)",
    )
    inspect.set_defaults(run=_inspect, takes_overrides=True)
    rooms = actions.add_parser(
        "rooms",
        help="simulate rooms; write their impulse responses",
        description="Simulates rooms with random sizes and reverberation times by the image source method, and writes "
        "DIR/ROOM/PLACE.wav for config.data.train.reverberation.",
    )
    rooms.add_argument("-o", "--output", required=True, metavar="DIR", help="folder to write; must be new or empty")
    number = whole_number(1)
    rooms.add_argument("--rooms", type=number, default=500, metavar="N", help="default: %(default)s")
    rooms.add_argument("--places", type=number, default=4, metavar="N", help="talkers per room (default: %(default)s)")
    rooms.add_argument("--sample-rate", type=number, default=8000, metavar="HZ", help="default: %(default)s")
    rooms.add_argument("--seed", type=whole_number(0), default=0, help="another seed gives other rooms (default: 0)")
    rooms.set_defaults(run=_rooms, extras="rooms")


def _rooms(options: argparse.Namespace) -> int:
    from mossformer_jax.data.rooms import make_rooms

    written = make_rooms(options.output, options.rooms, options.places, options.sample_rate, options.seed)
    count = sum(1 for _ in written)
    print(f"{options.output}: {count * options.places} impulse responses of {count} rooms at {options.sample_rate} Hz")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    import itertools

    import numpy as np

    from mossformer_jax.data.statistics import mixture_statistics
    from mossformer_jax.training.configuration import load_config

    config = load_config(options.config, options.overrides).to_dict().get("data")
    config = config if isinstance(config, dict) else {}
    known = [split for split in SPLITS if config.get(split)]
    if options.split not in known:
        raise ValueError(f"{options.config}: has no data.{options.split}; it has {', '.join(known) or 'none'}")
    part = config[options.split]
    if not isinstance(part, dict):
        raise ValueError(
            f"{options.config}: data.{options.split}={part!r} is not allowed: must be a section (see docs/data.md)"
        )
    if options.split != "train" and not isinstance(part.get("layout"), str):
        raise ValueError(f"{options.config}: data.{options.split} has no layout; set one (see docs/data.md)")
    rows, mixtures = _train(config) if options.split == "train" else _whole(part)
    samples: list[Mixture] = []

    def measured() -> Iterator[Mixture]:
        for mixture in itertools.islice(mixtures, options.measure):
            if options.output is not None and len(samples) < options.samples:
                samples.append(mixture)
            yield mixture

    statistics = mixture_statistics(measured())
    rows.append(("measured", f"{statistics.count:,} mixtures, {statistics.seconds.sum() / 3600:.2f} h"))
    if statistics.speakers:
        rows.append(("speakers measured", f"{len(statistics.speakers):,}"))
    alone, unlike_sum = statistics.num_active <= 1, np.isfinite(statistics.snr_db)
    for name, values, unit in (
        ("length", statistics.seconds, "s"),
        ("mixture level", statistics.mixture_db, "dB"),
        ("mixture peak", statistics.peak, ""),
        ("level difference", statistics.level_difference_db[~alone], "dB"),
        ("overlap", 100 * statistics.overlap, "%"),
        ("SNR", statistics.snr_db[unlike_sum], "dB"),
    ):
        if len(values):
            low, middle, high = np.percentile(values, [5, 50, 95])
            rows.append((name, f"{middle:.2f} {unit}".rstrip() + f"  (5 to 95 %: {low:.2f} to {high:.2f})"))
    rows.append(("noise or acoustics", f"{unlike_sum.mean():.0%} of the mixtures"))
    rows.append(("one talker at most", f"{alone.mean():.0%} of the mixtures"))
    print_table(rows, left=2)
    if options.output is not None:
        _write_samples(samples, Path(options.output))
    return 0


def _train(config: Any) -> tuple[list[tuple[str, str]], Iterator[Mixture]]:
    """The training data as table rows, and random crops as training draws them."""
    import numpy as np

    from mossformer_jax.data.crops import CroppedMixtures
    from mossformer_jax.data.mixing import DynamicMixing
    from mossformer_jax.data.training_mixtures import open_training_mixtures

    mixtures = open_training_mixtures(**config["train"])
    rows = [
        ("mixtures in an epoch", f"{len(mixtures):,}"),
        ("sources", str(mixtures.num_sources)),
        ("sample rate", f"{mixtures.sample_rate} Hz"),
    ]
    if isinstance(mixtures, DynamicMixing):
        speech = mixtures.speech
        rows += [
            ("speech", f"{len(speech):,} utterances, {_hours(speech)}"),
            ("speakers", f"{len(speech.speaker_names):,}"),
        ]
    elif isinstance(mixtures, CroppedMixtures):
        rows.append(("stored", f"{len(mixtures):,} mixtures, {_hours(mixtures.mixtures)}"))
    rows += [
        (name.replace("_", " "), f"in {option.share:.0%} of the mixtures")
        for name, option in vars(mixtures).items()
        if hasattr(option, "share")
    ]
    seconds = config.get("seconds", 0)
    if not isinstance(seconds, int | float) or not 0 < seconds <= MAX_SECONDS:
        raise ValueError(
            f"data.seconds is the length of a crop and must be above 0 and up to {MAX_SECONDS}, not {seconds!r}; "
            "set it in the config"
        )
    num_samples = max(round(seconds * mixtures.sample_rate), 1)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(mixtures))
    return rows, (mixtures.draw(int(index), num_samples, rng) for index in order)


def _whole(fields: dict[str, Any]) -> tuple[list[tuple[str, str]], Iterator[Mixture]]:
    """The data of an evaluation split as table rows, and its whole mixtures in random order."""
    import numpy as np

    from mossformer_jax.data.layouts import open_mixtures

    mixtures = open_mixtures(**fields)
    rows = [
        ("mixtures", f"{len(mixtures):,}, {_hours(mixtures)}"),
        ("sources", str(mixtures.num_sources)),
        ("sample rate", f"{mixtures.sample_rate} Hz"),
    ]
    order = np.random.default_rng(0).permutation(len(mixtures))
    return rows, (mixtures.read(int(index)) for index in order)


def _hours(recordings: MixtureSource | Speech) -> str:
    """Total duration, estimated from a sample for large sets, because each length may require opening a file."""
    import numpy as np

    count = len(recordings)
    sampled = np.random.default_rng(0).permutation(count)[:MAX_LENGTHS]
    mean = np.mean([recordings.num_samples(int(index)) for index in sampled])
    hours = mean * count / recordings.sample_rate / 3600
    return f"{'' if len(sampled) == count else 'about '}{hours:.2f} h"


def _write_samples(mixtures: list[Mixture], folder: Path) -> None:
    from mossformer_jax.audio import write_audio

    folder.mkdir(parents=True, exist_ok=True)
    for number, mixture in enumerate(mixtures, 1):
        signals = {"mixture": mixture.mixed()} | {f"source{k}": s for k, s in enumerate(mixture.sources, 1)}
        if mixture.noise is not None:
            signals["noise"] = mixture.noise
        for name, signal in signals.items():
            path = folder / f"{number}_{name}.wav"
            write_audio(path, signal, mixture.sample_rate, "FLOAT")
            print(path)
