"""Evaluates a model on a whole data set, over all devices and hosts, and goes on where it was broken off."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from mossformer_jax.data.pipeline import Batch, evaluation_batches
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

# Rows a device: more gain nothing on a CPU.
CPU_BATCH, ACCELERATOR_BATCH = 1, 8


@dataclass(frozen=True)
class TestSet:
    """What a model is evaluated on, and by which figures.

    Attributes:
        mixtures: the data set.
        metrics: names of `scoring.METRICS`.
        genders: F or M by speaker, in small letters, as far as known.
        batch_size: rows of a batch, over all devices; None takes 1 a device on a CPU, 8 elsewhere.
        num_workers: processes that read the mixtures; with 0, threads do.
    """

    __test__ = False  # pytest would take it for a test, by its name

    mixtures: MixtureSource
    metrics: Sequence[str] = ("si_sdr",)
    genders: Mapping[str, str] | None = None
    batch_size: int | None = None
    num_workers: int = 0

    @property
    def rows(self) -> int:
        """Rows of a batch, over all devices."""
        each = CPU_BATCH if jax.default_backend() == "cpu" else ACCELERATOR_BATCH
        return self.batch_size or each * jax.device_count()


@dataclass(frozen=True)
class Evaluation:
    """What came of an evaluation.

    Attributes:
        rows: one an utterance, in the order of the data set; see `report`.
        summary: as it is in summary.json.
        num_resumed: how many rows were there from an evaluation that had been broken off.
        partial: the file of the rows, to be removed when everything else is written, too.
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

    Rows are kept in `metrics.csv.partial` as they come. Where an evaluation of the same identity was broken off, only
    the utterances that it lacks are scored. The file stays until `Evaluation.partial` is removed.

    Args:
        scorer: the model.
        test_set: what it is evaluated on.
        folder: where to write; made where it is missing. Only process 0 writes.
        identity: what the figures depend on, ready for JSON (weights, model, data, ...).
        facts: what the summary tells besides.
        note: told, in one line, what has happened to the rows of an evaluation that was broken off.
        on_rows: told the rows of each batch as they come.

    Returns:
        The figures; None in all processes but the first.

    Raises:
        ValueError: the network's output is not finite, a metric is not defined at this rate, or the folder has rows of
            another identity or the finished figures of other data or metrics.
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
        note(f"{len(rows)} of {len(mixtures)} utterances had been scored before; going on with the others")
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
    # Of what was separated now: an evaluation that was broken off has not left its times.
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
    """Refuses to write over finished figures that the new ones do not replace; those of other weights they do.

    Raises:
        ValueError: the figures in the folder are of other data or other metrics.
    """
    found, wanted = read_object(folder / SUMMARY_FILE), as_read_back(identity)
    changed = [name for name in ("data", "metrics") if name in wanted and wanted[name] != found.get(name)]
    if found and changed:
        raise ValueError(
            f"{folder / SUMMARY_FILE}: is of an evaluation with other {', '.join(changed)}; name another folder with "
            "--output, or remove this one"
        )


def _score(scorer: Scorer, test_set: TestSet, indices: Sequence[int]) -> Iterator[dict[int, Row]]:
    """Scores these mixtures, a batch at a time; the rows by index, in process 0."""
    mixtures, genders = test_set.mixtures, test_set.genders or {}
    for batch in batches_of(test_set, indices):
        scored = scorer(batch)
        rows = {}
        places = np.flatnonzero(np.asarray(scored.index_b) >= 0)
        for place, scores in zip(places, utterance_scores(scored.scores, scored.index_b), strict=True):
            index = indices[scores.index]
            if math.isnan(scores.si_sdr_db) and not any(scores.silent):
                raise ValueError(
                    f"{mixtures.mixture_id(index)}: the network's output holds NaN or infinity; use other weights"
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
    """Some utterances of a test set in batches, of which each process has its part; `index` counts among them."""
    if not indices:
        return ()
    return evaluation_batches(
        _Some(test_set.mixtures, tuple(indices)),
        batch_size=test_set.rows,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_workers=test_set.num_workers,
    )


class _Some:
    """Some of the mixtures of a data set; a `MixtureSource`."""

    def __init__(self, mixtures: MixtureSource, indices: Sequence[int]):
        self._mixtures, self._indices = mixtures, indices
        self.num_sources, self.sample_rate = mixtures.num_sources, mixtures.sample_rate

    def __len__(self) -> int:
        return len(self._indices)

    def mixture_id(self, index: int) -> str:
        return self._mixtures.mixture_id(self._indices[index])

    def num_samples(self, index: int) -> int:
        return self._mixtures.num_samples(self._indices[index])

    def read(self, index: int, start: int = 0, num_samples: int | None = None) -> Mixture:
        return self._mixtures.read(self._indices[index], start, num_samples)
