#!/usr/bin/env bash
# All tests: tools/test.sh PYTHON [OPTION OF PYTEST ...]
# Three runs. Files marked `minutes` wait more than they compute: they run beside the others, and tell at the end how
# it went. tests/kube measures times of a hundred milliseconds: it comes last, when nothing else computes.
set -u
python=$1
shift
status=0

# run OPTION ...: a part of the tests; one in which no test was asked for has not failed
run() {
  "$python" -m pytest "$@"
  local code=$?
  [ $code -eq 5 ] && code=0
  return $code
}

log=$(mktemp)
run -m minutes "$@" >"$log" 2>&1 &
minutes=$!
trap 'pkill -INT -P $minutes; wait $minutes; rm -f "$log"' EXIT
trap 'exit 130' INT TERM
run -n 2 --dist loadfile -m "not minutes" --ignore tests/kube "$@" || status=1
run -n 2 --dist loadfile tests/kube "$@" || status=1
wait $minutes || status=1
cat "$log"
exit $status
