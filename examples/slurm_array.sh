#!/bin/bash
# Separates a manifest with 20 SLURM tasks, one share each:
#
#   sbatch examples/slurm_array.sh calls.csv /data/separated
#
# Submit it again after failures: what is done is skipped. At the end: mossformer-jax report OUT/report-*.jsonl
#SBATCH --job-name=separate
#SBATCH --array=1-20
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=12:00:00
#SBATCH --requeue
set -eu
manifest=$1
out=$2
mkdir -p "$out"
# Each task has its own report, because locks do not work on every network file system.
exec mossformer-jax separate --manifest "$manifest" -o "$out" --quiet --shard auto --retries 2 \
  --jobs "${SLURM_CPUS_PER_TASK:-1}" --report "$out/report-${SLURM_ARRAY_TASK_ID:-0}.jsonl"
