"""Shares of a long list of recordings, one per process of a cluster (`--shard`)."""

from __future__ import annotations

import argparse
import hashlib
import heapq
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mossformer_jax.cli.inputs import LeftOut
    from mossformer_jax.cli.jobs import Job

AUTO = "auto"
_HOW = "write K/N with K from 1 to N, such as 3/20, or auto"


@dataclass(frozen=True)
class Shard:
    """Share `index` (from 1) of `count`."""

    index: int
    count: int


def shard(text: str) -> Shard | str:
    """Reads `--shard`: K/N or auto."""
    if text == AUTO:
        return AUTO
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a shard; {_HOW}")
    return Shard(int(match[1]), int(match[2]))


def shard_of_cluster(environment: Mapping[str, str] = os.environ) -> Shard:
    """The share of this process: by SLURM's array and step, else by the processes that JAX detects.

    Raises:
        ValueError: there is neither, or SLURM's variables are not numbers.
    """
    array = _numbers(environment, "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")
    step = _numbers(environment, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
    if array is not None:
        task, tasks = array
        # An array may be 5-20 or 0-90:10.
        first, stride = (
            _number(environment, f"SLURM_ARRAY_TASK_{name}", default) for name, default in (("MIN", 0), ("STEP", 1))
        )
        place, rest = divmod(task - first, max(stride, 1))
        if rest or not 0 <= place < tasks:
            raise ValueError(
                f"--shard auto: SLURM_ARRAY_TASK_ID={task} is not one of {tasks} tasks from {first} in steps of "
                f"{stride}, as in an array with gaps; give --shard K/N"
            )
        rank, ranks = step or (0, 1)
        return Shard(place * ranks + rank + 1, tasks * ranks)
    if step is not None:
        return Shard(step[0] + 1, step[1])
    return _shard_of_jax()


def shares(jobs: Sequence[Job], count: int) -> list[int]:
    """The share of each job, from 1 to `count`.

    A recording belongs to the share given by a hash of its name, whatever the order and the rest of the list. If all
    recordings have a duration, the shares have about the same total duration instead: the longest recordings come
    first, each in the share that is shortest so far.

    Args:
        jobs: those of all shares, in any order, but the same in every process.
        count: number of shares.
    """
    durations = [job.duration for job in jobs]
    if None in durations:
        return [_share(job.name, count) for job in jobs]
    known = [duration or 0.0 for duration in durations]
    chosen = [0] * len(jobs)
    totals = [(0.0, share) for share in range(1, count + 1)]
    for number in sorted(range(len(jobs)), key=lambda number: (-known[number], jobs[number].name)):
        total, chosen[number] = totals[0]
        heapq.heapreplace(totals, (total + known[number], chosen[number]))
    return chosen


def select(jobs: Sequence[Job], shard: Shard) -> list[Job]:
    """The jobs of a share, in their order."""
    return [job for job, share in zip(jobs, shares(jobs, shard.count), strict=True) if share == shard.index]


def in_shard(left_out: Sequence[LeftOut], shard: Shard) -> list[LeftOut]:
    """What a share reports of the files that cannot be read, so that each is reported once."""
    return [each for each in left_out if not each.is_file or _share(each.location, shard.count) == shard.index]


def _share(name: str, count: int) -> int:
    # Python's own hash differs from process to process.
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count + 1


def _numbers(environment: Mapping[str, str], index: str, count: str) -> tuple[int, int] | None:
    if index not in environment or count not in environment:
        return None
    return _number(environment, index, 0), _number(environment, count, 1)


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"--shard auto: {name}={text!r} is not a whole number; give --shard K/N")
    return int(text)


def _shard_of_jax() -> Shard:
    import jax

    from mossformer_jax.sharding import connect, is_one_of_several

    if not is_one_of_several() and not jax.distributed.is_initialized():
        raise ValueError(f"--shard auto: found neither a SLURM array or step nor a cluster of JAX; {_HOW}")
    if not jax.distributed.is_initialized():
        connect()
    return Shard(jax.process_index() + 1, jax.process_count())
