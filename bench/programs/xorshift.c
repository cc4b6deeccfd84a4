// Registers only: shifts and exclusive ors in a chain of dependences.
#include "bench.h"

static uint64_t xorshift(uint64_t n) {
  uint64_t state = 88172645463325252u;
  for (uint64_t i = 0; i < n * 1000000; i++) next_random(&state);
  return state;
}
PROGRAM("xorshift", xorshift)
