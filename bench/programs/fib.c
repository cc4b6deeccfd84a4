// Recursion: calls, returns, the stack.
#include "bench.h"

__attribute__((noinline)) static uint64_t fibonacci(uint64_t n) {
  return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t fib(uint64_t n) {
  uint64_t sum = 0;
  while (n--) sum = mix(sum, fibonacci(27));
  return sum;
}
PROGRAM("fib", fib)
