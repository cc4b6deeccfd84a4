// The positions of the sections in a saved stream of Wherry, found without the product's reader: RAM by its
// records, device sections by name and order in the VMDESCRIPTION (QEMU's docs/devel/migration).

export interface Span {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

const FULL = 0x04;
const FOOTER = 0x7e;
const VMDESCRIPTION = 0x06;
const PAGE_SIZE = 4096;
const SIZE = 0x04;
const ZERO = 0x02;
const PAGE = 0x08;
const EOS = 0x10;
const CONTINUE = 0x20;

/** The spans of the whole file, in order and without gaps. Throws if the file is not one of Wherry's. */
export function spansOf(file: Buffer): Span[] {
  const json = file.lastIndexOf('{"configuration"');
  const devices = (
    JSON.parse(file.subarray(json).toString()) as { devices: { name: string; instance_id: number }[] }
  ).devices;
  const spans: Span[] = [];
  let at = 0;
  const add = (name: string, end: number): void => {
    spans.push({ name, start: at, end });
    at = end;
  };
  add("header", 8);
  add("configuration", file.indexOf(ramHeader()) - 5);
  for (let part = 0; file[at] !== FULL; part++)
    add("ram", ramEnd(file, part === 0 ? at + 5 + 4 + 8 : at + 5));
  for (const [i, { name, instance_id }] of devices.entries()) {
    const next = devices[i + 1];
    const end = next === undefined ? json - 6 : file.indexOf(header(next.name, next.instance_id), at) - 5;
    if (end < at || file[end - 5] !== FOOTER) throw new Error(`no end of section ${name}/${instance_id}`);
    add(`${name}/${instance_id}`, end);
  }
  add("end", json - 5);
  if (file[at] !== VMDESCRIPTION) throw new Error("no VMDESCRIPTION");
  add("vmdescription", file.length);
  return spans;
}

function header(name: string, instanceId: number): Buffer {
  const bytes = Buffer.alloc(1 + name.length + 4);
  bytes.writeUInt8(name.length);
  bytes.write(name, 1, "latin1");
  bytes.writeUInt32BE(instanceId, 1 + name.length);
  return bytes;
}

function ramHeader(): Buffer {
  return header("ram", 0);
}

/** The end of a RAM part whose records begin at `at`, footer included. */
function ramEnd(file: Buffer, at: number): number {
  for (;;) {
    const record = file.readBigUInt64BE(at);
    const flags = Number(record & 0xfffn);
    at += 8;
    if (flags === EOS) return at + 5;
    if (flags === SIZE) {
      for (let left = Number(record - BigInt(flags)); left > 0; ) {
        at += 1 + (file[at] as number);
        left -= Number(file.readBigUInt64BE(at));
        at += 8;
      }
      continue;
    }
    if ((flags & CONTINUE) === 0) at += 1 + (file[at] as number);
    if ((flags & ~CONTINUE) === PAGE) at += PAGE_SIZE;
    else if ((flags & ~CONTINUE) === ZERO) at += 1;
    else throw new Error(`unknown RAM record ${flags.toString(16)} at ${at - 8}`);
  }
}
