// The C library's string functions on short strings, and memcpy of many sizes and alignments.
#include "bench.h"
#include <string.h>

enum { LINES = 512, WIDTH = 80 };
static char lines[LINES][WIDTH + 1];

static uint64_t strings(uint64_t n) {
  uint64_t seed = 3, sum = 0;
  for (int i = 0; i < LINES; i++) {
    int length = 8 + (int)(next_random(&seed) % (WIDTH - 8));
    for (int j = 0; j < length; j++) lines[i][j] = (char)('a' + next_random(&seed) % 20);
    lines[i][length] = 0;
  }
  char buffer[2 * WIDTH + 2];
  for (uint64_t round = 0; round < n; round++) {
    for (int i = 0; i < LINES; i++) {
      const char *line = lines[i], *other = lines[(i + round) % LINES];
      strcpy(buffer, line);
      strcat(buffer, other);
      const char *found = strchr(line, 'q'), *within = strstr(other, "abc");
      sum = mix(sum, strlen(buffer));
      sum = mix(sum, found ? (uint64_t)(found - line) : WIDTH);
      sum = mix(sum, within ? (uint64_t)(within - other) : WIDTH);
      sum = mix(sum, strcmp(line, other) < 0);
      sum = mix(sum, memcmp(buffer, line, strlen(line)) == 0);
    }
  }
  return sum;
}
PROGRAM("strings", strings)

static uint8_t from[1 << 18], to[1 << 18];

static uint64_t copies(uint64_t n) {
  uint64_t seed = 5, sum = 0;
  for (uint32_t i = 0; i < sizeof from; i++) from[i] = (uint8_t)next_random(&seed);
  for (uint64_t round = 0; round < n; round++) {
    for (uint32_t size = 8; size <= sizeof from / 2; size *= 2) {
      uint32_t times = (uint32_t)(sizeof from / size / 2);
      for (uint32_t i = 0; i < times; i++) {
        uint32_t shift = size < 64 ? 0 : i & 7;
        memcpy(to + (uint64_t)i * size, from + (uint64_t)i * size + shift, size);
      }
      sum = mix(sum, to[size + (round & 7)]);
    }
    memmove(from + 1, from, sizeof from - 1);
  }
  return sum;
}
PROGRAM("memcpy", copies)
