// Work of the guest's kernel: system calls, creation and exit of processes, context switches through pipes,
// page faults.
#define _GNU_SOURCE
#include "bench.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t calls(uint64_t n) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < n * 1000; i++) sum += syscall(SYS_getppid) > 0;
  return sum;
}
PROGRAM("syscall", calls)

static uint64_t nothing(uint64_t n) { _exit((int)n); }
PROGRAM("exit", nothing)

static uint64_t processes(uint64_t n) {
  uint64_t sum = 0;
  while (n--) {
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
      execl("/proc/self/exe", "wbench", "exit", "3", (char *)0);
      fail("exec");
    }
    int status;
    if (waitpid(child, &status, 0) < 0) fail("waitpid");
    sum += (uint64_t)WEXITSTATUS(status);
  }
  return sum;
}
PROGRAM("forkexec", processes)

/** Two processes on one processor pass a byte back and forth. */
static uint64_t switches(uint64_t n) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  sched_setaffinity(0, sizeof one, &one);
  int there[2], back[2];
  if (pipe(there) != 0 || pipe(back) != 0) fail("pipe");
  pid_t child = fork();
  if (child < 0) fail("fork");
  uint8_t byte = 0;
  if (child == 0) {
    for (uint64_t i = 0; i < n * 100; i++) {
      if (read(there[0], &byte, 1) != 1) fail("read");
      byte++;
      if (write(back[1], &byte, 1) != 1) fail("write");
    }
    _exit(0);
  }
  uint64_t sum = 0;
  for (uint64_t i = 0; i < n * 100; i++) {
    if (write(there[1], &byte, 1) != 1) fail("write");
    if (read(back[0], &byte, 1) != 1) fail("read");
    sum += byte;
  }
  waitpid(child, 0, 0);
  return sum;
}
PROGRAM("switch", switches)

enum { PAGES = 4096, PAGE = 4096 };

static uint64_t faults(uint64_t n) {
  uint64_t sum = 0;
  while (n--) {
    uint8_t *memory = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("mmap");
    madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE);
    for (uint32_t i = 0; i < PAGES; i++) memory[i * PAGE] = (uint8_t)i;
    for (uint32_t i = 0; i < PAGES; i += 64) sum += memory[i * PAGE];
    munmap(memory, PAGES * PAGE);
  }
  return sum;
}
PROGRAM("fault", faults)
