#!/usr/bin/env bash
# Checks docs/models/vcpu-requests.pml with spin (Debian packages spin and gcc): all assertions and claims
# hold, there is no invalid end state, and each planted bug is found. Prints its results; exits with 1 on the
# first failure.
set -euo pipefail
model=$(cd "$(dirname "$0")/.." && pwd)/docs/models/vcpu-requests.pml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
command -v spin >/dev/null || { echo "check-model: spin is not installed (Debian package spin)" >&2; exit 1; }

# All claims with two of the four other threads at a time; with more threads, the assertions only.
pairs=("-DTHREADS=3 -DCAP=3" "-DTHREADS=5" "-DTHREADS=6 -DCAP=1" "-DTHREADS=9" "-DTHREADS=12 -DCAP=1")
all=("-DTHREADS=7 -DROUNDS=1 -DCAP=1" "-DTHREADS=13 -DROUNDS=1 -DCAP=1")
claims=(no_lost_request no_lost_interrupt waiters_return pause_returns)

# generate BUG CONFIGURATION
generate() { spin -DBUG="$1" $2 -a "$model" >/dev/null; }
# search PAN-OPTIONS… : prints the number of errors that pan reports, or 1 if pan reports no result
search() { timeout 300 ./pan -m1000000 "$@" 2>&1 | sed -n 's/.*errors: \([0-9]*\).*/\1/p' | tail -n 1 | grep . || echo 1; }
assertions() {
  gcc -O2 -DSAFETY -DNOCLAIM -DCOLLAPSE -o pan pan.c
  search -E
}
claims() {
  local errors=0 claim
  gcc -O2 -DNFAIR=6 -DVECTORSZ=2048 -DCOLLAPSE -o pan pan.c
  for claim in "${claims[@]}"; do errors=$((errors + $(search -a -f -N "$claim"))); done
  echo "$errors"
}

# errors BUG: the errors of the first pair that has any
errors() {
  local pair n=0
  for pair in "${pairs[@]}"; do
    generate "$1" "$pair"
    n=$(assertions)
    [ "$n" != 0 ] || n=$(claims)
    [ "$n" = 0 ] || break
  done
  echo "$n"
}

[ "$(errors 0)" = 0 ] || { echo "check-model: the protocol has an error" >&2; exit 1; }
for threads in "${all[@]}"; do
  generate 0 "$threads"
  [ "$(assertions)" = 0 ] || { echo "check-model: the protocol has an error with $threads" >&2; exit 1; }
done
echo "ok   the protocol: no lost request, interrupt or wake-up, WAIT and pause return only with the vCPU outside"
passed=1
for bug in 1 2 3 4 5; do
  [ "$(errors "$bug")" != 0 ] || { echo "check-model: planted bug $bug was not found" >&2; exit 1; }
  echo "ok   planted bug $bug is found"
  passed=$((passed + 1))
done
echo "$passed passed, 0 failed"
