#!/usr/bin/env bash
# Trains for SECONDS, including the preparation. In the project's root:  bash .gpu/kit/train.sh SECONDS [OVERRIDES]
# OVERRIDES are those of `mossformer-jax train`, such as --config.data.batch_size=128; they come after the defaults below.
# CONFIG (default_8k) is the config, DECAY (0.6) the last fraction of the time, over which the learning rate falls to zero.
# WORK (/tmp/run) is the run's folder; the same folder continues its training. Results are copied to OUT.
set -uo pipefail
seconds="${1:?usage: train.sh SECONDS [OVERRIDES]}"
began=$(date +%s)
kit="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$kit/setup.sh" || exit 1
work="${WORK:-/tmp/run}"
left=$((seconds - ($(date +%s) - began)))
config="${CONFIG:-default_8k}"
# Its other codecs run on the host only; other configs have no channel.
codecs=()
[ "$config" = default_8k ] && codecs=(--config.data.train.channel.codecs=telephone,mu-law)
export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.9}"
timeout --signal=TERM $((left + 15)) "$PYTHON" "$kit/train_gpu.py" "$left" "$work" --config "$config" \
  --config.data.root="$DATA" --config.data.on_device=true --config.data.batch_size=64 --config.data.seconds=4 \
  "${codecs[@]}" --config.train.initial_weights=default --config.train.lr=1.5e-3 --config.train.warmup_steps=200 \
  --config.train.decay_steps=0 --config.train.steps=100000000 \
  --config.train.validate_every=1000 --config.train.validation_batch_size=36 --config.train.num_examples=0 "${@:2}"
status=$?
mkdir -p "$OUT"
for name in last best log.txt metrics.jsonl; do
  [ -e "$work/$name" ] && rm -rf "${OUT:?}/$name" && cp -r "$work/$name" "$OUT/"
done
exit $status
