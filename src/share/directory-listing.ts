// A directory's entries with cookies that survive: an entry's cookie comes from its name alone, and entries
// are in the order of their cookies. So a guest that continues after a cookie misses nothing and sees nothing
// twice, whatever was created or removed meanwhile, and after the machine was saved, restored or moved.
import { Xxh32 } from "../base/xxh32.ts";
import { bytesOf } from "./byte-string.ts";

export interface ListedName {
  readonly cookie: bigint;
  readonly name: string;
}

/** "." and "..", whose cookies come first. */
const DOTS: readonly ListedName[] = [
  { cookie: 1n, name: "." },
  { cookie: 2n, name: ".." },
];
const FIRST = 3n;
/** A guest's off_t is signed. */
const BITS = 63;

const [high, low] = [new Xxh32(1), new Xxh32(2)];

export function cookieOf(name: string): bigint {
  const bytes = bytesOf(name);
  const hash =
    (BigInt(high.reset().update(bytes).digest()) << 32n) | BigInt(low.reset().update(bytes).digest());
  const cookie = BigInt.asUintN(BITS, hash);
  return cookie < FIRST ? cookie + FIRST : cookie;
}

/** The listing of a directory with these names. */
export function listing(names: readonly string[]): ListedName[] {
  const listed = names.map((name) => ({ cookie: cookieOf(name), name }));
  listed.sort((a, b) => (a.cookie === b.cookie ? (a.name < b.name ? -1 : 1) : a.cookie < b.cookie ? -1 : 1));
  // Two names with one hash: the second one's cookie is the next number.
  for (let i = 1; i < listed.length; i++) {
    const [before, { name, cookie }] = [listed[i - 1] as ListedName, listed[i] as ListedName];
    if (cookie <= before.cookie) listed[i] = { cookie: before.cookie + 1n, name };
  }
  return [...DOTS, ...listed];
}

/** The index of the first entry after a cookie; 0n is before the first. */
export function indexAfter(list: readonly ListedName[], cookie: bigint): number {
  let [from, to] = [0, list.length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if ((list[middle] as ListedName).cookie <= cookie) from = middle + 1;
    else to = middle;
  }
  return from;
}
