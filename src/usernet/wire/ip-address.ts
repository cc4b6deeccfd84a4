// IPv4 and IPv6 addresses: bytes in packets, text everywhere else.

/** An Ethernet address, six bytes. */
export type Mac = Uint8Array;

export function ipText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! << 8) | bytes[2 * i + 1]!);
  // RFC 5952: the longest run of at least two zeros becomes "::".
  let [start, length] = [-1, 1];
  for (let i = 0; i < 8; i++) {
    let n = 0;
    while (i + n < 8 && groups[i + n] === 0) n++;
    if (n > length) [start, length] = [i, n];
  }
  const hex = (some: readonly number[]): string => some.map((group) => group.toString(16)).join(":");
  return start < 0 ? hex(groups) : `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
}

/** Undefined if the text is no IPv4 or IPv6 address. */
export function parseIp(text: string): Uint8Array | undefined {
  return text.includes(":") ? parseIpv6(text) : parseIpv4(text);
}

function parseIpv4(text: string): Uint8Array | undefined {
  if (!/^\d{1,3}(\.\d{1,3}){3}$/.test(text)) return undefined;
  const bytes = text.split(".").map(Number);
  return bytes.every((byte) => byte <= 255) ? Uint8Array.from(bytes) : undefined;
}

function parseIpv6(text: string): Uint8Array | undefined {
  const last = /^(.*:)([\d.]+)$/.exec(text);
  const v4 = last?.[2]?.includes(".") === true ? parseIpv4(last[2]) : undefined;
  if (text.includes(".") && v4 === undefined) return undefined;
  const tail = v4 && `${((v4[0]! << 8) | v4[1]!).toString(16)}:${((v4[2]! << 8) | v4[3]!).toString(16)}`;
  const [head = "", rest, ...more] = (tail === undefined ? text : `${last?.[1]}${tail}`).split("::");
  if (more.length > 0) return undefined;
  const groups = (part: string): string[] => (part === "" ? [] : part.split(":"));
  const before = groups(head);
  const after = groups(rest ?? "");
  const missing = 8 - before.length - after.length;
  if (rest === undefined ? missing !== 0 : missing < 1) return undefined;
  const all = [...before, ...Array<string>(missing).fill("0"), ...after];
  if (!all.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return undefined;
  return Uint8Array.from(
    all.flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 255]),
  );
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** A network such as 10.0.2.0/24. */
export class Subnet {
  readonly address: Uint8Array;
  readonly bits: number;

  private constructor(address: Uint8Array, bits: number) {
    this.address = address;
    this.bits = bits;
  }

  /** `ADDRESS[/BITS]`; undefined if it is none. The bits behind the prefix are kept. */
  static parse(text: string): Subnet | undefined {
    const [, place = "", bits] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
    const address = parseIp(place);
    if (address === undefined) return undefined;
    const length = bits === undefined ? address.length * 8 : Number(bits);
    return length > address.length * 8 ? undefined : new Subnet(address, length);
  }

  contains(address: Uint8Array): boolean {
    if (address.length !== this.address.length) return false;
    for (let i = 0; i < address.length; i++) {
      const bits = Math.min(8, Math.max(0, this.bits - 8 * i));
      if (((address[i]! ^ this.address[i]!) & (0xff << (8 - bits)) & 0xff) !== 0) return false;
    }
    return true;
  }

  /** The prefix with this number in the last byte. */
  host(last: number): Uint8Array {
    const bytes = this.address.map(
      (byte, i) => byte & (0xff << (8 - Math.min(8, Math.max(0, this.bits - 8 * i)))),
    );
    bytes[bytes.length - 1]! |= last;
    return bytes;
  }

  get mask(): Uint8Array {
    return this.address.map((_, i) => 0xff << (8 - Math.min(8, Math.max(0, this.bits - 8 * i))));
  }
  get broadcast(): Uint8Array {
    return this.address.map((byte, i) => byte | ~this.mask[i]!);
  }
}

const subnets = (...texts: string[]): Subnet[] => texts.map((text) => Subnet.parse(text)!);

/** 0.0.0.0 and :: connect to the host itself, as do IPv4 addresses inside of IPv6 ones. */
const LOOPBACK = subnets("127.0.0.0/8", "0.0.0.0/8", "::1", "::");
const MAPPED = subnets("::ffff:0:0/96", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16");
const LINK_LOCAL = subnets("169.254.0.0/16", "fe80::/10");
const MANY = subnets("224.0.0.0/4", "240.0.0.0/4", "ff00::/8");

export type AddressKind = "loopback" | "mapped" | "link-local" | "multicast" | "ordinary";

export function addressKind(address: Uint8Array): AddressKind {
  const within = (some: readonly Subnet[]): boolean => some.some((subnet) => subnet.contains(address));
  if (within(LOOPBACK)) return "loopback";
  if (within(MAPPED)) return "mapped";
  if (within(LINK_LOCAL)) return "link-local";
  return within(MANY) ? "multicast" : "ordinary";
}
