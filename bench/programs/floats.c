// Double precision: a matrix product, planets, the Mandelbrot set, a Fourier transform, polynomials by fused
// multiply-add. Only +, −, ×, ÷, sqrt and fma, whose results IEEE 754 fixes to the last bit.
#include "bench.h"
#include <math.h>

enum { SIZE = 96 };
static double a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];

static double fraction(uint64_t *seed) { return (double)(next_random(seed) >> 11) * 0x1p-53; }

static uint64_t matmul(uint64_t n) {
  uint64_t seed = 23, sum = 0;
  for (int i = 0; i < SIZE; i++)
    for (int j = 0; j < SIZE; j++) {
      a[i][j] = fraction(&seed);
      b[i][j] = fraction(&seed);
    }
  while (n--) {
    for (int i = 0; i < SIZE; i++)
      for (int j = 0; j < SIZE; j++) {
        double dot = 0;
        for (int k = 0; k < SIZE; k++) dot += a[i][k] * b[k][j];
        c[i][j] = dot;
      }
    a[n % SIZE][n % 7] += c[3][5] * 0x1p-10;
    sum = mix_double(sum, c[n % SIZE][11]);
  }
  return sum;
}
PROGRAM("matmul", matmul)

struct body {
  double x[3], v[3], mass;
};

static uint64_t nbody(uint64_t n) {
  struct body bodies[5];
  uint64_t seed = 29, sum = 0;
  for (int i = 0; i < 5; i++) {
    for (int k = 0; k < 3; k++) {
      bodies[i].x[k] = (fraction(&seed) - 0.5) * 20 * (i + 1);
      bodies[i].v[k] = (fraction(&seed) - 0.5) * 2;
    }
    bodies[i].mass = i == 0 ? 40 : fraction(&seed);
  }
  for (uint64_t step = 0; step < n * 1000; step++) {
    for (int i = 0; i < 5; i++)
      for (int j = i + 1; j < 5; j++) {
        double d[3], square = 0.01;
        for (int k = 0; k < 3; k++) {
          d[k] = bodies[i].x[k] - bodies[j].x[k];
          square += d[k] * d[k];
        }
        double magnitude = 0.001 / (square * sqrt(square));
        for (int k = 0; k < 3; k++) {
          bodies[i].v[k] -= d[k] * bodies[j].mass * magnitude;
          bodies[j].v[k] += d[k] * bodies[i].mass * magnitude;
        }
      }
    for (int i = 0; i < 5; i++)
      for (int k = 0; k < 3; k++) bodies[i].x[k] += 0.001 * bodies[i].v[k];
  }
  for (int i = 0; i < 5; i++) sum = mix_double(sum, bodies[i].x[0]);
  return sum;
}
PROGRAM("nbody", nbody)

static uint64_t mandelbrot(uint64_t n) {
  uint64_t sum = 0;
  while (n--)
    for (int py = 0; py < 64; py++)
      for (int px = 0; px < 64; px++) {
        double cx = px / 32.0 - 1.5, cy = py / 32.0 - 1, x = 0, y = 0;
        int count = 0;
        for (; count < 200 && x * x + y * y < 4; count++) {
          double next = x * x - y * y + cx;
          y = 2 * x * y + cy;
          x = next;
        }
        sum = mix(sum, (uint64_t)count);
      }
  return sum;
}
PROGRAM("mandelbrot", mandelbrot)

enum { POINTS = 4096 };
static double re[POINTS], im[POINTS];

/**
 * Radix 2, in place. cos and sin of each stage's angle come from the half-angle formulas, which need only
 * sqrt.
 */
static void transform(void) {
  for (uint32_t i = 1, j = 0; i < POINTS; i++) {
    uint32_t bit = POINTS >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i >= j) continue;
    double r = re[i], m = im[i];
    re[i] = re[j], im[i] = im[j];
    re[j] = r, im[j] = m;
  }
  double cosine = -1, sine = 0;
  for (uint32_t half = 1; half < POINTS; half *= 2) {
    double wr = 1, wi = 0;
    for (uint32_t k = 0; k < half; k++) {
      for (uint32_t i = k; i < POINTS; i += 2 * half) {
        uint32_t j = i + half;
        double r = re[j] * wr - im[j] * wi, m = re[j] * wi + im[j] * wr;
        re[j] = re[i] - r, im[j] = im[i] - m;
        re[i] += r, im[i] += m;
      }
      double turned = wr * cosine - wi * sine;
      wi = wr * sine + wi * cosine;
      wr = turned;
    }
    double half_cosine = sqrt((1 + cosine) / 2);
    sine = half == 1 ? -1 : sine / (2 * half_cosine);
    cosine = half == 1 ? 0 : half_cosine;
  }
}

static uint64_t fft(uint64_t n) {
  uint64_t seed = 31, sum = 0;
  for (int i = 0; i < POINTS; i++) re[i] = fraction(&seed), im[i] = 0;
  while (n--) {
    transform();
    for (int i = 0; i < POINTS; i++) re[i] *= 1.0 / 64, im[i] *= 1.0 / 64;
    sum = mix_double(mix_double(sum, re[1]), im[POINTS - 1]);
  }
  return sum;
}
PROGRAM("fft", fft)

// Use the host's own instruction if it has one, as RISC-V does.
#ifdef __x86_64__
__attribute__((target("fma")))
#endif
static uint64_t polynomials(uint64_t n) {
  double x = 0.5, sum = 0;
  for (uint64_t i = 0; i < n * 10000; i++) {
    double y = 1;
    for (int k = 0; k < 16; k++) y = __builtin_fma(y, x, 1.0 / (1 + k));
    sum = __builtin_fma(y, 0x1p-8, sum);
    x = x > 0.9 ? 0.1 : x + 0x1p-12;
  }
  return mix_double(0, sum);
}
PROGRAM("fma", polynomials)
