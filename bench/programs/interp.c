// An interpreter loop: a stack machine whose operations are called through a table of functions, and another
// with computed gotos. Indirect calls and jumps with changing targets.
#include "bench.h"

enum { PUSH, ADD, SUB, MUL, XOR, DUP, SWAP, LOAD, STORE, LOOP, HALT, OPERATIONS };

struct machine {
  const int32_t *pc;
  uint64_t *sp;
  uint64_t stack[64];
  uint64_t variables[8];
};

static int op_push(struct machine *m) { return *m->sp++ = (uint64_t)(int64_t)*m->pc++, 1; }
static int op_add(struct machine *m) { return m->sp--, m->sp[-1] += m->sp[0], 1; }
static int op_sub(struct machine *m) { return m->sp--, m->sp[-1] -= m->sp[0], 1; }
static int op_mul(struct machine *m) { return m->sp--, m->sp[-1] *= m->sp[0], 1; }
static int op_xor(struct machine *m) { return m->sp--, m->sp[-1] ^= m->sp[0], 1; }
static int op_dup(struct machine *m) { return m->sp[0] = m->sp[-1], m->sp++, 1; }
static int op_load(struct machine *m) { return *m->sp++ = m->variables[*m->pc++], 1; }
static int op_store(struct machine *m) { return m->variables[*m->pc++] = *--m->sp, 1; }
static int op_halt(struct machine *m) { return m->pc--, 0; }
static int op_swap(struct machine *m) {
  uint64_t top = m->sp[-1];
  m->sp[-1] = m->sp[-2];
  m->sp[-2] = top;
  return 1;
}
/** Jumps back by the operand while variable 0, which it decrements, is not 0. */
static int op_loop(struct machine *m) {
  int32_t back = *m->pc++;
  if (--m->variables[0] != 0) m->pc -= back;
  return 1;
}

static int (*const operations[OPERATIONS])(struct machine *) = {
    op_push, op_add, op_sub, op_mul, op_xor, op_dup, op_swap, op_load, op_store, op_loop, op_halt};

static const int32_t code[] = {
    LOAD, 1, PUSH, 3,  MUL,  PUSH, 7, ADD, STORE, 1, LOAD, 1, DUP, LOAD, 2,    XOR,
    STORE, 2, LOAD, 2, SWAP, SUB, STORE, 3, LOAD, 3, LOAD, 1, ADD, STORE, 2, LOOP, 33, HALT};

static uint64_t finish(const struct machine *m) {
  return mix(mix(mix(0, m->variables[1]), m->variables[2]), m->variables[3]);
}

static uint64_t by_calls(uint64_t n) {
  static struct machine m;
  m = (struct machine){.pc = code, .variables = {n * 100000, 1, 2}};
  m.sp = m.stack;
  while (operations[*m.pc++](&m)) {
  }
  return finish(&m);
}
PROGRAM("calls", by_calls)

static uint64_t by_gotos(uint64_t n) {
  static const void *const labels[OPERATIONS] = {&&push, &&add,  &&sub,   &&mul,  &&exor, &&dup,
                                                 &&swap, &&load, &&store, &&loop, &&halt};
  struct machine m = {.variables = {n * 100000, 1, 2}};
  const int32_t *pc = code;
  uint64_t *sp = m.stack, top;
#define NEXT goto *labels[*pc++]
  NEXT;
push:
  *sp++ = (uint64_t)(int64_t)*pc++;
  NEXT;
add:
  sp--, sp[-1] += sp[0];
  NEXT;
sub:
  sp--, sp[-1] -= sp[0];
  NEXT;
mul:
  sp--, sp[-1] *= sp[0];
  NEXT;
exor:
  sp--, sp[-1] ^= sp[0];
  NEXT;
dup:
  sp[0] = sp[-1], sp++;
  NEXT;
swap:
  top = sp[-1], sp[-1] = sp[-2], sp[-2] = top;
  NEXT;
load:
  *sp++ = m.variables[*pc++];
  NEXT;
store:
  m.variables[*pc++] = *--sp;
  NEXT;
loop:
  top = (uint64_t)*pc++;
  if (--m.variables[0] != 0) pc -= top;
  NEXT;
halt:
  return finish(&m);
}
PROGRAM("gotos", by_gotos)
