// JSON as QMP speaks it (QEMU docs/interop/qmp-spec): a stream of values with or without newlines between,
// strings in double or single quotes, integers to 64 bits kept exact, output in ASCII only.
// The input is hostile: a value has a bounded size and depth, and an error never loses the values after it.
// Left out: QEMU's %-interpolation, which is for its own C code.
import { decodeUtf8, encodeUtf8 } from "../base/text.ts";

export type JsonValue = null | boolean | number | bigint | string | JsonValue[] | JsonObject;
/** Parsed objects have no prototype, so that a key such as `__proto__` is only a key. */
export interface JsonObject {
  [key: string]: JsonValue;
}

/** A value that cannot be read. The message is what QEMU says for the same input. */
export class JsonError extends Error {
  constructor(detail: string) {
    super(`JSON parse error, ${detail}`);
    this.name = "JsonError";
  }
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const MAX_VALUE_BYTES = 1 << 20;
const MAX_DEPTH = 1024;

const [QUOTE, APOSTROPHE, BACKSLASH, NEWLINE] = [0x22, 0x27, 0x5c, 0x0a];
const [OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE] = [0x5b, 0x5d, 0x7b, 0x7d];
const isSpace = (byte: number) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);

/** Cuts a byte stream into JSON values. Feed it bytes as they come. */
export class JsonStream {
  readonly #onValue: (value: JsonValue) => void;
  readonly #onError: (error: JsonError) => void;
  readonly #limit: number;
  #pending: number[] = [];
  #braces = 0;
  #brackets = 0;
  #quote = 0;
  #escaped = false;
  /** After a value that was too long: drop everything up to the end of the line. */
  #skipping = false;

  constructor(
    onValue: (value: JsonValue) => void,
    onError: (error: JsonError) => void,
    limit: number = MAX_VALUE_BYTES,
  ) {
    this.#onValue = onValue;
    this.#onError = onError;
    this.#limit = limit;
  }

  feed(bytes: Uint8Array): void {
    for (const byte of bytes) this.#take(byte);
  }

  #take(byte: number): void {
    if (this.#skipping) {
      this.#skipping = byte !== NEWLINE;
      return;
    }
    // No UTF-8 text has 0xff: clients send it to bring the parser back to its start (qmp-spec, "Protocol
    // example").
    if (byte === 0xff) {
      this.#reset();
      this.#onError(new JsonError("stray '\\xff'"));
      return;
    }
    if (this.#pending.length >= this.#limit) {
      this.#reset();
      this.#skipping = byte !== NEWLINE;
      this.#onError(new JsonError(`token size limit exceeded: a value has at most ${this.#limit} bytes`));
      return;
    }
    if (this.#quote !== 0) {
      this.#pending.push(byte);
      if (this.#escaped) this.#escaped = false;
      else if (byte === BACKSLASH) this.#escaped = true;
      else if (byte === this.#quote) {
        this.#quote = 0;
        this.#flushIfWhole();
      }
      return;
    }
    const nested = this.#braces > 0 || this.#brackets > 0;
    const opens = byte === OPEN_BRACE || byte === OPEN_BRACKET || byte === QUOTE || byte === APOSTROPHE;
    if (!nested && (isSpace(byte) || opens)) this.#flush();
    if (isSpace(byte) && !nested) return;
    this.#pending.push(byte);
    if (byte === QUOTE || byte === APOSTROPHE) this.#quote = byte;
    else if (byte === OPEN_BRACE) this.#braces++;
    else if (byte === OPEN_BRACKET) this.#brackets++;
    else if (byte === CLOSE_BRACE) {
      this.#braces--;
      this.#flushIfWhole();
    } else if (byte === CLOSE_BRACKET) {
      this.#brackets--;
      this.#flushIfWhole();
    }
  }

  #flushIfWhole(): void {
    const balanced = this.#braces === 0 && this.#brackets === 0;
    if (balanced || this.#braces < 0 || this.#brackets < 0) this.#flush();
  }

  #flush(): void {
    if (this.#pending.length === 0) return;
    const text = decodeUtf8(Uint8Array.from(this.#pending));
    this.#reset();
    let value: JsonValue;
    try {
      value = parseJson(text);
    } catch (error) {
      if (!(error instanceof JsonError)) throw error;
      this.#onError(error);
      return;
    }
    this.#onValue(value);
  }

  #reset(): void {
    this.#pending = [];
    this.#braces = this.#brackets = this.#quote = 0;
    this.#escaped = false;
  }
}

/** Parses one value in QEMU's dialect of JSON. Throws JsonError. */
export function parseJson(text: string): JsonValue {
  const parser = new Parser(text);
  return parser.whole();
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
const WORD = /[-+.0-9A-Za-z_]+/y;
const ESCAPES: Record<string, string> = {
  '"': '"',
  "'": "'",
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

class Parser {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  whole(): JsonValue {
    const value = this.#value();
    this.#skipSpace();
    if (this.#at < this.#text.length)
      throw new JsonError(`stray '${this.#text.slice(this.#at, this.#at + 20)}'`);
    return value;
  }

  #skipSpace(): void {
    while (this.#at < this.#text.length && isSpace(this.#text.charCodeAt(this.#at))) this.#at++;
  }

  /** The next character that is no space, not consumed. Undefined at the end. */
  #peek(): string | undefined {
    this.#skipSpace();
    return this.#text[this.#at];
  }

  #value(): JsonValue {
    const c = this.#peek();
    if (c === "{") return this.#nested(() => this.#object());
    if (c === "[") return this.#nested(() => this.#array());
    if (c === '"' || c === "'") return this.#string(c);
    return this.#scalar();
  }

  #nested<T>(parse: () => T): T {
    if (++this.#depth > MAX_DEPTH) throw new JsonError(`nesting limit exceeded: at most ${MAX_DEPTH} levels`);
    this.#at++;
    const value = parse();
    this.#depth--;
    return value;
  }

  #object(): JsonObject {
    const object: JsonObject = Object.create(null);
    if (this.#peek() === "}") {
      this.#at++;
      return object;
    }
    for (;;) {
      const quote = this.#peek();
      if (quote !== '"' && quote !== "'") throw new JsonError("key is not a string in object");
      const key = this.#string(quote);
      if (this.#peek() !== ":") throw new JsonError("missing : in object pair");
      this.#at++;
      const value = this.#value();
      if (key in object) throw new JsonError("duplicate key");
      object[key] = value;
      const next = this.#peek();
      if (next !== "," && next !== "}") throw new JsonError("expected separator in dict");
      this.#at++;
      if (next === "}") return object;
    }
  }

  #array(): JsonValue[] {
    const array: JsonValue[] = [];
    if (this.#peek() === "]") {
      this.#at++;
      return array;
    }
    for (;;) {
      array.push(this.#value());
      const next = this.#peek();
      if (next !== "," && next !== "]") throw new JsonError("expected separator in list");
      this.#at++;
      if (next === "]") return array;
    }
  }

  #string(quote: string): string {
    let result = "";
    for (let i = this.#at + 1; i < this.#text.length; i++) {
      const c = this.#text[i] as string;
      if (c === quote) {
        this.#at = i + 1;
        return result;
      }
      if (c < " ") throw new JsonError("control character in string");
      if (c !== "\\") {
        result += c;
        continue;
      }
      const escape = this.#text[++i] ?? "";
      if (escape === "u") {
        const digits = this.#text.slice(i + 1, i + 5);
        if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw new JsonError("invalid escape sequence in string");
        result += String.fromCharCode(Number.parseInt(digits, 16));
        i += 4;
      } else {
        const plain = ESCAPES[escape];
        if (plain === undefined) throw new JsonError("invalid escape sequence in string");
        result += plain;
      }
    }
    throw new JsonError("unterminated string");
  }

  #scalar(): JsonValue {
    NUMBER.lastIndex = WORD.lastIndex = this.#at;
    const word = WORD.exec(this.#text)?.[0];
    if (word === undefined) throw new JsonError("expecting value");
    const number = NUMBER.exec(this.#text);
    if (number?.[0] === word) {
      this.#at += word.length;
      return numberOf(word, number[1] === undefined && number[2] === undefined);
    }
    this.#at += word.length;
    if (word === "true") return true;
    if (word === "false") return false;
    if (word === "null") return null;
    throw new JsonError(/^[a-z]+$/.test(word) ? `invalid keyword '${word}'` : `stray '${word}'`);
  }
}

/**
 * Integers beyond 2^53 stay exact as bigint as long as they fit 64 bits; beyond that QEMU has a double too.
 */
function numberOf(word: string, integer: boolean): number | bigint {
  const value = Number(word);
  if (!integer || Number.isSafeInteger(value)) return value;
  const exact = BigInt(word);
  return exact >= -(1n << 63n) && exact < 1n << 64n ? exact : value;
}

/** One line of ASCII without its newline, spaced as QEMU spaces it. */
export function stringifyJson(value: JsonValue): string {
  if (typeof value === "string") return quote(value);
  if (typeof value !== "object" || value === null) return String(value);
  if (Array.isArray(value)) return `[${value.map(stringifyJson).join(", ")}]`;
  const members = Object.entries(value).map(([key, member]) => `${quote(key)}: ${stringifyJson(member)}`);
  return `{${members.join(", ")}}`;
}

function quote(text: string): string {
  const escape = (c: string) => `\\u${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, escape);
}

/** What goes over the wire: the value on a line of its own (CR LF, as QEMU ends its lines). */
export function jsonLine(value: JsonValue): Uint8Array<ArrayBuffer> {
  return encodeUtf8(`${stringifyJson(value)}\r\n`);
}
