// A hash table with chains, filled, searched and emptied; and a walk along a random cycle through 8 MiB:
// dependent loads over more pages than any TLB holds.
#include "bench.h"
#include <stdlib.h>

enum { BUCKETS = 1 << 14, KEYS = 1 << 15 };

struct entry {
  struct entry *next;
  uint64_t key, value;
};

static struct entry *buckets[BUCKETS];

static struct entry **find(uint64_t key) {
  struct entry **at = &buckets[(key * 0x9e3779b97f4a7c15u) >> 50];
  while (*at && (*at)->key != key) at = &(*at)->next;
  return at;
}

static uint64_t hash_table(uint64_t n) {
  uint64_t sum = 0;
  while (n--) {
    uint64_t seed = 11;
    for (uint32_t i = 0; i < KEYS; i++) {
      uint64_t key = next_random(&seed) % (4 * KEYS);
      struct entry **at = find(key);
      if (*at) {
        (*at)->value += i;
        continue;
      }
      struct entry *entry = malloc(sizeof *entry);
      if (!entry) fail("malloc");
      *entry = (struct entry){0, key, i};
      *at = entry;
    }
    for (uint32_t i = 0; i < 4 * KEYS; i++) {
      struct entry *found = *find(i);
      if (found) sum = mix(sum, found->value);
    }
    for (uint32_t i = 0; i < 4 * KEYS; i++) {
      struct entry **at = find(i), *gone = *at;
      if (!gone) continue;
      *at = gone->next;
      free(gone);
    }
  }
  return sum;
}
PROGRAM("hash", hash_table)

enum { CELLS = 1 << 17 };
/** One for each cache line. */
static struct cell {
  struct cell *next;
  uint64_t number, pad[6];
} cells[CELLS];
static uint32_t order[CELLS];

static uint64_t chase(uint64_t n) {
  uint64_t seed = 13, sum = 0;
  for (uint32_t i = 0; i < CELLS; i++) order[i] = i;
  for (uint32_t i = CELLS - 1; i > 0; i--) {
    uint32_t j = (uint32_t)(next_random(&seed) % (i + 1)), swapped = order[i];
    order[i] = order[j];
    order[j] = swapped;
  }
  for (uint32_t i = 0; i < CELLS; i++)
    cells[order[i]] = (struct cell){.next = &cells[order[(i + 1) % CELLS]], .number = i};
  struct cell *at = cells;
  for (uint64_t i = 0; i < n * 100000; i++) {
    sum += at->number;
    at = at->next;
  }
  return mix(sum, at->number);
}
PROGRAM("chase", chase)
