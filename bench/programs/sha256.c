// SHA-256 (FIPS 180-4) of 64 KiB blocks: rotations, additions, byte order.
#include "bench.h"

static uint32_t constants[64];
static uint8_t data[1 << 16];

static inline uint32_t rotate(uint32_t x, int by) { return x >> by | x << (32 - by); }

/**
 * The first 32 bits of the fraction of a prime's root, by bisection in integers: root^power = prime * 2^(32
 * power).
 */
static uint32_t root_bits(uint32_t prime, int power) {
  uint64_t low = 0, high = (uint64_t)prime << 32;
  while (high - low > 1) {
    uint64_t middle = low + (high - low) / 2;
    unsigned __int128 square = (unsigned __int128)middle * middle;
    int above = power == 2 ? square > (unsigned __int128)prime << 64
                           : (square >> 32) * middle > (unsigned __int128)prime << 64;
    if (above)
      high = middle;
    else
      low = middle;
  }
  return (uint32_t)low;
}

static void compress(uint32_t state[8], const uint8_t *block) {
  uint32_t w[64], s[8];
  for (int i = 0; i < 16; i++, block += 4)
    w[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 | block[3];
  for (int i = 16; i < 64; i++) {
    uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
    uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  for (int i = 0; i < 8; i++) s[i] = state[i];
  for (int i = 0; i < 64; i++) {
    uint32_t s1 = rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25);
    uint32_t t1 = s[7] + s1 + ((s[4] & s[5]) ^ (~s[4] & s[6])) + constants[i] + w[i];
    uint32_t s0 = rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22);
    uint32_t t2 = s0 + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    for (int j = 7; j > 0; j--) s[j] = s[j - 1];
    s[4] += t1;
    s[0] = t1 + t2;
  }
  for (int i = 0; i < 8; i++) state[i] += s[i];
}

static uint64_t sha256(uint64_t n) {
  uint32_t state[8];
  for (uint32_t prime = 2, found = 0; found < 64; prime++) {
    int composite = 0;
    for (uint32_t d = 2; d * d <= prime; d++) composite |= prime % d == 0;
    if (composite) continue;
    if (found < 8) state[found] = root_bits(prime, 2);
    constants[found++] = root_bits(prime, 3);
  }
  uint64_t seed = 19;
  for (uint32_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)next_random(&seed);
  while (n--)
    for (uint32_t at = 0; at < sizeof data; at += 64) compress(state, data + at);
  return (uint64_t)state[0] << 32 | state[7];
}
PROGRAM("sha256", sha256)
