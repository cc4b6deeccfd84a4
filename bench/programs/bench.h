// The common part of the bench's programs: each registers one kernel under a name; main.c times it. A kernel
// does its work `n` times and returns a checksum, which must be the same on every machine: fixed-width
// integers, doubles without contraction, no libm but sqrt.
#pragma once
#include <stdint.h>

struct program {
  const char *name;
  uint64_t (*kernel)(uint64_t n);
  struct program *next;
};

void add_program(struct program *program);

#define PROGRAM(title, function)                                             \
  static struct program program_##function = {title, function, 0};           \
  __attribute__((constructor)) static void add_##function(void) {            \
    add_program(&program_##function);                                        \
  }

/** Ends the program with the name of what failed and errno's message. */
_Noreturn void fail(const char *what);

/** xorshift64: the same sequence everywhere. */
static inline uint64_t next_random(uint64_t *state) {
  uint64_t x = *state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return *state = x;
}

/** Mixes a value into a checksum (64-bit FNV-1a of its whole word). */
static inline uint64_t mix(uint64_t sum, uint64_t value) {
  return (sum ^ value) * 0x100000001b3u;
}

static inline uint64_t mix_double(uint64_t sum, double value) {
  uint64_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return mix(sum, bits);
}
