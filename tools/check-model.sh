#!/usr/bin/env bash
# Checks docs/models/vcpu-requests.pml with spin (Debian packages spin and gcc): all assertions and claims hold, no
# invalid end state; and each planted bug is found. Prints what it did; exits non-zero on the first surprise.
set -euo pipefail
model=$(cd "$(dirname "$0")/.." && pwd)/docs/models/vcpu-requests.pml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
command -v spin >/dev/null || { echo "check-model: spin is not installed (Debian package spin)" >&2; exit 1; }

# build BUG: makes ./pan-safety (assertions; a sleeping vCPU is a valid end) and ./pan (claims, weak fairness)
build() {
  spin -DBUG="$1" -a "$model" >/dev/null
  gcc -O2 -DNFAIR=6 -DVECTORSZ=2048 -o pan pan.c
  gcc -O2 -DSAFETY -DNOCLAIM -o pan-safety pan.c
}
# verdict COMMAND…: prints the number of errors that pan reports
verdict() { "$@" 2>&1 | sed -n 's/.*errors: \([0-9]*\).*/\1/p' | tail -n 1; }

check() {
  local bug=$1 errors=0 n claim
  build "$bug"
  n=$(verdict ./pan-safety -E -m1000000)
  errors=$((errors + n))
  for claim in no_lost_request waiters_return pause_returns; do
    n=$(verdict ./pan -a -f -m1000000 -N "$claim")
    errors=$((errors + n))
  done
  echo "$errors"
}

passed=0
errors=$(check 0)
if [ "$errors" != 0 ]; then echo "check-model: the protocol has $errors errors" >&2; exit 1; fi
echo "ok   the protocol: no lost request, no lost wake-up, WAIT and pause return only with the vCPU outside"
passed=$((passed + 1))
for bug in 1 2 3 4; do
  errors=$(check "$bug")
  if [ "$errors" = 0 ]; then echo "check-model: planted bug $bug was not found" >&2; exit 1; fi
  echo "ok   planted bug $bug is found"
  passed=$((passed + 1))
done
echo "$passed passed, 0 failed"
