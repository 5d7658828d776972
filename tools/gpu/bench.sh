#!/usr/bin/env bash
# Measures the speed on the GPU. In the project's root:  bash .gpu/kit/bench.sh [full|default] [SECONDS] [OPTIONS]
# full (530 s): the 55.7M model and the official PyTorch code; default (240 s): the shipped model only.
# OPTIONS (or the variable BENCH_FLAGS) are passed to benchmarks/gpu.py, for example --tiny.
set -uo pipefail
kit="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$kit/setup.sh" || exit 1
model="${1:-full}"
if [ "$model" = default ]; then seconds="${2:-240}"; else seconds="${2:-530}"; fi
nvidia-smi --query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.draw --format=csv 2>/dev/null
"$PYTHON" -m benchmarks.gpu --model "$model" --seconds "$seconds" ${BENCH_FLAGS:-} "${@:3}"
