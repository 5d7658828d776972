"""The command `mossformer-jax`: separate a recording, score a separation, describe a model."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mossformer_jax import __version__

# JAX and the rooms that need it are imported inside the functions, so that --help and usage errors do not wait for it.

PROGRAM = "mossformer-jax"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: what follows the command's name; None takes them from the process.

    Returns:
        The exit status: 0, or 1 where the input cannot be used. Wrong usage exits with 2.
    """
    options = _parser().parse_args(arguments)
    try:
        _find_device()
        options.run(options)
    # RuntimeError: what JAX raises where memory runs out.
    except (ValueError, OSError, RuntimeError) as error:
        message = " ".join(str(error).splitlines()) or type(error).__name__
        print(f"{PROGRAM}: error: {message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="MossFormer2 speech separation.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    separate = commands.add_parser("separate", help="separate the speakers of a recording")
    separate.add_argument("mixture", metavar="IN.wav", help="recording, of any sample rate; channels are mixed down")
    separate.add_argument("-o", "--output", metavar="DIR", help="folder for IN_s1.wav, ... (default: beside IN.wav)")
    separate.add_argument("--model", default="default", help="folder of a stored model (default: the shipped one)")
    separate.add_argument(
        "--subtype",
        choices=("PCM_16", "PCM_24", "FLOAT"),
        default="PCM_16",
        help="sample format of the sources (default: %(default)s)",
    )
    separate.set_defaults(run=_separate)

    score = commands.add_parser("score", help="SI-SDR and its improvement over the mixture, in dB")
    score.add_argument("--mixture", required=True, metavar="M.wav")
    score.add_argument("--reference", required=True, nargs="+", metavar="R.wav", help="one true source a file")
    score.add_argument("--estimate", required=True, nargs="+", metavar="E.wav", help="as many, in any order")
    score.set_defaults(run=_score)

    info = commands.add_parser("info", help="configuration and parameter count of a stored model")
    info.add_argument("model", nargs="?", default="default", help="folder (default: the shipped model)")
    info.set_defaults(run=_info)
    return parser


def _find_device() -> None:
    """Wakes JAX up.

    Raises:
        ValueError: there is no device of the kind that the environment asks for.
    """
    import jax

    # JAX would remark on every accelerator that it does not find.
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    try:
        jax.devices()
    # AssertionError: JAX's answer to JAX_PLATFORMS=cuda where its CUDA plugin is not installed.
    except (RuntimeError, AssertionError) as error:
        wanted = os.environ.get("JAX_PLATFORMS", "")
        raise ValueError(
            f"JAX finds no device for JAX_PLATFORMS={wanted!r}; unset it, or install mossformer-jax[cuda12] or [tpu]"
        ) from error


def _separate(options: argparse.Namespace) -> None:
    from mossformer_jax.separation import Separator, separate_file

    separated = separate_file(
        Separator.from_pretrained(options.model), options.mixture, options.output, options.subtype
    )
    for path in separated.paths:
        print(path)
    timings = separated.timings
    print(
        f"{separated.duration:.2f} s of audio at {separated.sample_rate} Hz: "
        f"compiled in {timings.compile_seconds:.2f} s, run in {timings.run_seconds:.2f} s "
        f"(real-time factor {timings.run_seconds / separated.duration:.3f}), written as {options.subtype}"
    )
    if separated.gain < 1.0:
        print(
            f"{PROGRAM}: warning: {options.subtype} would have clipped; all sources were turned down to "
            f"{separated.gain:.3g} of their level (--subtype FLOAT keeps it)",
            file=sys.stderr,
        )


def _score(options: argparse.Namespace) -> None:
    import jax.numpy as jnp
    import numpy as np

    from mossformer_jax.data import read_audio, to_mono
    from mossformer_jax.scoring import pairwise_si_sdr, pit_si_sdr

    if len(options.reference) != len(options.estimate):
        raise ValueError(
            f"--reference names {len(options.reference)} files, --estimate {len(options.estimate)}: give equally many"
        )
    paths = [options.mixture, *options.reference, *options.estimate]
    audio = [read_audio(path) for path in paths]
    formats = [(waveform.shape[1], sample_rate) for waveform, sample_rate in audio]
    for path, (length, sample_rate) in zip(paths, formats, strict=True):
        if (length, sample_rate) != formats[0]:
            raise ValueError(
                f"{path}: has {length} samples at {sample_rate} Hz, but {paths[0]} has {formats[0][0]} at "
                f"{formats[0][1]} Hz; cut and resample them alike"
            )
    mixture, *others = (to_mono(waveform) for waveform, _ in audio)
    for path, signal in zip(options.reference, others, strict=False):
        if np.ptp(signal) == 0.0:
            raise ValueError(f"{path}: is silent, and SI-SDR is not defined for silence; leave this mixture out")
    signals_ct = jnp.stack(others)
    count = len(options.reference)
    references, estimates = signals_ct[None, :count], signals_ct[None, count:]
    chosen = pit_si_sdr(estimates, references)[1][0]
    scores = np.asarray(pairwise_si_sdr(estimates, references))[0, chosen, range(count)]
    baselines = np.asarray(pairwise_si_sdr(jnp.asarray(mixture)[None, None], references))[0, 0]

    rows = [("reference", "estimate", "SI-SDR (dB)", "SI-SDRi (dB)")]
    for reference, estimate, score, baseline in zip(options.reference, chosen, scores, baselines, strict=True):
        row = Path(reference).name, Path(options.estimate[estimate]).name, f"{score:.2f}", f"{score - baseline:.2f}"
        rows.append(row)
    rows.append(("mean", "", f"{scores.mean():.2f}", f"{(scores - baselines).mean():.2f}"))
    _print_table(rows, left=2)


def _info(options: argparse.Namespace) -> None:
    from mossformer_jax.weights import load_model

    model = load_model(options.model)
    fields = {"parameters": f"{model.num_parameters:,}", **model.config.to_dict()}
    _print_table([(name, str(value)) for name, value in fields.items()], left=2)


def _print_table(rows: Sequence[tuple[str, ...]], left: int) -> None:
    """Prints rows in aligned columns: the first `left` flush left, the others flush right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
