// CoreMark's mix in our own code: a linked list searched, reversed and merge-sorted, products of small
// integer matrices, a state machine that classifies numbers in text, and CRC-16 over the results.
#include "bench.h"

struct node {
  struct node *next;
  int16_t key;
  uint16_t value;
};

enum { NODES = 200, SIZE = 10, TEXT = 512 };
static struct node nodes[NODES];
static int16_t a[SIZE][SIZE], b[SIZE][SIZE];
static int32_t product[SIZE][SIZE];
static uint8_t text[TEXT];

static uint16_t crc16(uint16_t value, uint16_t crc) {
  for (int i = 0; i < 16; i++, value >>= 1) crc = (uint16_t)((crc >> 1) ^ ((crc ^ value) & 1 ? 0xa001 : 0));
  return crc;
}

static struct node *reverse(struct node *list) {
  struct node *done = 0;
  while (list) {
    struct node *next = list->next;
    list->next = done;
    done = list;
    list = next;
  }
  return done;
}

static struct node *merge_sort(struct node *list, int (*before)(const struct node *, const struct node *)) {
  if (!list || !list->next) return list;
  struct node *slow = list, *fast = list->next;
  while (fast && fast->next) {
    slow = slow->next;
    fast = fast->next->next;
  }
  struct node *right = slow->next;
  slow->next = 0;
  struct node *left = merge_sort(list, before);
  right = merge_sort(right, before);
  struct node *head = 0, **end = &head;
  while (left && right) {
    struct node **from = before(right, left) ? &right : &left;
    *end = *from;
    end = &(*from)->next;
    *from = (*from)->next;
  }
  *end = left ? left : right;
  return head;
}

static int by_key(const struct node *x, const struct node *y) { return x->key < y->key; }
static int by_value(const struct node *x, const struct node *y) { return x->value < y->value; }

static uint16_t work_list(uint16_t crc, int16_t wanted) {
  for (int i = 0; i < NODES; i++) nodes[i].next = i + 1 < NODES ? &nodes[i + 1] : 0;
  struct node *list = merge_sort(nodes, by_key);
  for (int i = 0; i < 40; i++) {
    struct node *found = list;
    while (found && found->key < (int16_t)(wanted + 80 * i)) found = found->next;
    crc = crc16(found ? found->value : 0, crc);
    list = reverse(reverse(list));
  }
  list = merge_sort(list, by_value);
  for (int i = 0; list && i < 20; i++, list = list->next) crc = crc16((uint16_t)list->key, crc);
  return crc;
}

static uint16_t work_matrix(uint16_t crc, int16_t add) {
  for (int i = 0; i < SIZE; i++)
    for (int j = 0; j < SIZE; j++) a[i][j] = (int16_t)(a[i][j] + add);
  for (int i = 0; i < SIZE; i++)
    for (int j = 0; j < SIZE; j++) {
      int32_t sum = 0;
      for (int k = 0; k < SIZE; k++) sum += (int32_t)a[i][k] * b[k][j];
      product[i][j] = sum;
    }
  for (int i = 0; i < SIZE; i++) crc = crc16((uint16_t)(product[i][i] >> 3), crc);
  return crc;
}

enum state { START, SIGN, INTEGER, FRACTION, EXPONENT, WRONG, STATES };

static enum state step(enum state state, uint8_t c) {
  int digit = c >= '0' && c <= '9';
  switch (state) {
    case START:
      return digit ? INTEGER : c == '+' || c == '-' ? SIGN : c == '.' ? FRACTION : WRONG;
    case SIGN:
      return digit ? INTEGER : c == '.' ? FRACTION : WRONG;
    case INTEGER:
      return digit ? INTEGER : c == '.' ? FRACTION : c == 'e' ? EXPONENT : WRONG;
    case FRACTION:
      return digit ? FRACTION : c == 'e' ? EXPONENT : WRONG;
    case EXPONENT:
      return digit || c == '-' ? EXPONENT : WRONG;
    default:
      return WRONG;
  }
}

static uint16_t work_states(uint16_t crc) {
  uint32_t counts[STATES] = {0};
  enum state state = START;
  for (int i = 0; i < TEXT; i++) {
    if (text[i] == ',') {
      counts[state]++;
      state = START;
    } else
      state = step(state, text[i]);
  }
  for (int i = 0; i < STATES; i++) crc = crc16((uint16_t)counts[i], crc);
  return crc;
}

static uint64_t mixed(uint64_t n) {
  uint64_t seed = 7;
  for (int i = 0; i < NODES; i++) {
    nodes[i].key = (int16_t)next_random(&seed);
    nodes[i].value = (uint16_t)next_random(&seed);
  }
  for (int i = 0; i < SIZE; i++)
    for (int j = 0; j < SIZE; j++) {
      a[i][j] = (int16_t)(next_random(&seed) & 0xff);
      b[i][j] = (int16_t)(next_random(&seed) & 0xff);
  }
  for (int i = 0; i < TEXT; i++) text[i] = (uint8_t) "0123456789,,.e-+"[next_random(&seed) & 15];
  uint16_t crc = 0;
  for (uint64_t i = 0; i < n; i++) {
    crc = work_list(crc, (int16_t)i);
    crc = work_matrix(crc, (int16_t)(i & 3));
    crc = work_states(crc);
  }
  return crc;
}
PROGRAM("mix", mixed)
