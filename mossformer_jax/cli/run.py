"""The order of a run: which recordings are separated, and which are tried again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence

from mossformer_jax.cli.claims import abandoned, claim_file
from mossformer_jax.cli.failures import CAN_PASS
from mossformer_jax.cli.jobs import Job
from mossformer_jax.cli.ledger import Ledger, verdict_on
from mossformer_jax.cli.results import Result
from mossformer_jax.cli.terminal import one_line, warn
from mossformer_jax.cli.workers import Workers

Plan = list[tuple[Job, Result | None]]
_LONGEST_PAUSE = 30.0  # seconds


def plan_run(jobs: Sequence[Job], ledger: Ledger | None, *, overwrite: bool) -> Plan:
    """The outcome of each recording that need not be separated, None for the others.

    Recordings with a claim file are among the others: the process that claimed them may have been killed.
    """
    claims = abandoned(jobs)
    return [
        (job, None if claim_file(job) in claims else verdict_on(job, ledger, overwrite=overwrite).result)
        for job in jobs
    ]


def run_jobs(plan: Plan, workers: Workers, retries: int = 0) -> Iterator[Result]:
    """Separates recordings in order, and at the end those again whose error can pass or that another process claimed.

    Args:
        plan: of `plan_run`.
        workers: separate the recordings.
        retries: further attempts at each.

    Yields:
        One outcome per recording, until one shows that the others would fail, too.
    """
    again: deque[tuple[Job, int, float]] = deque()
    seen: set[tuple[Job, int]] = set()
    under_way = 0

    def ended(limit: int) -> Iterator[Result]:
        """Waits until fewer than `limit` attempts are under way."""
        nonlocal under_way
        while under_way >= limit:
            job, number, result = workers.next()
            under_way -= 1
            if result.elsewhere and (job, number) not in seen:
                seen.add((job, number))
                again.append((job, number, 0.0))
            elif result.error_class in CAN_PASS and number <= retries:
                warn(one_line(f"{result.error}; attempt {number} of {retries + 1}, the next one follows later"))
                again.append((job, number + 1, time.monotonic() + min(2.0 ** (number - 1), _LONGEST_PAUSE)))
            else:
                yield result

    def outcomes() -> Iterator[Result]:
        nonlocal under_way
        for job, known in plan:
            if known is not None:
                yield known
                continue
            workers.submit(job, 1)
            under_way += 1
            yield from ended(workers.width)
        while again or under_way:
            if not again:
                yield from ended(1)
                continue
            job, number, earliest = again.popleft()
            time.sleep(max(0.0, earliest - time.monotonic()))
            workers.submit(job, number)
            under_way += 1
            yield from ended(workers.width)

    for result in outcomes():
        yield result
        if result.concerns_all:
            return
