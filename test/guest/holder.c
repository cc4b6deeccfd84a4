/* A program in the guest that keeps files of a share and of a disk open over saves and moves, and says after
 * each whether they are as it left them: a file open for appending, one that is read and written at random
 * (with its contents in memory as the reference), a directory that is read a piece at a time, and a lock that
 * two processes take in turns.
 *   holder SHARE LISTED DISK
 * Reads lines: "step N" and "end"; answers each with a line that begins with ok or bad. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FILE_BYTES = 1 << 20, MAX_ENTRIES = 1 << 16, FILES = 2 };

static char problem[400];
static void bad(const char *format, ...) {
  va_list list;
  va_start(list, format);
  if (problem[0] == 0) vsnprintf(problem, sizeof problem, format, list);
  va_end(list);
}

static uint32_t seed = 1;
static uint32_t below(uint32_t limit) {
  seed = seed * 1664525u + 1013904223u;
  return (seed >> 8) % limit;
}

static int open_at(const char *folder, const char *name, int flags) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  int fd = open(path, flags, 0644);
  if (fd < 0) bad("open %s: %s", path, strerror(errno));
  return fd;
}

/* ---- random reads and writes, with a reference ---- */

static struct { int fd; uint8_t *bytes; uint32_t size; } files[FILES];

static void work_on(int which, int times) {
  static uint8_t found[FILE_BYTES];
  uint8_t *bytes = files[which].bytes;
  int fd = files[which].fd;
  while (times-- > 0) {
    uint32_t at = below(FILE_BYTES), length = below(20000);
    if (at + length > FILE_BYTES) length = FILE_BYTES - at;
    uint32_t what = below(8);
    if (what == 0) {
      if (ftruncate(fd, at) != 0) bad("truncate: %s", strerror(errno));
      if (at < files[which].size) memset(bytes + at, 0, files[which].size - at);
      files[which].size = at;
    } else if (what < 4) {
      for (uint32_t i = 0; i < length; i++) bytes[at + i] = (uint8_t)below(256);
      ssize_t done = pwrite(fd, bytes + at, length, at);
      if (done != (ssize_t)length) bad("write: %zd of %u: %s", done, length, strerror(errno));
      if (length > 0 && at + length > files[which].size) files[which].size = at + length;
    } else {
      uint32_t expected = at >= files[which].size ? 0 : files[which].size - at;
      if (expected > length) expected = length;
      ssize_t done = pread(fd, found, length, at);
      if (done != (ssize_t)expected) bad("file %d: read %zd at %u, expected %u", which, done, at, expected);
      else if (memcmp(found, bytes + at, expected) != 0) bad("file %d: other bytes after %u", which, at);
    }
  }
  ssize_t done = pread(fd, found, FILE_BYTES, 0);
  if (done != (ssize_t)files[which].size || memcmp(found, bytes, files[which].size) != 0)
    bad("file %d: %zd bytes, expected %u, or other contents", which, done, files[which].size);
}

/* ---- a directory ---- */

struct entry { uint64_t inode; int64_t next; uint16_t length; uint8_t type; char name[]; };
static int listed;
static uint8_t seen[MAX_ENTRIES];
static uint32_t entries;

/* Reads one piece; returns 0 at the end. Counts the names eNNNNN, of which each may come once. */
static int list_some(void) {
  char buffer[2048];
  long length = syscall(SYS_getdents64, listed, buffer, sizeof buffer);
  if (length < 0) bad("the directory: %s", strerror(errno));
  for (long at = 0; at < length; at += ((struct entry *)(buffer + at))->length) {
    const char *name = ((struct entry *)(buffer + at))->name;
    if (name[0] != 'e') continue;
    uint32_t number = (uint32_t)atoi(name + 1) % MAX_ENTRIES;
    if (seen[number]++) bad("the directory has %s twice", name);
    entries++;
  }
  return length > 0;
}

/* ---- a lock, which the child takes when the parent gives it up, and gives back ---- */

static int lock_fd, to_child;

static int set_lock(short type) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
  return fcntl(lock_fd, F_SETLK, &lock);
}

static void child(int parent) {
  char what;
  while (read(parent, &what, 1) == 1) {
    char answer = set_lock(what == 'u' ? F_UNLCK : F_WRLCK) == 0 ? 'y' : 'n';
    if (write(parent, &answer, 1) != 1) break;
  }
  _exit(0);
}

static char ask_child(char what) {
  char answer = '?';
  if (write(to_child, &what, 1) != 1 || read(to_child, &answer, 1) != 1) bad("the child is gone");
  return answer;
}

static void alternate(void) {
  if (ask_child('l') != 'n') bad("the lock of another process is taken");
  if (set_lock(F_UNLCK) != 0) bad("unlock: %s", strerror(errno));
  if (ask_child('l') != 'y') bad("the free lock cannot be taken");
  if (set_lock(F_WRLCK) == 0) bad("the child's lock is taken");
  if (ask_child('u') != 'y') bad("the child's lock stays");
  if (set_lock(F_WRLCK) != 0) bad("the lock cannot be taken again: %s", strerror(errno));
}

int main(int count, char **arguments) {
  if (count != 4) return 2;
  const char *share = arguments[1];
  int log = open_at(share, "log", O_WRONLY | O_CREAT | O_APPEND);
  lock_fd = open_at(share, "lock", O_RDWR | O_CREAT);
  listed = open(arguments[2], O_RDONLY | O_DIRECTORY);
  if (listed < 0) bad("open %s: %s", arguments[2], strerror(errno));
  for (int i = 0; i < FILES; i++) {
    files[i].fd = open_at(i == 0 ? share : arguments[3], "held", O_RDWR | O_CREAT | O_TRUNC);
    files[i].bytes = calloc(1, FILE_BYTES);
  }
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return 3;
  to_child = pair[0];
  if (fork() == 0) {
    close(pair[0]);
    child(pair[1]);
  }
  close(pair[1]);
  if (set_lock(F_WRLCK) != 0) bad("lock: %s", strerror(errno));
  char line[100];
  setvbuf(stdout, NULL, _IOLBF, 0);
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    ssize_t length = (ssize_t)strlen(line);
    line[length] = '\n';
    if (write(log, line, (size_t)length + 1) != length + 1) bad("append: %s", strerror(errno));
    line[length] = 0;
    for (int i = 0; i < FILES; i++) work_on(i, 40);
    if (strcmp(line, "end") == 0) while (list_some()) continue;
    else for (int i = 0; i < 4; i++) list_some();
    alternate();
    if (problem[0]) printf("bad %s\n", problem);
    else printf("ok %s entries=%u\n", line, entries);
  }
  return 0;
}
