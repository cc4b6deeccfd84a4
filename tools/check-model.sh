#!/usr/bin/env bash
# Checks docs/models/vcpu-requests.pml with spin (Debian packages spin and gcc): all assertions and claims
# hold, there is no invalid end state, and each planted bug is found. Each configuration is a job in its own
# directory, as many at a time as there are processors. Prints its results; exits with 1 if a job failed.
set -euo pipefail
shopt -s inherit_errexit
model=$(cd "$(dirname "$0")/.." && pwd)/docs/models/vcpu-requests.pml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v spin >/dev/null || { echo "check-model: spin is not installed (Debian package spin)" >&2; exit 1; }

# All claims with two of the four other threads at a time; with more threads, the assertions only.
pairs=("-DTHREADS=3 -DCAP=3" "-DTHREADS=5" "-DTHREADS=6 -DCAP=1" "-DTHREADS=9" "-DTHREADS=12 -DCAP=1")
all=("-DTHREADS=7 -DROUNDS=1 -DCAP=1" "-DTHREADS=13 -DROUNDS=1 -DCAP=1")
claims=(no_lost_request no_lost_interrupt waiters_return pause_returns)

# generate BUG CONFIGURATION
generate() { spin -DBUG="$1" $2 -a "$model" >/dev/null; }
# search PAN-OPTIONS… : prints the number of errors that pan reports; fails if pan reports no result
search() { timeout 300 ./pan -m1000000 "$@" 2>&1 | sed -n 's/.*errors: \([0-9]*\).*/\1/p' | tail -n 1 | grep .; }
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

# job NAME EXPECTED COMMAND...: runs a command that prints a number of errors, in a directory of its own
job() {
  local name=$1 expected=$2 errors
  shift 2
  mkdir "$work/$name"
  cd "$work/$name"
  errors=$("$@")
  case $expected$errors in
    none0 | some[1-9]*) echo "ok   $name" ;;
    *) echo "FAIL $name: $errors errors, expected $expected"; exit 1 ;;
  esac
}
# both CONFIGURATION: the errors of assertions and claims without a planted bug
both() {
  generate 0 "$1"
  echo $(($(assertions) + $(claims)))
}
safe() { generate 0 "$1"; assertions; }
# planted BUG: the errors of the first pair that has any
planted() {
  local pair n=0
  for pair in "${pairs[@]}"; do
    generate "$1" "$pair"
    n=$(assertions)
    [ "$n" != 0 ] || n=$(claims)
    [ "$n" = 0 ] || break
  done
  echo "$n"
}

failed=0 started=0
# start NAME EXPECTED COMMAND...: a job in the background, after another one has ended if all processors work
start() {
  ((started < $(nproc))) || { wait -n || failed=1; started=$((started - 1)); }
  job "$@" &
  started=$((started + 1))
}
for pair in "${pairs[@]}"; do start "pair${pair// /}" none both "$pair"; done
for threads in "${all[@]}"; do start "all${threads// /}" none safe "$threads"; done
for bug in 1 2 3 4 5; do start "planted-bug-$bug" some planted "$bug"; done
while ((started-- > 0)); do wait -n || failed=1; done
((failed == 0)) || { echo "check-model: the protocol has an error, or a planted bug was not found" >&2; exit 1; }
echo "all jobs passed: no lost request, interrupt or wake-up, WAIT and pause return only with the vCPU outside"
