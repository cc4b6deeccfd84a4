// Quicksort of numbers, and a heap sort of strings through an indirect comparison function.
#include "bench.h"
#include <string.h>

enum { NUMBERS = 1 << 15, WORDS = 1 << 12 };
static uint32_t numbers[NUMBERS];
static char words[WORDS][12];
static const char *sorted[WORDS];

static void quicksort(uint32_t *low, uint32_t *high) {
  while (high - low > 12) {
    uint32_t pivot = low[(high - low) / 2], *i = low, *j = high;
    while (i <= j) {
      while (*i < pivot) i++;
      while (*j > pivot) j--;
      if (i > j) break;
      uint32_t swapped = *i;
      *i++ = *j;
      *j-- = swapped;
    }
    quicksort(low, j);
    low = i;
  }
  for (uint32_t *i = low + 1; i <= high; i++) {
    uint32_t value = *i, *j = i;
    for (; j > low && j[-1] > value; j--) *j = j[-1];
    *j = value;
  }
}

static void sift(const char **heap, uint32_t at, uint32_t count, int (*compare)(const char *, const char *)) {
  for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && compare(heap[child], heap[child + 1]) < 0) child++;
    if (compare(heap[at], heap[child]) >= 0) return;
    const char *swapped = heap[at];
    heap[at] = heap[child];
    heap[child] = swapped;
  }
}

static void heapsort(const char **heap, uint32_t count, int (*compare)(const char *, const char *)) {
  for (uint32_t i = count / 2; i-- > 0;) sift(heap, i, count, compare);
  for (uint32_t i = count - 1; i > 0; i--) {
    const char *swapped = heap[0];
    heap[0] = heap[i];
    heap[i] = swapped;
    sift(heap, 0, i, compare);
  }
}

static uint64_t sort(uint64_t n) {
  uint64_t seed = 17, sum = 0;
  while (n--) {
    for (uint32_t i = 0; i < NUMBERS; i++) numbers[i] = (uint32_t)next_random(&seed);
    quicksort(numbers, numbers + NUMBERS - 1);
    for (uint32_t i = 0; i < NUMBERS; i += 997) sum = mix(sum, numbers[i]);
    for (uint32_t i = 0; i < WORDS; i++) {
      for (int j = 0; j < 11; j++) words[i][j] = (char)('a' + next_random(&seed) % 5);
      sorted[i] = words[i];
    }
    heapsort(sorted, WORDS, strcmp);
    for (uint32_t i = 0; i < WORDS; i += 97) sum = mix(sum, (uint64_t)sorted[i][5]);
  }
  return sum;
}
PROGRAM("sort", sort)
