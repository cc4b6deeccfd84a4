// A JSON parser (RFC 8259, without \u escapes) by recursive descent: builds a tree in an arena and sums it
// up.
#include "bench.h"
#include <stdio.h>
#include <string.h>

enum kind { NOTHING, BOOLEAN, NUMBER, STRING, ARRAY, OBJECT };

struct value {
  enum kind kind;
  double number;
  const char *text;
  uint32_t length;
  const char *name;
  struct value *first, *next;
};

enum { VALUES = 1 << 15, TEXT = 1 << 19 };
static struct value arena[VALUES];
static uint32_t used;
static char text[TEXT];
static const char *at;

static struct value *parse(void);

static void space(void) {
  while (*at == ' ' || *at == '\n') at++;
}

static const char *string(uint32_t *length) {
  const char *start = ++at;
  while (*at != '"') at += *at == '\\' ? 2 : 1;
  *length = (uint32_t)(at++ - start);
  return start;
}

static double number(void) {
  int negative = *at == '-';
  at += negative;
  double value = 0, scale = 1;
  for (; *at >= '0' && *at <= '9'; at++) value = value * 10 + (*at - '0');
  if (*at == '.')
    for (at++; *at >= '0' && *at <= '9'; at++) value = value * 10 + (*at - '0'), scale *= 10;
  return (negative ? -value : value) / scale;
}

static void members(struct value *parent, char end) {
  struct value **last = &parent->first;
  at++;
  space();
  while (*at != end) {
    const char *name = 0;
    uint32_t length;
    if (end == '}') {
      name = string(&length);
      space();
      at++;
    }
    struct value *member = parse();
    member->name = name;
    *last = member;
    last = &member->next;
    if (*at == ',') at++;
    space();
  }
  at++;
}

static struct value *parse(void) {
  struct value *value = &arena[used++];
  memset(value, 0, sizeof *value);
  space();
  switch (*at) {
    case '{':
      value->kind = OBJECT;
      members(value, '}');
      break;
    case '[':
      value->kind = ARRAY;
      members(value, ']');
      break;
    case '"':
      value->kind = STRING;
      value->text = string(&value->length);
      break;
    case 't':
    case 'f':
      value->kind = BOOLEAN;
      value->number = *at == 't';
      at += *at == 't' ? 4 : 5;
      break;
    case 'n':
      at += 4;
      break;
    default:
      value->kind = NUMBER;
      value->number = number();
  }
  space();
  return value;
}

static uint64_t sum_up(const struct value *value, uint64_t sum) {
  sum = mix(sum, value->kind);
  if (value->kind == NUMBER) sum = mix_double(sum, value->number);
  if (value->kind == STRING) sum = mix(sum, value->length);
  for (const struct value *v = value->first; v; v = v->next) sum = sum_up(v, sum);
  return sum;
}

static uint64_t json(uint64_t n) {
  uint64_t seed = 37, sum = 0;
  char *end = text;
  *end++ = '[';
  for (int i = 0; i < 2000; i++) {
    unsigned a = next_random(&seed) % 100000, b = next_random(&seed) % 1000;
    end += sprintf(end, "%s\n {\"id\": %d, \"name\": \"item \\\"%u\\\"\", \"price\": %u.%02u, ", i ? "," : "", i, a, a, b % 100);
    end += sprintf(end, "\"tags\": [\"t%u\", \"u%u\", null], \"in stock\": %s, \"at\": {\"x\": -%u, \"y\": %u.5}}", b,
                   a % 77, b & 1 ? "true" : "false", b, a);
  }
  *end++ = ']';
  *end = 0;
  while (n--) {
    used = 0;
    at = text;
    sum = sum_up(parse(), sum);
  }
  return sum;
}
PROGRAM("json", json)
