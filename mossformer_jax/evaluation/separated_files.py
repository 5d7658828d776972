"""Scores separated files of any tool: SI-SDR in batches on the device, the other metrics in host processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mossformer_jax.audio import AudioReader, read_audio, to_mono
from mossformer_jax.audio.lengths import Ladder
from mossformer_jax.data.batch import Batch
from mossformer_jax.evaluation.delays import find_delay, undo_delay
from mossformer_jax.evaluation.evaluate import Scores, evaluate, score_separation
from mossformer_jax.evaluation.pairing import SeparatedFiles
from mossformer_jax.evaluation.report import Row, utterance_row
from mossformer_jax.scoring import host_figures, parse_metrics

# Mixture samples per batch: enough to keep the device busy, few enough to fit any memory.
_BATCH_SAMPLES = 2**20
# A process takes seconds to start; in that time the main process scores about this many utterances.
_MIN_UTTERANCES_PER_PROCESS = 16
_READING_THREADS = 4
_NUM_NAMED = 5  # files in an error message
_SAME_FORM = "Cut or pad the files to one length, and resample them to one rate"
# Tools that separate in windows may return up to a window more or less than the mixture.
MAX_TRIM_SECONDS = 8.0


@dataclass(frozen=True)
class Signals:
    """The signals of an utterance, mono, with equal lengths and sample rates.

    Attributes:
        mixture_t: the mixture.
        references_ct: the true sources.
        estimates_ct: the separated sources.
        sample_rate: in Hz.
        delay: samples by which the estimates were later than the references in the files.
    """

    mixture_t: Float[np.ndarray, " t"]
    references_ct: Float[np.ndarray, "c t"]
    estimates_ct: Float[np.ndarray, "c t"]
    sample_rate: int
    delay: int = 0


@dataclass(frozen=True)
class FileScores:
    """Scores of an utterance.

    Attributes:
        files: the scored files.
        seconds: duration of the utterance.
        permutation: the estimate assigned to each reference, from 0.
        silent: whether each reference is silent.
        figures: the values of each metric, one per source in the order of the references; NaN where undefined.
        delay: samples by which the estimates in the files are later than the references; 0 if that makes no difference.
        sample_rate: in Hz.
    """

    files: SeparatedFiles
    seconds: float
    permutation: tuple[int, ...]
    silent: tuple[bool, ...]
    figures: Mapping[str, Sequence[float]]
    delay: int = 0
    sample_rate: int = 0

    def row(self) -> Row:
        """The row of metrics.csv."""
        return utterance_row(self.files.id, self.seconds, self.figures, silent=self.silent)


def read_signals(files: SeparatedFiles, trim: bool = False, align: bool = False) -> Signals:
    """Reads the files of an utterance.

    Args:
        files: the files.
        trim: whether to cut all signals to the shortest one.
        align: whether to undo a constant delay of the estimates.

    Raises:
        FileNotFoundError, ValueError: a file is missing, is not audio, or differs in length or sample rate; the message
            names it.
    """
    audio = [read_audio(path) for path in files.paths()]
    if trim:
        shortest = min(waveform.shape[1] for waveform, _ in audio)
        audio = [(waveform[:, :shortest], rate) for waveform, rate in audio]
    length, sample_rate = audio[0][0].shape[1], audio[0][1]
    for path, (waveform, rate) in zip(files.paths(), audio, strict=True):
        if (waveform.shape[1], rate) != (length, sample_rate):
            # An MP3 file can have fewer samples than its header declares.
            mismatch = _mismatch(path, (waveform.shape[1], rate), files.mixture, (length, sample_rate))
            raise ValueError(f"{mismatch}. {_SAME_FORM}")
    mixture, *sources = (to_mono(waveform) for waveform, _ in audio)
    count = len(files.references)
    references_ct, estimates_ct = np.stack(sources[:count]), np.stack(sources[count:])
    delay = find_delay(references_ct, estimates_ct, sample_rate)
    if align and delay:
        mixture, references_ct = (undo_delay(signal, delay, of_estimates=False) for signal in (mixture, references_ct))
        estimates_ct = undo_delay(estimates_ct, delay, of_estimates=True)
    return Signals(mixture, references_ct, estimates_ct, sample_rate, delay)


def score_files(
    utterances: Sequence[SeparatedFiles],
    metrics: Sequence[str] = ("si_sdr",),
    *,
    jobs: int = 1,
    on_scored: Callable[[int], None] = lambda count: None,
    trim: bool = False,
    align: bool = False,
    on_warning: Callable[[str], None] = lambda line: None,
) -> list[FileScores]:
    """Scores utterances under the permutation with the best SI-SDR.

    Args:
        utterances: at least one; all with the same sample rate and number of sources.
        metrics: names as returned by `parse_metrics`.
        jobs: maximum number of processes for the metrics other than SI-SDR.
        on_scored: called with the number of newly scored utterances. Each utterance counts once for SI-SDR, and once
            more if there are other metrics.
        trim: cut the signals of an utterance to the shortest one, if their lengths differ by at most
            `MAX_TRIM_SECONDS`.
        align: undo a constant delay of the estimates, which is the same for all estimates of an utterance.
        on_warning: called with each problem of a file that does not prevent scoring.

    Returns:
        The scores of each utterance, in the order of `utterances`.

    Raises:
        FileNotFoundError, ValueError: a file cannot be read or does not match the others (the message names it), or a
            metric is not defined at this sample rate. All headers are checked before anything is scored.
    """
    with ThreadPoolExecutor(_READING_THREADS) as pool:
        sample_rate, lengths = _headers(utterances, pool, trim, on_warning)
        metrics = parse_metrics(",".join(metrics), sample_rate)
        delays: dict[int, int] = {}
        read = partial(read_signals, trim=trim, align=align)
        batches = _batches(utterances, lengths, Ladder(sample_rate), pool, read, delays)
        scored = evaluate(_score_batch, batches, on_batch=lambda rows: on_scored(len(rows)))
    results = [
        FileScores(
            files,
            length / sample_rate,
            scores.permutation,
            scores.silent,
            {"si_sdr": scores.source_si_sdr_db, "si_sdri": scores.source_si_sdri_db},
            delays[index],
            sample_rate,
        )
        for index, (files, length, scores) in enumerate(zip(utterances, lengths, scored, strict=True))
    ]
    if set(metrics) <= {"si_sdr"}:
        return results
    completed = []
    for result in _on_host(results, metrics, read, min(jobs, len(results) // _MIN_UTTERANCES_PER_PROCESS)):
        completed.append(result)
        on_scored(1)
    return completed


def _headers(
    utterances: Sequence[SeparatedFiles], pool: Executor, trim: bool, on_warning: Callable[[str], None]
) -> tuple[int, list[int]]:
    """The common sample rate in Hz, and the length of each utterance in samples."""
    read = list(pool.map(lambda files: [_header(path) for path in files.paths()], utterances))
    found = [[(length, rate) for length, rate, _ in headers] for headers in read]
    for warning in dict.fromkeys(warning for headers in read for _, _, warning in headers if warning):
        on_warning(warning)
    first, (_, sample_rate) = utterances[0].mixture, found[0][0]
    for files, (mixture, *_) in zip(utterances, found, strict=True):
        if mixture[1] != sample_rate:
            raise ValueError(
                f"{files.mixture}: sample rate is {mixture[1]} Hz, but that of {first} is {sample_rate} Hz; "
                "score them separately"
            )
    mismatches = [
        _mismatch(path, header, files.mixture, headers[0])
        for files, headers in zip(utterances, found, strict=True)
        for path, header in zip(files.paths(), headers, strict=True)
        if header != headers[0] and not (trim and _can_be_trimmed(header, headers[0]))
    ]
    if mismatches:
        more = f" and {len(mismatches) - _NUM_NAMED} more" if len(mismatches) > _NUM_NAMED else ""
        trimmable = all(_can_be_trimmed(header, headers[0]) for headers in found for header in headers)
        advice = ", or cut each mixture's files to the shortest with --trim" if trimmable and not trim else ""
        raise ValueError(f"{'; '.join(mismatches[:_NUM_NAMED])}{more}. {_SAME_FORM}{advice}")
    return sample_rate, [min(length for length, _ in headers) for headers in found]


def _header(path: str) -> tuple[int, int, str | None]:
    """Length in samples, sample rate in Hz, and a warning if the file seems damaged."""
    with AudioReader(path) as reader:
        counted = (block.shape[1] for block in reader.blocks(_BATCH_SAMPLES))
        length = sum(counted) if reader.is_estimate else reader.num_samples
        return length, reader.sample_rate, reader.warning


def _can_be_trimmed(header: tuple[int, int], wanted: tuple[int, int]) -> bool:
    """Whether the lengths differ by at most `MAX_TRIM_SECONDS`, and by at most a factor of two."""
    (length, rate), (wanted_length, wanted_rate) = header, wanted
    near = abs(length - wanted_length) <= MAX_TRIM_SECONDS * rate and 2 * min(header[0], wanted_length) >= max(
        length, wanted_length
    )
    return rate == wanted_rate and near


def _mismatch(path: str, header: tuple[int, int], mixture: str, wanted: tuple[int, int]) -> str:
    return f"{path}: has {header[0]} samples at {header[1]} Hz, but {mixture} has {wanted[0]} at {wanted[1]} Hz"


def _batches(
    utterances: Sequence[SeparatedFiles],
    lengths: Sequence[int],
    ladder: Ladder,
    pool: Executor,
    read: Callable[[SeparatedFiles], Signals],
    delays: dict[int, int],
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Batches of utterances of similar length; fills in `delays`. Each is read while the previous one is scored."""
    buckets: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        buckets.setdefault(ladder.rung(length), []).append(index)
    ahead: tuple[tuple[int, int], list[int], list[Future[Signals]]] | None = None
    for num_samples, indices in sorted(buckets.items()):
        rows = min(max(1, _BATCH_SAMPLES // num_samples), len(indices))
        for chunk in (indices[start : start + rows] for start in range(0, len(indices), rows)):
            reading = [pool.submit(read, utterances[index]) for index in chunk]
            if ahead is not None:
                yield _stack(*ahead, delays)
            ahead = (rows, num_samples), chunk, reading
    if ahead is not None:
        yield _stack(*ahead, delays)


def _stack(
    shape: tuple[int, int], indices: list[int], reading: list[Future[Signals]], delays: dict[int, int]
) -> tuple[Batch, np.ndarray]:
    rows, num_samples = shape
    signals = [future.result() for future in reading]
    delays.update(zip(indices, (each.delay for each in signals), strict=True))
    shape_bct = rows, len(signals[0].references_ct), num_samples
    estimates_bct = np.zeros(shape_bct, np.float32)
    batch = Batch(
        np.zeros(shape, np.float32),
        np.zeros(shape_bct, np.float32),
        np.full(rows, num_samples, np.int32),
        np.array(indices + [-1] * (rows - len(indices)), np.int32),
    )
    for row, read in enumerate(signals):
        length = batch.lengths[row] = len(read.mixture_t)
        batch.mixture[row, :length] = read.mixture_t
        batch.sources[row, :, :length] = read.references_ct
        estimates_bct[row, :, :length] = read.estimates_ct
    return batch, estimates_bct


_score = jax.jit(score_separation)


def _score_batch(separated: tuple[Batch, np.ndarray]) -> tuple[Scores, Int[Array, " b"]]:
    batch, estimates_bct = separated
    return _score(estimates_bct, batch.sources, batch.mixture, batch.lengths), jnp.asarray(batch.index)


def _on_host(
    results: Sequence[FileScores], metrics: Sequence[str], read: Callable[[SeparatedFiles], Signals], jobs: int
) -> Iterator[FileScores]:
    """Adds the other metrics to the results, in the same order."""
    complete = partial(_complete, metrics=metrics, read=read)
    if jobs < 2:
        yield from map(complete, results)
        return
    # Not by fork, which is unsafe with JAX's threads. Ctrl-C interrupts the child processes as well; they ignore it, so
    # that they do not print tracebacks, and end with the main process.
    interrupts_ignored = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), interrupts_ignored)
    try:
        yield from pool.map(complete, results, chunksize=4)
    finally:
        pool.shutdown(cancel_futures=True)


def _complete(scores: FileScores, metrics: Sequence[str], read: Callable[[SeparatedFiles], Signals]) -> FileScores:
    signals = read(scores.files)
    estimates_ct = signals.estimates_ct[list(scores.permutation)]
    figures = host_figures(estimates_ct, signals.references_ct, signals.mixture_t, signals.sample_rate, metrics)
    others = {name: figure_c.tolist() for name, figure_c in figures.items()}
    return replace(scores, figures={**scores.figures, **others})
