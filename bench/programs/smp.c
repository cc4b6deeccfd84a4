// Two processors: how the work of two threads scales, a contended lock and a contended counter, and
// inter-processor interrupts: by membarrier, and by a futex that wakes the other side.
#define _GNU_SOURCE
#include "bench.h"
#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

struct side {
  uint64_t n;
  int number;
  uint64_t result;
};

static void pin(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((unsigned)processor, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) fail("needs two processors: sched_setaffinity");
}

/** Runs `work` on `count` processors and adds up the results. */
static uint64_t run(void *(*work)(void *), int count, uint64_t n) {
  struct side sides[2] = {{n, 0, 0}, {n, 1, 0}};
  pthread_t threads[2];
  uint64_t sum = 0;
  for (int i = 0; i < count; i++)
    if ((errno = pthread_create(&threads[i], 0, work, &sides[i])) != 0) fail("pthread_create");
  for (int i = 0; i < count; i++) {
    pthread_join(threads[i], 0);
    sum += sides[i].result;
  }
  return sum;
}

static void *compute(void *argument) {
  struct side *side = argument;
  pin(side->number);
  uint32_t table[1024] = {0};
  uint64_t seed = 41;
  for (uint64_t i = 0; i < side->n * 100000; i++) {
    uint64_t x = next_random(&seed);
    table[x & 1023] += (uint32_t)(x >> 32);
  }
  for (int i = 0; i < 1024; i++) side->result = mix(side->result, table[i]);
  return 0;
}

static uint64_t scale_one(uint64_t n) { return run(compute, 1, n); }
PROGRAM("scale-1", scale_one)
static uint64_t scale_two(uint64_t n) { return run(compute, 2, n); }
PROGRAM("scale-2", scale_two)

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t guarded;
static atomic_ulong counter;

static void *contend(void *argument) {
  struct side *side = argument;
  pin(side->number);
  for (uint64_t i = 0; i < side->n * 1000; i++) {
    pthread_mutex_lock(&mutex);
    guarded++;
    pthread_mutex_unlock(&mutex);
    atomic_fetch_add(&counter, 1);
  }
  return 0;
}

static uint64_t lock(uint64_t n) {
  run(contend, 2, n);
  return mix(mix(1, guarded), counter);
}
PROGRAM("lock", lock)

static atomic_int over;

static void *interrupt(void *argument) {
  struct side *side = argument;
  pin(side->number);
  if (side->number == 1) {
    while (!atomic_load(&over)) side->result++;
    side->result = 0;
    return 0;
  }
  for (uint64_t i = 0; i < side->n * 100; i++) {
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0) fail("membarrier");
    side->result++;
  }
  atomic_store(&over, 1);
  return 0;
}

static uint64_t barriers(uint64_t n) {
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0) fail("membarrier");
  return run(interrupt, 2, n);
}
PROGRAM("ipi", barriers)

static atomic_int turn;

static void *wake(void *argument) {
  struct side *side = argument;
  pin(side->number);
  for (uint64_t i = 0; i < side->n * 100; i++) {
    int now;
    while ((now = atomic_load(&turn)) != side->number) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, now, 0, 0, 0);
    atomic_store(&turn, 1 - side->number);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
    side->result++;
  }
  return 0;
}

static uint64_t wakes(uint64_t n) { return run(wake, 2, n); }
PROGRAM("wake", wakes)
