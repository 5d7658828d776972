#!/usr/bin/env bash
# Checks that the GPU computes correct results. In the project's root:  bash .gpu/kit/check.sh
# First the errors against the CPU and the official code (OUT/check.json), then the tests of the network, separation and
# training on the GPU (OUT/tests.xml, OUT/tests.log): up to TEST_SECONDS (240) in TEST_WORKERS (8) processes. TESTS selects
# other tests; TESTS=no skips them. CHECK_FLAGS=--small compares a small network with the official code.
set -uo pipefail
kit="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$kit/setup.sh" || exit 1
export XLA_PYTHON_CLIENT_PREALLOCATE=false
timeout --signal=INT --kill-after=10 270 "$PYTHON" "$kit/check_gpu.py" ${CHECK_FLAGS:-}
status=$?
echo "check_gpu.py: status $status"
[ "${TESTS:-}" = no ] && exit $status
# The tests keep their compiled programs in their own folder.
env -u JAX_COMPILATION_CACHE_DIR timeout --signal=INT --kill-after=15 "${TEST_SECONDS:-240}" \
  "$PYTHON" -m pytest ${TESTS:-tests/model tests/separation tests/training} -p no:cacheprovider -q --maxfail=20 \
  -n "${TEST_WORKERS:-8}" --dist loadfile --junitxml="$OUT/tests.xml" > "$OUT/tests.log" 2>&1
tests=$?
echo "pytest: status $tests"
grep -E '^(FAILED|ERROR)|passed|failed|no tests' "$OUT/tests.log" | tail -30
exit $((status ? status : tests))
