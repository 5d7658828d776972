"""What a program takes of a chip: compiled, measured by the compiler's own account, and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jax.stages import Traced

from mossformer_jax.accelerators.chips import GIB, Chip, Target
from mossformer_jax.accelerators.products import product_flops
from mossformer_jax.accelerators.search import largest_batch
from mossformer_jax.accelerators.traffic import bytes_moved


class DoesNotFit(Exception):
    """The compiler has refused a program since the chip's memory is too small; the text says by how much."""


@dataclass(frozen=True)
class Report:
    """One compiled program, a chip.

    Attributes:
        arguments: bytes of what it is given, and keeps through the run: parameters, moments, the batch.
        temporaries: bytes of what it needs besides.
        peak: bytes that it takes at most, its code included.
        flops: operations of its matrix products in one run.
        bytes: what it moves to and from main memory in one run.
    """

    arguments: int
    temporaries: int
    peak: int
    flops: float
    bytes: float

    def roofline_seconds(self, chip: Chip) -> float:
        """The time that no run can be below: that of the products at the chip's peak, or of the bytes."""
        return max(self.flops / chip.flops, self.bytes / chip.bandwidth)

    def lines(self, chip: Chip) -> list[str]:
        """The report, as text."""
        computing, moving = self.flops / chip.flops, self.bytes / chip.bandwidth
        bound = "by memory" if moving > computing else "by computation"
        return [
            f"memory a chip: arguments {_gib(self.arguments)}, temporaries {_gib(self.temporaries)}, "
            f"peak {_gib(self.peak)} of {_gib(chip.memory)}",
            f"work a chip: {self.flops / 1e9:,.0f} GFLOP of matrix products, {self.bytes / 1e9:,.1f} GB moved",
            f"roofline: {1e3 * max(computing, moving):.1f} ms, bound {bound} "
            f"(computation {1e3 * computing:.1f} ms, memory {1e3 * moving:.1f} ms)",
        ]


def compile_report(traced: Traced, target: Target) -> Report:
    """Compiles a traced program for its devices, of the target.

    Raises:
        DoesNotFit: the compiler says that the chip's memory is too small.
    """
    try:
        compiled = traced.lower().compile(target.chip.compiler_options)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        if "RESOURCE_EXHAUSTED" not in reason:
            raise
        raise DoesNotFit(reason.removeprefix("RESOURCE_EXHAUSTED: ")) from error
    memory = compiled.memory_analysis()
    # What is given away (a state that the step replaces) is argument and result in one place.
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
    """Compiles a program at one batch and tells what it takes, then looks for the largest batch a chip that fits.

    Args:
        program: the program by the number of mixtures a chip.
        target: what it is compiled for.
        batch: mixtures a chip, a multiple of `unit`.
        audio_seconds: length of a mixture.
        unit: what a chip's batch is a multiple of.
        search: whether to look.
    """
    chip, reports, tried = target.chip, dict[int, Report](), dict[int, int | None]()

    def memory_of(units: int) -> float | None:
        number = units * unit
        if number in tried:
            return tried[number]
        tried[number] = None
        try:
            reports[number] = compile_report(program(number), target)
        except DoesNotFit as refusal:
            print(f"  {number} a chip: does not fit ({refusal})", flush=True)
            return None
        peak = tried[number] = reports[number].peak
        verdict = "fits" if peak <= chip.budget else f"does not fit into {_gib(chip.budget)}"
        print(f"  {number} a chip: {verdict}, peak {_gib(peak)}", flush=True)
        return peak

    memory_of(batch // unit)
    if batch in reports:
        report = reports[batch]
        print("\n".join(report.lines(chip)))
        speed = batch * audio_seconds / report.roofline_seconds(chip)
        print(f"at the roofline: {speed:,.0f} s of audio a second, real-time factor {1 / speed:.2g}", flush=True)
    if search:
        print(f"largest batch, within {_gib(chip.budget)} ({100 * chip.budget / chip.memory:.0f} % of the memory):")
        largest = unit * largest_batch(memory_of, chip.budget, batch // unit)
        total = f", {largest * target.num_chips} in all" if target.num_chips > 1 else ""
        print(f"{largest} mixtures a chip{total}" if largest else f"not even {unit} a chip fits")


def _gib(number: float) -> str:
    return f"{number / GIB:.2f} GiB"
