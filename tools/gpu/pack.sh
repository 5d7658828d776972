#!/usr/bin/env bash
# Packs what a machine with a GPU but without a network needs into .gpu/: these scripts (kit/), Python packages (wheels/),
# and the data in three parts (data/part1 to part3). Run in the project's root, after `make setup`:
#     PREPARED=/data bash tools/gpu/pack.sh [OUTPUT]
# PREPARED is a folder as prepared by the commands in configs/default_8k.py: speech.csv, noise.csv, rooms/, heldout/.
# WHEELS=no or DATA=no skips one of them. PYTHON is a Python with the project's dependencies. SPEECH_COMPRESSION is from 0
# (best) to 1 (smallest).
set -euo pipefail
kit="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
[ -f train.py ] && [ -d mossformer_jax ] || { echo "pack.sh: run this in the project's root" >&2; exit 2; }
output="${1:-.gpu}"
python="${PYTHON:-.venv/bin/python}"
limit_mib=62

mkdir -p "$output/kit"
cp "$kit"/*.sh "$kit"/*.py "$output/kit/"

if [ "${WHEELS:-yes}" = yes ]; then
  mkdir -p "$output/wheels"
  rm -f "$output"/wheels/*.whl
  platforms=()
  for n in 2_35 2_34 2_31 2_28 2_27 2_24 2_17; do platforms+=(--platform "manylinux_${n}_x86_64"); done
  # For Python 3.12 on x86-64, whatever this machine is.
  "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    "${platforms[@]}" --platform manylinux2014_x86_64 --platform manylinux1_x86_64 -d "$output/wheels" \
    jaxtyping==0.3.11 wadler-lindig==0.1.8 beartype==0.23.1 soundfile==0.14.0 cffi==2.1.1 pycparser==3.12 soxr==1.1.0 platformdirs==4.14.7 \
    ml-collections==1.1.0 grain==0.2.18 array-record==0.8.6 portpicker==1.6.0 tensorboardx==2.6.5 \
    mir-eval==0.8.2 decorator==5.3.1 pystoi==0.4.1 \
    clearvoice==0.1.2 rotary-embedding-torch==0.9.1 torchinfo==1.8.0
fi

if [ "${DATA:-yes}" = yes ]; then
  rm -rf "$output/data"
  "$python" "$kit/pack_data.py" "${PREPARED:?set PREPARED to the folder with speech.csv}" "$output/data" \
    --compression "${SPEECH_COMPRESSION:-0.3}"
fi

bytes() { { du -cb "$@" 2>/dev/null || true; } | awk 'END {print $1}'; }
mib() { awk -v bytes="$1" 'BEGIN {printf "%.1f", bytes / 2^20}'; }
project=$(git ls-files -z --cached --others --exclude-standard | xargs -0 du -cb 2>/dev/null | awk '$2 == "total" {n += $1} END {print n + 0}')
shared=$((project + $(bytes "$output/kit" "$output/wheels")))
echo "project $(mib "$project") MiB; with the scripts and the wheels $(mib "$shared") MiB"
status=0
for part in "$output"/data/part*; do
  [ -d "$part" ] || continue
  total=$((shared + $(bytes "$part")))
  echo "with $(basename "$part") $(mib "$total") MiB"
  if [ "$total" -gt $((limit_mib * 2**20)) ]; then
    echo "pack.sh: $(basename "$part") with the project is above $limit_mib MiB; use SPEECH_COMPRESSION=0.4" >&2
    status=1
  fi
done
exit $status
