"""Measures the speed of the network on a GPU, compared with the official PyTorch code on the same GPU.

    python -m benchmarks.gpu                    the 55.7M model: forward passes and training steps
    python -m benchmarks.gpu --model default    the shipped model of 1.6M parameters, ours only
    python -m benchmarks.gpu --tiny             two narrow blocks and short signals, for testing this script

Random weights; the input is noise that is already on the GPU. Each way (implementation and precision) runs in a
separate process, one at a time. A figure is the median of at least ten synchronised calls after two warm-up calls. Each
result is written at once to OUT/bench.json and OUT/bench.md (OUT is an environment variable; default: /tmp/out). Each
way has a time limit, and the most important ways run first. Memory is the peak of a program: for ours, arguments,
results and temporaries as reported by the compiler; for PyTorch, as reported by its allocator.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

OUT = Path(os.environ.get("OUT", "/tmp/out"))
# Time limit of each way in seconds, in the order in which they run.
WAYS = {
    "ours, TF32": 110,
    "PyTorch, TF32": 45,
    "ours, bfloat16": 105,
    "PyTorch, bfloat16": 45,
    "ours, float32": 85,
    "PyTorch, float32": 45,
    "PyTorch compiled, TF32": 200,
    "PyTorch compiled, bfloat16": 200,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("full", "default"), default="full")
    parser.add_argument("--ways", nargs="+", choices=WAYS, help="default: all of the model")
    parser.add_argument("--seconds", type=float, default=530.0, help="total time limit (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="two narrow blocks and short signals, for a test")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        from benchmarks import gpu_programs

        (gpu_programs.ours if options.measure.startswith("ours") else gpu_programs.pytorch)(options)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    began = time.monotonic()
    records: list[dict] = []
    small = options.model == "default"
    ways = options.ways or [way for way in WAYS if not small or way.startswith("ours")]
    OUT.mkdir(parents=True, exist_ok=True)
    name = "bench" + ("_default" if small else "")
    for way in ways:
        left = options.seconds - (time.monotonic() - began)
        # With --tiny, only the total is limited: the figures do not matter.
        budget = left if options.tiny else min(WAYS[way] * (1.5 if small else 1.0), left)
        if budget < 15:
            print(f"{way}: no time left", flush=True)
            continue
        command = [
            sys.executable,
            "-m",
            "benchmarks.gpu",
            "--model",
            options.model,
            "--measure",
            way,
            "--seconds",
            str(budget),
        ]
        environment = {**os.environ, "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}
        child = subprocess.Popen(
            command + ["--tiny"] * options.tiny, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
        errors: list[str] = []
        reading = threading.Thread(target=errors.extend, args=(child.stderr,), daemon=True)
        reading.start()
        deadline = threading.Timer(budget + 10, child.kill)
        deadline.start()
        for line in child.stdout:
            if line.startswith("@"):
                record = {"way": way, **json.loads(line[1:])}
                records.append(record)
                print(describe(record), flush=True)
                (OUT / f"{name}.json").write_text(json.dumps(records, indent=1) + "\n")
                (OUT / f"{name}.md").write_text(table(records))
        status = child.wait()
        deadline.cancel()
        reading.join(5)
        late = [line for line in errors if "still being compiled" in line]
        if status or late:
            print(f"{way}: status {status}\n" + "".join(late or errors)[-1500:], flush=True)
    print("\n" + table(records), flush=True)


def describe(record: dict) -> str:
    what = (
        f"{record['way']}: {record['what']}, batch {record['batch']}, {record['seconds']:g} s{record.get('note', '')}: "
    )
    if "failed" in record:
        return what + record["failed"]
    return what + f"{record['ms']:.2f} ms, {record['gb']:.2f} GB, prepared in {record['prepare']:.1f} s"


def table(records: list[dict]) -> str:
    """One row per program, one column per way: milliseconds, GB, and the speed relative to PyTorch in TF32."""
    ways = list(dict.fromkeys(record["way"] for record in records))
    programs = dict.fromkeys((r["what"], r["batch"], r["seconds"], r.get("note", "")) for r in records)
    cells = {(r["way"], r["what"], r["batch"], r["seconds"], r.get("note", "")): r for r in records}
    lines = ["| ms (GB) | " + " | ".join(ways) + " |", "|---" * (len(ways) + 1) + "|"]
    for program in sorted(programs):
        what, batch, seconds, note = program
        row = []
        base = cells.get(("PyTorch, TF32", what, batch, seconds, ""), {}).get("ms")
        for way in ways:
            record = cells.get((way, *program))
            if record is None:
                row.append("")
            elif "failed" in record:
                row.append(record["failed"][:40])
            else:
                speed = f", {base / record['ms']:.2f}x" if base and not way.startswith("PyTorch, TF32") else ""
                row.append(f"{record['ms']:.1f} ({record['gb']:.1f}{speed})")
        lines.append(f"| {what}, {batch} x {seconds:g} s{note} | " + " | ".join(row) + " |")
    machine = records[0].get("machine", "") if records else ""
    return "\n".join(lines) + f"\n\nx: speed relative to PyTorch in TF32. {machine}\n"


if __name__ == "__main__":
    main()
