import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeUtf8, encodeUtf8 } from "../base/text.ts";
import { JsonStream, type JsonValue, jsonLine, parseJson, stringifyJson } from "./qmp-json.ts";
import { seed } from "../../test/support/seed.ts";

function feed(chunks: (string | Uint8Array)[], limit?: number): (JsonValue | { error: string })[] {
  const out: (JsonValue | { error: string })[] = [];
  const stream = new JsonStream(
    (v) => out.push(v),
    (e) => out.push({ error: e.message }),
    limit,
  );
  for (const chunk of chunks) stream.feed(typeof chunk === "string" ? encodeUtf8(chunk) : chunk);
  return out;
}

test("values are cut out of the stream wherever it was cut", () => {
  const text = `{"a":\n 1}{"b":[{}]} [1,2]\r\n"x" 5 \n{'c':'it\\'s "}"'}`;
  const expected = [{ a: 1 }, { b: [{}] }, [1, 2], "x", 5, { c: `it's "}"` }];
  expect(feed([text])).toEqual(expected);
  expect(feed(Array.from(encodeUtf8(text), (b) => Uint8Array.of(b)))).toEqual(expected);
});

test.each([
  ['{"a" 1}', "missing : in object pair"],
  ['{"a":1,}', "key is not a string in object"],
  ['{"a":1 "b":2}', "expected separator in dict"],
  ["[1 2]", "expected separator in list"],
  ["[}", "expecting value"],
  ["}", "expecting value"],
  ['{"a":tru}', "invalid keyword 'tru'"],
  ['{"a":01}', "stray '01'"],
  ['{"a":1,"a":2}', "duplicate key"],
  ['{"a":"\\q"}', "invalid escape sequence in string"],
  ['{"a":"\\u12"}', "invalid escape sequence in string"],
  ['{"a":"\n"}', "control character in string"],
])("%s is an error and the next value is read", (text, message) => {
  const [first, ...rest] = feed([`${text}\n{"next":true}`]);
  expect(first).toEqual({ error: `JSON parse error, ${message}` });
  expect(rest.at(-1)).toEqual({ next: true });
});

test("0xff brings the parser back to its start", () => {
  expect(feed(['{"half": [', Uint8Array.of(0xff), '{"a":1}'])).toEqual([
    { error: "JSON parse error, stray '\\xff'" },
    { a: 1 },
  ]);
});

test("a value that is too long is refused, and the rest of its line", () => {
  const out = feed([`{"a":"${"x".repeat(100)}"}\n{"b":1}`], 64);
  expect(out).toEqual([{ error: expect.stringContaining("at most 64 bytes") }, { b: 1 }]);
});

test("depth is bounded", () => {
  expect(feed([`${"[".repeat(1024)}${"]".repeat(1024)}\n`])).toHaveLength(1);
  expect(feed([`${"[".repeat(1025)}${"]".repeat(1025)}\n`])).toEqual([
    { error: expect.stringContaining("nesting limit") },
  ]);
});

test("integers of 64 bits stay exact, keys are only keys", () => {
  const text = '{"a": 18446744073709551615, "b": -9223372036854775808, "c": 1.5}';
  expect(stringifyJson(parseJson(text))).toBe(text);
  expect(parseJson("123456789012345678901234567890")).toBe(123456789012345678901234567890);
  const hostile = parseJson('{"__proto__": {"x": 1}}');
  expect((hostile as unknown as { x?: number }).x).toBeUndefined();
  expect(stringifyJson(hostile)).toBe('{"__proto__": {"x": 1}}');
});

test("output is ASCII on one line", () => {
  const line = decodeUtf8(jsonLine({ id: "é\n\u{1f600}" }));
  expect(line).toBe('{"id": "\\u00E9\\n\\uD83D\\uDE00"}\r\n');
});

test("what JSON.parse reads, this reads the same; what it writes, JSON.parse reads", () => {
  const property = fc.property(fc.json(), (text) => {
    const expected = JSON.parse(text) as JsonValue;
    const [value] = feed([`${text}\n`]);
    expect(JSON.parse(stringifyJson(value as JsonValue))).toEqual(expected);
  });
  fc.assert(property, { seed, numRuns: 300 });
});

test("no bytes make it throw", () => {
  const alphabet = fc.constantFrom(
    ...`{}[]"':,\\ntu0123eE.-+ \r\n`.split("").map((c) => c.charCodeAt(0)),
    0xff,
    0xc3,
  );
  fc.assert(
    fc.property(fc.array(alphabet), (bytes) => void feed([Uint8Array.from(bytes)])),
    { seed, numRuns: 1000 },
  );
});
