// CRC-32 (IEEE 802.3, reflected) by a table, byte for byte: dependent loads.
#include "bench.h"

static uint32_t table[256];
static uint8_t data[1 << 16];

static uint64_t crc32(uint64_t n) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
    table[i] = c;
  }
  uint64_t seed = 1;
  for (uint32_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)next_random(&seed);
  uint32_t crc = 0xffffffffu;
  while (n--)
    for (uint32_t i = 0; i < sizeof data; i++) crc = table[(crc ^ data[i]) & 0xff] ^ (crc >> 8);
  return crc ^ 0xffffffffu;
}
PROGRAM("crc32", crc32)
