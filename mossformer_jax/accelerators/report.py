"""Compiles a program and reports its memory, by the compiler's own analysis, and its time bounds per chip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jax.stages import Traced

from mossformer_jax.accelerators.chips import GIB, Chip, Target
from mossformer_jax.accelerators.products import product_flops
from mossformer_jax.accelerators.search import largest_batch
from mossformer_jax.accelerators.traffic import bytes_moved


class DoesNotFit(Exception):
    """The compiler rejected a program because it exceeds the chip's memory; the text gives the details."""


@dataclass(frozen=True)
class Report:
    """Cost of one compiled program per chip.

    Attributes:
        arguments: bytes of the arguments, which stay in memory during the run: parameters, moments, the batch.
        temporaries: bytes of temporary buffers.
        peak: peak memory in bytes, including the program's code.
        flops: FLOPs of the matrix products in one run.
        bytes: bytes moved to and from main memory in one run.
    """

    arguments: int
    temporaries: int
    peak: int
    flops: float
    bytes: float

    def roofline_seconds(self, chip: Chip) -> float:
        """Lower bound of the run time: that of the matrix products at peak FLOP/s, or that of the memory traffic."""
        return max(self.flops / chip.flops, self.bytes / chip.bandwidth)

    def lines(self, chip: Chip) -> list[str]:
        """The report as lines of text."""
        computing, moving = self.flops / chip.flops, self.bytes / chip.bandwidth
        bound = "by memory" if moving > computing else "by computation"
        return [
            f"memory per chip: arguments {_gib(self.arguments)}, temporaries {_gib(self.temporaries)}, "
            f"peak {_gib(self.peak)} of {_gib(chip.memory)}",
            f"work per chip: {self.flops / 1e9:,.0f} GFLOP of matrix products, {self.bytes / 1e9:,.1f} GB moved",
            f"roofline: {1e3 * max(computing, moving):.1f} ms, bound {bound} "
            f"(computation {1e3 * computing:.1f} ms, memory {1e3 * moving:.1f} ms)",
        ]


def compile_report(traced: Traced, target: Target) -> Report:
    """Compiles a traced program for its devices, which are those of the target.

    Raises:
        DoesNotFit: the program exceeds the chip's memory.
    """
    try:
        compiled = traced.lower().compile(target.chip.compiler_options)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        if "RESOURCE_EXHAUSTED" not in reason:
            raise
        raise DoesNotFit(reason.removeprefix("RESOURCE_EXHAUSTED: ")) from error
    memory = compiled.memory_analysis()
    # A donated argument (the state, which the step replaces) shares its memory with a result.
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes + results + memory.generated_code_size_in_bytes
    return Report(
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        peak=peak,
        flops=product_flops(traced.jaxpr) / target.num_chips,
        bytes=bytes_moved(compiled.as_text()),
    )


def print_report(
    program: Callable[[int], Traced],
    target: Target,
    batch: int,
    audio_seconds: float,
    unit: int = 1,
    search: bool = True,
) -> None:
    """Compiles a program for one batch size and prints its cost, then searches for the largest batch that fits.

    Args:
        program: traces the program for a number of mixtures per chip.
        target: the chips to compile for.
        batch: mixtures per chip, a multiple of `unit`.
        audio_seconds: length of a mixture.
        unit: the batch per chip is a multiple of this number.
        search: whether to search for the largest batch.
    """
    chip, reports, tried = target.chip, dict[int, Report](), dict[int, int | None]()

    def memory_of(units: int) -> float | None:
        number = units * unit
        if number in tried:
            return tried[number]
        tried[number] = None
        try:
            reports[number] = compile_report(program(number), target)
        except DoesNotFit as error:
            print(f"  {number} per chip: does not fit ({error})", flush=True)
            return None
        peak = tried[number] = reports[number].peak
        result = "fits" if peak <= chip.budget else f"does not fit in {_gib(chip.budget)}"
        print(f"  {number} per chip: {result}, peak {_gib(peak)}", flush=True)
        return peak

    memory_of(batch // unit)
    if batch in reports:
        report = reports[batch]
        print("\n".join(report.lines(chip)))
        speed = batch * audio_seconds / report.roofline_seconds(chip)
        print(f"at the roofline: {speed:,.0f} s of audio per second, real-time factor {1 / speed:.2g}", flush=True)
    if search:
        print(f"largest batch, within {_gib(chip.budget)} ({100 * chip.budget / chip.memory:.0f} % of the memory):")
        largest = unit * largest_batch(memory_of, chip.budget, batch // unit)
        total = f", {largest * target.num_chips} in total" if target.num_chips > 1 else ""
        print(f"{largest} mixtures per chip{total}" if largest else f"{unit} per chip does not fit")


def _gib(number: float) -> str:
    return f"{number / GIB:.2f} GiB"
