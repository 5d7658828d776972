"""Evaluates a model on a whole data set, over all devices and hosts; resumes an interrupted evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from mossformer_jax.audio.lengths import Ladder, Rungs
from mossformer_jax.data.batch import Batch
from mossformer_jax.data.pipeline import evaluation_batches
from mossformer_jax.data.records import Mixture, MixtureSource
from mossformer_jax.evaluation.evaluate import utterance_scores
from mossformer_jax.evaluation.partial import PartialMetrics, as_read_back, read_object
from mossformer_jax.evaluation.report import (
    ROWS_FILE,
    SUMMARY_FILE,
    Row,
    summarize,
    utterance_row,
    write_metrics,
    write_summary,
)
from mossformer_jax.evaluation.scorer import Scorer, fetch
from mossformer_jax.scoring import host_figures

# Rows of a batch per device. Larger batches are no faster on a CPU.
CPU_BATCH, ACCELERATOR_BATCH = 1, 8
# Utterances of a length that has fewer batches are padded to the next longer one, which saves a compilation.
SPARSE_BATCHES = 4


@dataclass(frozen=True)
class TestSet:
    """The data set and the metrics of an evaluation.

    Attributes:
        mixtures: the data set.
        metrics: names of `scoring.METRICS`.
        genders: F or M by speaker id in lower case, for the speakers whose gender is known.
        batch_size: rows of a batch, over all devices; None means 1 per device on CPUs, 8 per device otherwise.
        num_workers: number of processes that read the mixtures; 0 means that threads read them.
    """

    __test__ = False  # the name starts with Test, but this is not a test for pytest

    mixtures: MixtureSource
    metrics: Sequence[str] = ("si_sdr",)
    genders: Mapping[str, str] | None = None
    batch_size: int | None = None
    num_workers: int = 0

    @property
    def rows(self) -> int:
        """Rows of a batch, over all devices."""
        rows_per_device = CPU_BATCH if jax.default_backend() == "cpu" else ACCELERATOR_BATCH
        return self.batch_size or rows_per_device * jax.device_count()

    @cached_property
    def lengths(self) -> Rungs:
        """The lengths to which batches are padded. They depend on the whole data set, so that resuming changes none."""
        return Ladder(self.mixtures.sample_rate).of_sizes(self.sizes, SPARSE_BATCHES * self.rows)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The lengths of all mixtures in samples; for files, each header is read once."""
        return tuple(self.mixtures.num_samples(index) for index in range(len(self.mixtures)))


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation.

    Attributes:
        rows: one per utterance, in the order of the data set; see `report`.
        summary: the contents of summary.json.
        num_resumed: number of rows taken from an interrupted evaluation.
        partial: the file of the rows; remove it when all other files are written.
    """

    rows: list[Row]
    summary: dict[str, Any]
    num_resumed: int
    partial: PartialMetrics


def evaluate_model(
    scorer: Scorer,
    test_set: TestSet,
    folder: Path,
    *,
    identity: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
    note: Callable[[str], None] = print,
    on_rows: Callable[[Sequence[Row]], None] | None = None,
) -> Evaluation | None:
    """Scores every utterance once, and writes `metrics.csv` and `summary.json`.

    Rows are appended to `metrics.csv.partial` after each batch. If an evaluation with the same identity was
    interrupted, only the utterances without a row are scored. The file is kept until the caller removes
    `Evaluation.partial`.

    Args:
        scorer: the model.
        test_set: the data set and the metrics.
        folder: output folder, created if missing. Only process 0 writes.
        identity: everything that the scores depend on (weights, model, data, ...), serializable as JSON.
        facts: further entries of the summary.
        note: called with one line of text if an interrupted evaluation is resumed.
        on_rows: called with the rows of each batch, and once with the rows of an interrupted evaluation.

    Returns:
        The results in process 0; None in other processes.

    Raises:
        ValueError: the network's output is not finite, a metric is not defined at this sample rate, or the folder has
            rows with another identity or results of other data or metrics.
        FileNotFoundError, ValueError: a mixture is missing or corrupt; the message names it.
    """
    mixtures = test_set.mixtures
    main = jax.process_index() == 0
    if main:
        _check_not_another(folder, identity)
    partial = PartialMetrics(folder, identity) if main else None
    rows: dict[int, Row] = {}
    if partial is not None and partial.rows:
        found = {row["id"]: row for row in partial.rows}
        ids = [mixtures.mixture_id(index) for index in range(len(mixtures))]
        rows = {index: found[id] for index, id in enumerate(ids) if id in found}
        note(f"Resuming: {len(rows)} of {len(mixtures)} utterances are already scored")
    num_resumed, seconds = len(rows), 0.0
    done = np.isin(np.arange(len(mixtures)), list(rows))
    if jax.process_count() > 1:
        done = multihost_utils.broadcast_one_to_all(done)
    if on_rows is not None and rows:
        on_rows(list(rows.values()))
    for new in _score(scorer, test_set, np.flatnonzero(~done).tolist()):
        if partial is not None and new:
            partial.append(list(new.values()))
            rows |= new
            seconds += sum(float(row["seconds"] or 0.0) for row in new.values())
        if on_rows is not None:
            on_rows(list(new.values()))
    if partial is None:
        return None
    in_order = [rows[index] for index in sorted(rows)]
    # Only of the utterances scored now, because an interrupted evaluation does not record its times.
    factor = scorer.run_seconds / seconds if seconds else None
    summary = summarize(
        in_order,
        real_time_factor=factor,
        compile_seconds=scorer.compile_seconds,
        **identity,
        **(facts or {}),
    )
    write_metrics(folder / ROWS_FILE, in_order)
    write_summary(folder / SUMMARY_FILE, summary)
    return Evaluation(in_order, summary, num_resumed, partial)


def _check_not_another(folder: Path, identity: Mapping[str, Any]) -> None:
    """Refuses to overwrite the results of other data or metrics. Results of other weights may be overwritten.

    Raises:
        ValueError: the folder has results of other data or metrics.
    """
    found, wanted = read_object(folder / SUMMARY_FILE), as_read_back(identity)
    changed = [name for name in ("data", "metrics") if name in wanted and wanted[name] != found.get(name)]
    if found and changed:
        raise ValueError(
            f"{folder / SUMMARY_FILE}: comes from an evaluation with different {', '.join(changed)}; choose another "
            "folder with --output, or delete this file"
        )


def _score(scorer: Scorer, test_set: TestSet, indices: Sequence[int]) -> Iterator[dict[int, Row]]:
    """Scores these mixtures batch by batch; yields the rows by index in process 0, empty dicts in other processes."""
    mixtures, genders = test_set.mixtures, test_set.genders or {}
    for batch in batches_of(test_set, indices):
        scored = scorer(batch)
        rows = {}
        places = np.flatnonzero(np.asarray(scored.index_b) >= 0)
        for place, scores in zip(places, utterance_scores(scored.scores, scored.index_b), strict=True):
            index = indices[scores.index]
            if math.isnan(scores.si_sdr_db) and not any(scores.silent):
                raise ValueError(
                    f"{mixtures.mixture_id(index)}: the network's output contains NaN or infinity; use other weights"
                )
            if jax.process_index() > 0:
                continue
            mixture = mixtures.read(index)
            figures: dict[str, Sequence[float]] = {
                "si_sdr": scores.source_si_sdr_db,
                "si_sdri": scores.source_si_sdri_db,
            }
            if set(test_set.metrics) - {"si_sdr"}:
                estimates_ct = fetch(scored, int(place), mixture.sources.shape[1])
                arrays = estimates_ct, mixture.sources, mixture.mixed()
                more = host_figures(*arrays, mixtures.sample_rate, test_set.metrics)
                figures |= {name: values.tolist() for name, values in more.items()}
            known = [genders[name] for name in map(str.lower, mixture.speakers) if name in genders]
            rows[index] = utterance_row(
                mixture.id,
                mixture.sources.shape[1] / mixtures.sample_rate,
                figures,
                speakers=mixture.speakers,
                genders=known if len(known) == len(mixture.speakers) else (),
                silent=scores.silent,
            )
        yield rows


def batches_of(test_set: TestSet, indices: Sequence[int]) -> Iterable[Batch]:
    """This process's part of the batches of some utterances; a batch's `index` is the position in `indices`."""
    if not indices:
        return ()
    return evaluation_batches(
        _Subset(test_set.mixtures, tuple(indices), tuple(test_set.sizes[index] for index in indices)),
        batch_size=test_set.rows,
        ladder=test_set.lengths,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_workers=test_set.num_workers,
    )


class _Subset:
    """A subset of the mixtures of a data set; a `MixtureSource`."""

    def __init__(self, mixtures: MixtureSource, indices: Sequence[int], sizes: Sequence[int]):
        self._mixtures, self._indices, self._sizes = mixtures, indices, sizes
        self.num_sources, self.sample_rate = mixtures.num_sources, mixtures.sample_rate

    def __len__(self) -> int:
        return len(self._indices)

    def mixture_id(self, index: int) -> str:
        return self._mixtures.mixture_id(self._indices[index])

    def num_samples(self, index: int) -> int:
        return self._sizes[index]

    def read(self, index: int, start: int = 0, num_samples: int | None = None) -> Mixture:
        return self._mixtures.read(self._indices[index], start, num_samples)
