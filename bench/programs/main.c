// `wbench NAME N`: runs a kernel N times and prints `NAME nanoseconds checksum cpu`, where cpu is the
// processor time in nanoseconds, children included. `wbench run NAME COMMAND…`: the same for a command, with
// a checksum of its output. `wbench`: prints the names.
#include "bench.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct program *programs;

void add_program(struct program *program) {
  program->next = programs;
  programs = program;
}

void fail(const char *what) {
  fprintf(stderr, "wbench: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t run_command(char **command) {
  int ends[2];
  if (pipe(ends) != 0) fail("pipe");
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    dup2(ends[1], 1);
    close(ends[0]);
    close(ends[1]);
    execvp(command[0], command);
    fail(command[0]);
  }
  close(ends[1]);
  static uint8_t buffer[65536];
  uint64_t sum = 0xcbf29ce484222325u;
  for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;)
    for (ssize_t i = 0; i < got; i++) sum = mix(sum, buffer[i]);
  int status;
  if (waitpid(child, &status, 0) < 0) fail("waitpid");
  if (status != 0) {
    fprintf(stderr, "wbench: %s ended with status %d\n", command[0], status);
    exit(1);
  }
  return sum;
}

static uint64_t cpu_time(int who) {
  struct rusage use;
  getrusage(who, &use);
  return (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000000u +
         (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1000u;
}

static void report(const char *name, uint64_t start, uint64_t sum) {
  unsigned long long wall = now() - start, cpu = cpu_time(RUSAGE_SELF) + cpu_time(RUSAGE_CHILDREN);
  printf("%s %llu %016llx %llu\n", name, wall, (unsigned long long)sum, cpu);
}

int main(int argc, char **argv) {
  if (argc > 3 && strcmp(argv[1], "run") == 0) {
    uint64_t start = now();
    report(argv[2], start, run_command(argv + 3));
    return 0;
  }
  for (struct program *p = programs; p; p = p->next) {
    if (argc < 2) puts(p->name);
    if (argc != 3 || strcmp(argv[1], p->name) != 0) continue;
    uint64_t start = now();
    report(p->name, start, p->kernel(strtoull(argv[2], 0, 10)));
    return 0;
  }
  return argc < 2 ? 0 : 2;
}
