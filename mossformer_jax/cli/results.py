"""The outcome of each recording, as text and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mossformer_jax.cli.inputs import LeftOut
    from mossformer_jax.cli.jobs import Job
    from mossformer_jax.separation import SeparatedFile

_NUM_NAMED = 20


@dataclass(frozen=True)
class Result:
    """The outcome of one recording.

    Attributes:
        job: the recording and its files.
        status: done, skipped or failed.
        separated: the separation's figures; None if the recording failed or was skipped, or only its plot was drawn.
        warnings: one line each.
        error: why it failed, one line that names the recording.
        concerns_all: whether the other recordings would fail in the same way.
        error_class: one word for the class of the error (`failures.error_class`).
        elsewhere: whether it is skipped because another process is separating it.
        stamp: size and time of the recording's file before it was read (`ledger.stamp`).
        other_model: whether it is skipped although its sources are of another model.
    """

    job: Job
    status: str
    separated: SeparatedFile | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    concerns_all: bool = False
    error_class: str | None = None
    elsewhere: bool = False
    stamp: tuple[int, int] | None = None
    other_model: bool = False


def as_json(result: Result) -> str:
    """One line of JSON, see `as_fields`."""
    return json.dumps(as_fields(result))


def as_fields(result: Result) -> dict[str, Any]:
    """The figures of a recording, with the same keys for every outcome; unknown values are None."""
    from mossformer_jax.cli.download import without_password

    separated = result.separated
    timings = separated.timings if separated else None
    return {
        "status": result.status,
        "input": without_password(result.job.input),
        "outputs": [str(path) for path in result.job.outputs] if result.status != "failed" else [],
        "duration": separated.duration if separated else None,
        "sample_rate": separated.sample_rate if separated else None,
        "gain": separated.gain if separated else None,
        "subtype": separated.subtype if separated else None,
        "compile_seconds": timings.compile_seconds if timings else None,
        "run_seconds": timings.run_seconds if timings else None,
        "real_time_factor": timings.run_seconds / separated.duration if separated and timings else None,
        "boundaries": [finite(asdict(boundary)) for boundary in separated.boundaries] if separated else None,
        "warnings": list(result.warnings),
        "error": result.error,
        "error_class": result.error_class,
    }


def left_out_as_json(left_out: LeftOut) -> str:
    """One line of JSON, with the keys of `as_json`, for what is not separated; the status is unreadable or failed."""
    from mossformer_jax.cli.jobs import Job

    status = "unreadable" if left_out.is_file else "failed"
    return as_json(Result(Job(left_out.location, ()), status, error=" ".join(left_out.reason.split())))


def unreadable_files(files: Sequence[str]) -> str:
    """Counts and names files that look like recordings but cannot be read."""
    named = ", ".join(files[:_NUM_NAMED])
    more = f" and {len(files) - _NUM_NAMED} more" if len(files) > _NUM_NAMED else ""
    return (
        f"{len(files)} file{'s' if len(files) != 1 else ''} skipped, because the format cannot be read: {named}{more}"
    )


def summary(results: Sequence[Result], unreadable: Sequence[str] = ()) -> str:
    """One line about the whole run: seconds of audio, of compiling and of running, and files that were skipped."""
    done = [result.separated for result in results if result.separated is not None]
    finished, skipped, failed = (
        sum(result.status == status for result in results) for status in ("done", "skipped", "failed")
    )
    parts = []
    if done:
        duration = sum(separated.duration for separated in done)
        compiled = sum(separated.timings.compile_seconds for separated in done)
        run = sum(separated.timings.run_seconds for separated in done)
        subtypes = " and ".join(sorted({separated.subtype for separated in done}))
        rate = f" at {done[0].sample_rate} Hz" if len(results) == 1 else ""
        recordings = "" if len(results) == 1 else f"{_count(len(done))}, "
        parts.append(
            f"{recordings}{duration:.2f} s of audio{rate}: compiled in {compiled:.2f} s, run in {run:.2f} s "
            f"(real-time factor {run / duration:.3f}), written as {subtypes}"
        )
    if drawn := finished - len(done):
        parts.append(f"plots added for {_count(drawn)} with existing sources")
    if skipped:
        parts.append(f"{_count(skipped)} skipped because the files exist (--overwrite replaces them)")
    if failed:
        parts.append(f"{_count(failed)} failed")
    if unreadable:
        parts.append(unreadable_files([" ".join(name.split()) for name in unreadable]))
    return "; ".join(parts) or "0 recordings: this shard is empty"


def _count(number: int) -> str:
    return f"{number} recording{'s' if number != 1 else ''}"


def finite(fields: dict[str, Any]) -> dict[str, Any]:
    """Replaces infinity and NaN, which JSON does not have, by None."""
    return {
        key: None if isinstance(field, float) and not math.isfinite(field) else field for key, field in fields.items()
    }
