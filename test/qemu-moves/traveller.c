// The guest's own check that a move lost no state. Each hart has a ticker and, while the guest is busy, a
// worker: a chain of floating-point operations compared with its first result, memory, a disk region read and
// written with O_DIRECT, a token in a ring of pipes. Also: entropy, frames that the network returns, words
// that the virtio console echoes, the real-time clock, the kernel's log. Every line on the console is
// numbered and has a checksum (journal.ts reads them). Keys: b busy, i idle, w wake each hart once, q quit
// with the verdict.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <math.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HARTS = 8, PAGE = 4096, PAGES = 64, BLOCKS = 32, CHAIN = 4000, ETHER_TYPE = 0x88b5 };
enum { SLOW_TICK_MS = 100, FAST_TICK_MS = 10, SLOW_LINE_MS = 250, FAST_LINE_MS = 40 };

typedef struct {
  int number;
  int ring[2];
  atomic_ulong ticks, flags_lost, chains, pages, blocks, tokens;
  atomic_bool done;
  uint64_t page_generations[PAGES], block_generations[BLOCKS];
  uint64_t (*memory)[PAGE / 8];
  uint64_t *buffer;
} Hart;

static Hart harts[MAX_HARTS];
static int hart_count, disk = -1, wire = -1, second = -1;
static atomic_bool busy, ending;
static atomic_ulong latest_ns, draws, failures;
static unsigned long line_number, frames_sent, frames_back, words_sent, words_back;
static pthread_mutex_t printing = PTHREAD_MUTEX_INITIALIZER;

static uint64_t now_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000000000ull + now.tv_nsec;
}

// One numbered line, written whole and in order.
static void line(const char *format, ...) {
  char text[900];
  va_list values;
  pthread_mutex_lock(&printing);
  int length = snprintf(text, sizeof text, "@%lu ", ++line_number);
  va_start(values, format);
  length += vsnprintf(text + length, sizeof text - length - 16, format, values);
  va_end(values);
  uint32_t sum = 2166136261u;
  for (int i = 0; i < length; i++) sum = (sum ^ (unsigned char)text[i]) * 16777619u;
  length += sprintf(text + length, " ~%08x\n", sum);
  for (int at = 0; at < length;) {
    ssize_t written = write(1, text + at, length - at);
    if (written > 0) at += written;
  }
  pthread_mutex_unlock(&printing);
}

static void fail(const char *format, ...) {
  char text[400];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  // The first failures are enough.
  if (atomic_fetch_add(&failures, 1) < 5) line("FAIL %s", text);
}

// Monotonic time, which must not go backwards on any hart.
static uint64_t checked_now(int hart) {
  uint64_t before = atomic_load(&latest_ns), now = now_ns(CLOCK_MONOTONIC);
  if (now < before) fail("hart %d: time went back by %lu ns", hart, before - now);
  while (before < now && !atomic_compare_exchange_weak(&latest_ns, &before, now)) {}
  return now;
}

static void pin(int hart) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(hart, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) fail("hart %d: cannot pin: %s", hart, strerror(errno));
}

static void sleep_ms(unsigned ms) {
  struct timespec time = {ms / 1000, ms % 1000 * 1000000l};
  while (clock_nanosleep(CLOCK_MONOTONIC, 0, &time, &time) == EINTR) {}
}

static void *ticker(void *argument) {
  Hart *hart = argument;
  pin(hart->number);
  uint64_t deadline = checked_now(hart->number);
  for (;;) {
    uint64_t period = (busy ? FAST_TICK_MS : SLOW_TICK_MS) * 1000000ull, now = checked_now(hart->number);
    deadline += period;
    if (deadline < now) deadline = now + period;
    struct timespec until = {deadline / 1000000000, deadline % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {}
    now = checked_now(hart->number);
    if (now < deadline) fail("hart %d: a sleep ended %lu ns early", hart->number, deadline - now);
    hart->ticks++;
  }
  return NULL;
}

// Each step depends on the previous one: single and double precision, fused and not, conversions, the
// rounding mode. A chaotic map that stays between 0 and 1, so that every step is inexact and every rounding
// counts.
static uint64_t chain(int seed, int steps) {
  double x = 0.1 + seed * 0.07;
  float y = 1.5f + seed;
  int64_t turns = 0;
  for (int i = 0; i < steps; i++) {
    x = fma(-x, x, x) * 3.7 + 0.125 / (1 + y);
    if (i % 8 == 0) x = sqrt(x);
    y = y * 0.875f + (float)x / (y + 2);
    turns += (int64_t)(x * 1e9);
  }
  uint64_t bits;
  memcpy(&bits, &x, 8);
  uint32_t single;
  memcpy(&single, &y, 4);
  return bits ^ (uint64_t)single << 29 ^ (uint64_t)turns;
}

static uint64_t seed_of(int kind, int hart, int index, uint64_t generation) {
  return (((uint64_t)kind << 60 | (uint64_t)hart << 52 | (uint64_t)index << 40) ^ generation) * 0x9e3779b97f4a7c15ull | 1;
}

static void fill(uint64_t *words, uint64_t seed) {
  for (int i = 0; i < PAGE / 8; i++, seed = seed * 6364136223846793005ull + 1442695040888963407ull) words[i] = seed;
}

static bool holds(const uint64_t *words, uint64_t seed) {
  for (int i = 0; i < PAGE / 8; i++, seed = seed * 6364136223846793005ull + 1442695040888963407ull)
    if (words[i] != seed) return false;
  return true;
}

static off_t place(const Hart *hart, int block) { return ((off_t)hart->number * BLOCKS + block) * PAGE; }

static void check_block(Hart *hart, int block) {
  uint64_t generation = hart->block_generations[block];
  if (generation == 0) return;
  if (pread(disk, hart->buffer, PAGE, place(hart, block)) != PAGE) {
    fail("hart %d: block %d cannot be read: %s", hart->number, block, strerror(errno));
  } else if (!holds(hart->buffer, seed_of(2, hart->number, block, generation))) {
    fail("hart %d: block %d is not what generation %lu wrote", hart->number, block, generation);
  }
}

static void disk_turn(Hart *hart, int block) {
  if (disk < 0) return;
  check_block(hart, block);
  uint64_t generation = ++hart->block_generations[block];
  fill(hart->buffer, seed_of(2, hart->number, block, generation));
  if (pwrite(disk, hart->buffer, PAGE, place(hart, block)) != PAGE)
    fail("hart %d: block %d cannot be written: %s", hart->number, block, strerror(errno));
  if (block % 16 == 0 && fdatasync(disk) != 0) fail("hart %d: no sync: %s", hart->number, strerror(errno));
  hart->blocks++;
}

static void memory_turn(Hart *hart, int page) {
  uint64_t generation = hart->page_generations[page]++;
  if (generation > 0 && !holds(hart->memory[page], seed_of(1, hart->number, page, generation)))
    fail("hart %d: page %d is not what generation %lu wrote", hart->number, page, generation);
  fill(hart->memory[page], seed_of(1, hart->number, page, generation + 1));
  hart->pages++;
}

// The token returns with the number that this hart gave it last, plus one for each other hart.
static void token_turn(Hart *hart, uint64_t *expected) {
  uint64_t token;
  if (read(hart->ring[0], &token, sizeof token) != sizeof token) return;
  if (*expected != 0 && token != *expected) fail("hart %d: token %lu instead of %lu", hart->number, token, *expected);
  token++;
  *expected = token + hart_count - 1;
  hart->tokens++;
  if (write(harts[(hart->number + 1) % hart_count].ring[1], &token, sizeof token) != sizeof token)
    fail("hart %d: no token written: %s", hart->number, strerror(errno));
}

static void *worker(void *argument) {
  static const int modes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
  Hart *hart = argument;
  const int mode = modes[hart->number % 4];
  pin(hart->number);
  fesetround(mode);
  const uint64_t reference = chain(hart->number, CHAIN);
  uint64_t token = 0;
  for (unsigned turn = 0; !ending; turn++) {
    while (!busy && !ending) sleep_ms(50);
    feclearexcept(FE_ALL_EXCEPT);
    uint64_t result = chain(hart->number, CHAIN);
    if (result != reference) fail("hart %d: floats give %016lx instead of %016lx", hart->number, result, reference);
    if (fegetround() != mode) fail("hart %d: rounding mode %d instead of %d", hart->number, fegetround(), mode);
    // QEMU's streams have no exception flags: a move between the chain and this line loses one.
    if (!fetestexcept(FE_INEXACT)) hart->flags_lost++;
    hart->chains++;
    memory_turn(hart, turn % PAGES);
    token_turn(hart, &token);
    disk_turn(hart, turn % BLOCKS);
    checked_now(hart->number);
  }
  for (int block = 0; block < BLOCKS && disk >= 0; block++) check_block(hart, block);
  hart->done = true;
  return NULL;
}

static void *drawer(void *argument) {
  int source = *(int *)argument;
  for (unsigned char bytes[32];; sleep_ms(busy ? 20 : 200)) {
    if (read(source, bytes, sizeof bytes) > 0) draws++;
    else fail("entropy: %s", strerror(errno));
  }
  return NULL;
}

// Sends a frame and reads the frames returned since the last one.
static void frame_turn(void) {
  unsigned char frame[64] = {255, 255, 255, 255, 255, 255, 0x52, 0x54, 0, 0, 0, 1, ETHER_TYPE >> 8, ETHER_TYPE & 255};
  if (wire < 0) return;
  memcpy(frame + 14, &frames_sent, sizeof frames_sent);
  if (write(wire, frame, sizeof frame) == sizeof frame) frames_sent++;
  while (read(wire, frame, sizeof frame) == sizeof frame) frames_back++;
}

// Writes a numbered word to the virtio console, whose other end echoes it.
static void word_turn(void) {
  char text[64];
  if (second < 0) return;
  int length = sprintf(text, "%lu\n", words_sent);
  if (write(second, text, length) == length) words_sent++;
  for (ssize_t got; (got = read(second, text, sizeof text)) > 0;)
    for (ssize_t i = 0; i < got; i++) words_back += text[i] == '\n';
}

static void make_raw(int terminal) {
  struct termios settings;
  if (tcgetattr(terminal, &settings) != 0) return;
  cfmakeraw(&settings);
  tcsetattr(terminal, TCSANOW, &settings);
}

static int open_wire(void) {
  int control = socket(AF_INET, SOCK_DGRAM, 0);
  struct ifreq request = {.ifr_name = "eth0"};
  if (ioctl(control, SIOCGIFFLAGS, &request) != 0) return -1;
  request.ifr_flags |= IFF_UP;
  ioctl(control, SIOCSIFFLAGS, &request);
  ioctl(control, SIOCGIFINDEX, &request);
  close(control);
  int packets = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, ETHER_TYPE >> 8 | (ETHER_TYPE & 255) << 8);
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = ETHER_TYPE >> 8 | (ETHER_TYPE & 255) << 8,
                                .sll_ifindex = request.ifr_ifindex};
  return bind(packets, (struct sockaddr *)&address, sizeof address) == 0 ? packets : -1;
}

// The real-time clock in seconds, read from the device.
static long rtc_seconds(void) {
  char text[32] = "";
  int file = open("/sys/class/rtc/rtc0/since_epoch", O_RDONLY);
  if (file < 0) return 0;
  if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
  close(file);
  return atol(text);
}

static unsigned long sum_of(size_t field) {
  unsigned long sum = 0;
  for (int i = 0; i < hart_count; i++) sum += atomic_load((atomic_ulong *)((char *)&harts[i] + field));
  return sum;
}
#define SUM(field) sum_of(offsetof(Hart, field))

static void report(void) {
  char ticks[200] = "";
  for (int i = 0, at = 0; i < hart_count; i++)
    at += sprintf(ticks + at, "%s%lu", i == 0 ? "" : ",", atomic_load(&harts[i].ticks));
  uint64_t now = checked_now(-1);
  line("T mono=%lu real=%lu rtc=%ld ticks=%s chains=%lu pages=%lu blocks=%lu tokens=%lu draws=%lu sent=%lu back=%lu words=%lu lost=%lu busy=%d",
       now / 1000, now_ns(CLOCK_REALTIME) / 1000, rtc_seconds(), ticks, SUM(chains), SUM(pages), SUM(blocks),
       SUM(tokens), atomic_load(&draws), frames_sent, frames_back, words_back, SUM(flags_lost),
       (int)busy);
}

static void kernel_log(int log) {
  char record[2000];
  for (ssize_t length; (length = read(log, record, sizeof record - 1)) > 0 || errno == EPIPE;) {
    if (length <= 0) continue;
    record[length] = 0;
    char *text = strchr(record, ';'), *end = text ? strchr(text, '\n') : NULL;
    if (end) *end = 0;
    line("KMSG %.300s", text ? text + 1 : record);
  }
}

static void set_period(int timer, unsigned ms) {
  struct itimerspec period = {{ms / 1000, ms % 1000 * 1000000l}, {ms / 1000, ms % 1000 * 1000000l}};
  timerfd_settime(timer, 0, &period, NULL);
}

static void start(void *(*thread)(void *), void *argument) {
  pthread_t id;
  if (pthread_create(&id, NULL, thread, argument) != 0) fail("no thread");
}

static void key(char key, int timer) {
  if (key == 'b' || key == 'i') {
    busy = key == 'b';
    set_period(timer, busy ? FAST_LINE_MS : SLOW_LINE_MS);
    line("BUSY %d", (int)busy);
  } else if (key == 'w') {
    for (int i = 0; i < hart_count; i++) pin(i);
    line("WOKEN %d", hart_count);
  } else if (key == 'q') {
    ending = true;
    for (int i = 0; i < hart_count; i++)
      while (!harts[i].done) sleep_ms(10);
    line("%s failures=%lu", failures == 0 ? "PASS" : "FAILED", atomic_load(&failures));
  }
}

int main(void) {
  make_raw(0);
  hart_count = sysconf(_SC_NPROCESSORS_ONLN);
  if (hart_count > MAX_HARTS) hart_count = MAX_HARTS;
  int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK), entropy = open("/dev/hwrng", O_RDONLY);
  int timer = timerfd_create(CLOCK_MONOTONIC, 0);
  // Skip the messages of the boot.
  lseek(log, 0, SEEK_END);
  disk = open("/dev/vda", O_RDWR | O_DIRECT);
  second = open("/dev/hvc0", O_RDWR | O_NONBLOCK | O_NOCTTY);
  make_raw(second);
  wire = open_wire();
  line("START harts=%d disk=%d wire=%d console=%d entropy=%d rtc=%d", hart_count, disk >= 0, wire >= 0, second >= 0,
       entropy >= 0, rtc_seconds() > 0);
  for (int i = 0; i < hart_count; i++) {
    Hart *hart = &harts[i];
    hart->number = i;
    if (pipe2(hart->ring, O_NONBLOCK) != 0) fail("no pipe");
    hart->memory = aligned_alloc(PAGE, PAGES * PAGE);
    hart->buffer = aligned_alloc(PAGE, PAGE);
  }
  uint64_t token = 1;
  if (write(harts[0].ring[1], &token, sizeof token) != sizeof token) fail("no token");
  for (int i = 0; i < hart_count; i++) {
    start(ticker, &harts[i]);
    start(worker, &harts[i]);
  }
  if (entropy >= 0) start(drawer, &entropy);
  set_period(timer, SLOW_LINE_MS);
  struct pollfd waits[] = {{0, POLLIN, 0}, {timer, POLLIN, 0}, {log, POLLIN, 0}};
  for (;;) {
    poll(waits, 3, -1);
    if (waits[2].revents) kernel_log(log);
    if (waits[1].revents) {
      uint64_t expirations;
      if (read(timer, &expirations, sizeof expirations) == sizeof expirations) {
        frame_turn();
        word_turn();
        report();
      }
    }
    char typed;
    if (waits[0].revents && read(0, &typed, 1) == 1) key(typed, timer);
  }
}
