# Prepares a machine with a GPU; the other scripts source it in the project's root. It assumes Python 3.12 with jax 0.11
# for CUDA 13, flax, optax, orbax-checkpoint, torch for CUDA, einops, scipy, matplotlib, rich, safetensors and pytest-xdist.
# Installs the packed wheels into SITE (/tmp/site), unpacks the data into DATA (/tmp/data), and prints the versions. Steps
# that were done before are skipped. PYTHON is the Python to use.
_packed="$(dirname "$kit")"
export PYTHON="${PYTHON:-python3}" SITE="${SITE:-/tmp/site}"
export PYTHONPATH="$SITE:$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export OUT="${OUT:-/tmp/out}" DATA="${DATA:-/tmp/data}"
# Later commands on the same machine reuse compiled programs.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-/tmp/jax-cache}"
mkdir -p "$OUT" "$DATA"
if compgen -G "$_packed/wheels/*.whl" > /dev/null; then
  _wheels="$(ls "$_packed/wheels" | sha1sum)"
  if [ "$(cat "$SITE/.ready" 2>/dev/null)" != "$_wheels" ]; then
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$SITE" \
      "$_packed"/wheels/*.whl && echo "$_wheels" > "$SITE/.ready" \
      || { echo "setup.sh: cannot install the wheels in $_packed/wheels" >&2; return 1 2>/dev/null || exit 1; }
  fi
  # Some tests start processes with their own PYTHONPATH, which find the packages through a .pth file.
  "$PYTHON" - <<'PY' 2>/dev/null || true
import os, pathlib, sysconfig
pathlib.Path(sysconfig.get_path("purelib"), "mossformer_kit.pth").write_text(os.environ["SITE"] + "\n")
PY
fi
if [ -d "$_packed/data" ]; then
  "$PYTHON" "$kit/unpack_data.py" "$_packed/data" "$DATA" \
    || { echo "setup.sh: cannot unpack the data in $_packed/data" >&2; return 1 2>/dev/null || exit 1; }
fi
nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv 2>/dev/null || echo "no nvidia-smi"
"$PYTHON" - <<'PY'
import importlib.metadata as metadata, os, platform
names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "torch", "soundfile", "einops")
versions = {}
for name in names:
    try:
        versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        versions[name] = "missing"
listed = ", ".join(f"{name} {version}" for name, version in versions.items())
print(f"Python {platform.python_version()}, {os.cpu_count()} processors, {listed}")
import jax
print("jax.devices():", jax.devices())
PY
