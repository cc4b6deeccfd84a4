// DNS messages (RFC 1035): the question, the addresses of an answer, and refusals. Names are in lower case,
// without the last dot.
import { ipText } from "./ip-address.ts";
import { putU16, putU32, u16, u32 } from "./packet.ts";

export const TYPE_A = 1;
const TYPE_CNAME = 5;
export const TYPE_AAAA = 28;
const CLASS_IN = 1;
const HEADER = 12;
const RESPONSE = 0x80;
const MAX_RECORDS = 512;
export const SERVFAIL = 2;
export const NXDOMAIN = 3;
const NOERROR = 0;

export interface DnsQuestion {
  readonly name: string;
  readonly type: number;
  /** Where the question ends. */
  readonly end: number;
}

/** A name that `queryFor` takes; of a guest's question it may be any bytes. */
export const isQueryName = (name: string): boolean =>
  name.length < 254 && name.split(".").every((label) => /^[\x21-\x7e]{1,63}$/.test(label));

/** A query; undefined if the name is none. */
export function queryFor(name: string, type: number, id: number): Uint8Array | undefined {
  if (!isQueryName(name)) return undefined;
  const labels = name.split(".");
  const query = new Uint8Array(HEADER + name.length + 2 + 4);
  putU16(query, 0, id);
  // Recursion is desired.
  query[2] = 1;
  putU16(query, 4, 1);
  let at = HEADER;
  for (const label of labels) {
    query[at++] = label.length;
    for (let i = 0; i < label.length; i++) query[at++] = label.charCodeAt(i);
  }
  putU16(query, at + 1, type);
  putU16(query, at + 3, CLASS_IN);
  return query;
}

/** The question of a query with exactly one; undefined if it is none. */
export function parseQuestion(message: Uint8Array): DnsQuestion | undefined {
  if (message.length < HEADER || (message[2]! & 0xf8) !== 0 || u16(message, 4) !== 1) return undefined;
  return question(message);
}

function question(message: Uint8Array): DnsQuestion | undefined {
  const name = readName(message, HEADER);
  if (name === undefined || name.end + 4 > message.length) return undefined;
  return { name: name.text, type: u16(message, name.end), end: name.end + 4 };
}

function readName(message: Uint8Array, start: number): { text: string; end: number } | undefined {
  const labels: string[] = [];
  let at = start;
  let end: number | undefined;
  let total = 0;
  // Each pointer must go back, so that this ends.
  let before = start;
  for (;;) {
    const length = message[at];
    if (length === undefined) return undefined;
    if (length === 0) return { text: labels.join(".").toLowerCase(), end: end ?? at + 1 };
    if (length >= 0xc0) {
      if (at + 2 > message.length) return undefined;
      const target = u16(message, at) & 0x3fff;
      end ??= at + 2;
      if (target >= before) return undefined;
      before = target;
      at = target;
    } else if (length > 63 || at + 1 + length > message.length || (total += length + 1) > 255) {
      return undefined;
    } else {
      labels.push(String.fromCharCode(...message.subarray(at + 1, at + 1 + length)));
      at += 1 + length;
    }
  }
}

export interface DnsAddress {
  readonly address: string;
  readonly ttlSeconds: number;
}

/** The addresses that the answer to `asked` gives for its name, through its aliases. */
export function answeredAddresses(message: Uint8Array, asked: DnsQuestion): DnsAddress[] {
  const found = message.length >= HEADER ? question(message) : undefined;
  if (found?.name !== asked.name || (message[2]! & RESPONSE) === 0) return [];
  const names = new Set([asked.name]);
  const addresses: DnsAddress[] = [];
  let at = found.end;
  for (let left = Math.min(MAX_RECORDS, u16(message, 6)); left > 0; left--) {
    const owner = readName(message, at);
    if (owner === undefined || owner.end + 10 > message.length) break;
    const type = u16(message, owner.end);
    const ttlSeconds = u32(message, owner.end + 4);
    const start = owner.end + 10;
    const length = u16(message, owner.end + 8);
    if (start + length > message.length) break;
    if (names.has(owner.text)) {
      const size = type === TYPE_A ? 4 : type === TYPE_AAAA ? 16 : undefined;
      if (size === length)
        addresses.push({ address: ipText(message.slice(start, start + length)), ttlSeconds });
      const alias = type === TYPE_CNAME ? readName(message, start) : undefined;
      if (alias !== undefined) names.add(alias.text);
    }
    at = start + length;
  }
  return addresses;
}

/** An answer without records. */
export function emptyAnswer(query: Uint8Array, { end }: DnsQuestion, code: number): Uint8Array {
  return answerWith(query, end, code, []);
}

/** An answer with these addresses, of four or sixteen bytes each. */
export function addressAnswer(
  query: Uint8Array,
  asked: DnsQuestion,
  addresses: readonly Uint8Array[],
  ttlSeconds: number,
): Uint8Array {
  const fitting = addresses.filter(({ length }) => length === (asked.type === TYPE_A ? 4 : 16));
  return answerWith(
    query,
    asked.end,
    NOERROR,
    fitting.map((address) => {
      const record = new Uint8Array(HEADER + address.length);
      // The name is the question's.
      putU16(record, 0, 0xc000 | HEADER);
      putU16(record, 2, asked.type);
      putU16(record, 4, CLASS_IN);
      putU32(record, 6, ttlSeconds);
      putU16(record, 10, address.length);
      record.set(address, 12);
      return record;
    }),
  );
}

function answerWith(
  query: Uint8Array,
  end: number,
  code: number,
  records: readonly Uint8Array[],
): Uint8Array {
  const answer = new Uint8Array(end + records.reduce((sum, { length }) => sum + length, 0));
  answer.set(query.subarray(0, end));
  answer[2] = RESPONSE | (query[2]! & 1);
  answer[3] = 0x80 | code;
  answer.fill(0, 6, HEADER);
  putU16(answer, 6, records.length);
  let at = end;
  for (const record of records) {
    answer.set(record, at);
    at += record.length;
  }
  return answer;
}
/** For a client that takes at most so many bytes by UDP: the answer, or its head with the mark of a cut. */
export function cutForUdp(answer: Uint8Array, asked: DnsQuestion, maxBytes: number): Uint8Array {
  if (answer.length <= maxBytes) return answer;
  const cut = emptyAnswer(answer, asked, answer[3]! & 15);
  cut[2]! |= 2;
  return cut;
}
/** What a query's EDNS option (RFC 6891) lets an answer have; the option is the last record. */
export function udpLimit(query: Uint8Array, { end }: DnsQuestion): number {
  const hasOption =
    u16(query, 10) > 0 && query[end] === 0 && end + 5 <= query.length && u16(query, end + 1) === 41;
  return hasOption ? Math.max(512, u16(query, end + 3)) : 512;
}
