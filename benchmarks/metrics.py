"""Measures the time to score a test set, and the speed of the metrics compared with mir_eval and torchmetrics.

First, it scores files as `mossformer-jax score` does: 3,000 mixtures of two speakers, 4 s at 8 kHz, once with SI-SDR(i)
alone and once with SDR(i) as well. The files are 100 distinct mixtures, used repeatedly; they are in the page cache,
like a test set that has just been separated. Second, it computes the metrics from arrays and compares each with its
peers. The implementations run alternately, and the speed-ups are medians over the rounds. torchmetrics is not a
dependency; it is skipped if it is not installed.

    python benchmarks/metrics.py
    python benchmarks/metrics.py --utterances 300    # extrapolates to 3,000, including the start-up
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from mossformer_jax.audio import read_audio, write_audio
from mossformer_jax.evaluation.evaluate import score_separation
from mossformer_jax.evaluation.pairing import SeparatedFiles
from mossformer_jax.evaluation.separated_files import read_signals, score_files
from mossformer_jax.scoring import host_figures

# The peers are imported where they are used, because the scoring processes import this file as well.

EXAMPLES = Path(__file__).parents[1] / "examples" / "synthetic"
TEST_SET = 3000
DISTINCT = 100
TARGETS = {("si_sdr",): 60, ("si_sdr", "sdr"): 600}
SI_SDR_ROWS = 32  # the batch size of score_files for mixtures of 4 s
SDR_ROWS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=TEST_SET)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        distinct = [write_utterance(Path(folder), number) for number in range(DISTINCT)]
        score_test_set([distinct[n % DISTINCT] for n in range(options.utterances)], options.jobs)
        signals = [read_signals(files) for files in distinct[:SI_SDR_ROWS]]
    estimates_bct = np.stack([each.estimates_ct for each in signals])
    references_bct = np.stack([each.references_ct for each in signals])
    mixture_bt = np.stack([each.mixture_t for each in signals])
    print(f"\n{'metrics from arrays':<22}{'peer':<14}{'ms':>9}{'peer (ms)':>10}{'speed-up':>10}{'max diff (dB)':>15}")
    beside_peers(estimates_bct, references_bct, mixture_bt, options.rounds)


def write_utterance(folder: Path, number: int) -> SeparatedFiles:
    """Writes a mixture of two recorded speakers with random shifts, and estimates with leakage in swapped order."""
    rng = np.random.default_rng(number)
    sources = np.stack([read_audio(EXAMPLES / f"source{k}.wav")[0][0] for k in (1, 2)])
    sources = np.stack([np.roll(source, rng.integers(len(source))) for source in sources]) * rng.uniform(0.3, 0.9)
    estimates = sources[::-1] + 0.1 * sources + 0.01 * rng.normal(size=sources.shape)
    paths = []
    for name, signal in zip(("mix", "s1", "s2", "e1", "e2"), [sources.sum(0), *sources, *estimates], strict=True):
        paths.append(str(folder / f"{number}_{name}.wav"))
        write_audio(paths[-1], 0.5 * signal / np.abs(signal).max(), 8000)
    return SeparatedFiles(str(number), paths[0], (paths[1], paths[2]), (paths[3], paths[4]))


def score_test_set(utterances: list[SeparatedFiles], jobs: int) -> None:
    count = len(utterances)
    extrapolated = f"{f'of {TEST_SET}, extrapolated':>24}" if count != TEST_SET else ""
    print(f"{count} utterances of 4 s, {jobs} processes, including compilation and start-up")
    print(f"{'metrics from files':<22}{'seconds':>9}{extrapolated}{'target':>9}")
    for metrics, target in TARGETS.items():
        began = time.perf_counter()
        score_files(utterances, metrics, jobs=jobs)
        seconds = time.perf_counter() - began
        extrapolated = f"{seconds * TEST_SET / count:>24.1f}" if count != TEST_SET else ""
        name = "SI-SDR(i)" if len(metrics) == 1 else "SI-SDR(i), SDR(i)"
        print(f"{name:<22}{seconds:>9.1f}{extrapolated}{target:>9}")


def beside_peers(estimates_bct: np.ndarray, references_bct: np.ndarray, mixture_bt: np.ndarray, rounds: int) -> None:
    """Prints one row per metric and peer; every implementation computes the metric and its improvement."""
    from mir_eval.separation import bss_eval_sources

    warnings.filterwarnings("ignore", message=r"mir_eval\.separation", category=FutureWarning)
    program = jax.jit(score_separation)
    lengths_b = np.full(len(mixture_bt), mixture_bt.shape[1])

    def si_sdr_ours() -> np.ndarray:
        scores = program(estimates_bct, references_bct, mixture_bt, lengths_b)
        return np.stack([scores.si_sdr_bc, scores.si_sdri_bc])

    order_bc = np.asarray(program(estimates_bct, references_bct, mixture_bt, lengths_b).permutation_bc)
    ordered = np.take_along_axis(estimates_bct, order_bc[:, :, None], axis=1)[:SDR_ROWS]
    triples = list(zip(ordered, references_bct, mixture_bt, strict=False))

    def sdr_ours() -> np.ndarray:
        figures = [host_figures(*triple, 8000, ("sdr",)) for triple in triples]
        return np.stack([[each["sdr"] for each in figures], [each["sdri"] for each in figures]])

    def sdr_mir_eval() -> np.ndarray:
        def figure(estimates_ct: np.ndarray, references_ct: np.ndarray) -> np.ndarray:
            # One reference at a time: SDR needs no others, and all at once would take several times as long.
            pairs = zip(references_ct, estimates_ct, strict=True)
            return np.array([bss_eval_sources(r[None], e[None], compute_permutation=False)[0][0] for r, e in pairs])

        scores = np.array([figure(estimates, references) for estimates, references, _ in triples])
        baselines = np.array([figure(np.stack([mixture] * 2), references) for _, references, mixture in triples])
        return np.stack([scores, scores - baselines])

    compare("SDR(i)", "mir_eval", sdr_ours, sdr_mir_eval, SDR_ROWS, rounds)
    try:
        import torch
        import torchmetrics.functional.audio as torchmetrics
    except ImportError as error:
        print(f"skipping torchmetrics: {error}")
        return
    estimates, references = torch.from_numpy(estimates_bct), torch.from_numpy(references_bct)
    mixtures = torch.from_numpy(mixture_bt)[:, None].expand_as(references)

    def si_sdr_torchmetrics() -> np.ndarray:
        si_sdr = torchmetrics.scale_invariant_signal_distortion_ratio
        _, order = torchmetrics.permutation_invariant_training(estimates, references, si_sdr, zero_mean=True)
        permuted = torchmetrics.pit_permutate(estimates, order)
        scores = si_sdr(permuted, references, zero_mean=True)
        return torch.stack([scores, scores - si_sdr(mixtures, references, zero_mean=True)]).numpy()

    def sdr_torchmetrics() -> np.ndarray:
        truth = references[:SDR_ROWS].double()
        scores = torchmetrics.signal_distortion_ratio(torch.from_numpy(ordered).double(), truth)
        baselines = torchmetrics.signal_distortion_ratio(mixtures[:SDR_ROWS].double(), truth)
        return torch.stack([scores, scores - baselines]).numpy()

    compare("SDR(i)", "torchmetrics", sdr_ours, sdr_torchmetrics, SDR_ROWS, rounds)
    compare("SI-SDR(i), permuted", "torchmetrics", si_sdr_ours, si_sdr_torchmetrics, len(mixture_bt), rounds)


def compare(
    name: str, peer: str, ours: Callable[[], np.ndarray], theirs: Callable[[], np.ndarray], rows: int, rounds: int
) -> None:
    difference = np.abs(ours() - theirs()).max()  # also serves as warm-up
    times: dict[Callable[[], np.ndarray], list[float]] = {ours: [], theirs: []}
    for _ in range(rounds):
        for run, milliseconds in times.items():
            began = time.perf_counter()
            run()
            milliseconds.append((time.perf_counter() - began) / rows * 1000)
    ratio = statistics.median(b / a for a, b in zip(times[ours], times[theirs], strict=True))
    ms = (statistics.median(each) for each in times.values())
    print(f"{name:<22}{peer:<14}{next(ms):>9.2f}{next(ms):>10.2f}{ratio:>10.1f}{difference:>15.1e}")


if __name__ == "__main__":
    main()
