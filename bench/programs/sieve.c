// Eratosthenes' sieve below 2^20: byte stores with growing strides.
#include "bench.h"
#include <string.h>

enum { LIMIT = 1 << 20 };
static uint8_t composite[LIMIT];

static uint64_t sieve(uint64_t n) {
  uint64_t sum = 0;
  while (n--) {
    memset(composite, 0, LIMIT);
    uint32_t primes = 0;
    for (uint32_t i = 2; i < LIMIT; i++) {
      if (composite[i]) continue;
      primes++;
      for (uint64_t j = (uint64_t)i * i; j < LIMIT; j += i) composite[j] = 1;
    }
    sum = mix(sum, primes);
  }
  return sum;
}
PROGRAM("sieve", sieve)
