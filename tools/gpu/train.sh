#!/usr/bin/env bash
# Trains for SECONDS, including the preparation. In the project's root:  bash .gpu/kit/train.sh SECONDS
# Options are environment variables, listed in train_gpu.py (BATCH, CROP, LR, START, DTYPE, OVERRIDES and others).
set -uo pipefail
seconds="${1:?usage: train.sh SECONDS}"
began=$(date +%s)
kit="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$kit/setup.sh" || exit 1
left=$((seconds - ($(date +%s) - began)))
# Weights and log are written at every validation, so OUT is complete at any time.
export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.9}"
timeout --signal=TERM $((left + 15)) "$PYTHON" "$kit/train_gpu.py" "$left"
