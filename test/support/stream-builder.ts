// Migration streams built by hand, byte by byte, for tests of their reader: valid ones, and ones that QEMU
// would not write.
import { ByteWriter } from "../../src/base/bytes.ts";
import { encodeUtf8 } from "../../src/base/text.ts";

export const PAGE = 4096;

/** A page whose bytes are not all the same. */
export function pageOf(seed: number, size = PAGE): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = seed * 31 + i * 7;
  return bytes;
}

export class StreamBuilder {
  readonly out = new ByteWriter();
  readonly devices: unknown[] = [];
  readonly footers: boolean;

  constructor(footers = true) {
    this.footers = footers;
    this.out.u32(0x5145564d).u32(3);
  }
  get length(): number {
    return this.out.length;
  }

  configuration(machine: string): this {
    const name = encodeUtf8(machine);
    this.out.u8(7).u32(name.length).bytes(name);
    return this;
  }
  capabilities(...names: string[]): this {
    this.out.u8(5).countedString("configuration/capabilities").u32(1).u32(names.length);
    for (const name of names) this.out.countedString(name);
    return this;
  }
  pageBits(bits: number): this {
    this.out.u8(5).countedString("configuration/target-page-bits").u32(1).u32(bits);
    return this;
  }
  command(number: number, data: Uint8Array = new Uint8Array(0)): this {
    this.out.u8(8).u16(number).u16(data.length).bytes(data);
    return this;
  }

  /** A section; `type` 1 START, 2 PART, 3 END, 4 FULL. */
  section(
    type: number,
    id: number,
    idstr: string,
    version: number,
    write: (out: ByteWriter) => void,
    instance = 0,
  ): this {
    this.out.u8(type).u32(id);
    if (type === 1 || type === 4) this.out.countedString(idstr).u32(instance).u32(version);
    write(this.out);
    if (this.footers) this.out.u8(0x7e).u32(id);
    return this;
  }
  /** RAM's START with the list of blocks; `extra` writes what capabilities add to each. */
  ramStart(blocks: Readonly<Record<string, number>>, extra: (out: ByteWriter) => void = () => {}): this {
    return this.section(1, 1, "ram", 4, (out) => {
      const total = Object.values(blocks).reduce((sum, size) => sum + size, 0);
      out.u64(BigInt(total) | 4n);
      for (const [name, size] of Object.entries(blocks)) {
        out.countedString(name).u64(BigInt(size));
        extra(out);
      }
      out.u64(0x10n);
    });
  }
  ramPart(write: (out: ByteWriter) => void, type = 2): this {
    return this.section(type, 1, "ram", 4, (out) => {
      write(out);
      out.u64(0x10n);
    });
  }
  /** A device section with its description. */
  device(
    id: number,
    idstr: string,
    description: Readonly<Record<string, unknown>>,
    write: (out: ByteWriter) => void,
    instance = 0,
  ): this {
    this.devices.push({ name: idstr, instance_id: instance, vmsd_name: idstr, version: 1, ...description });
    return this.section(4, id, idstr, 1, write, instance);
  }

  eof(): this {
    this.out.u8(0);
    return this;
  }
  /** EOF and the VMDESCRIPTION; `json` instead of what the devices make. */
  end(json = JSON.stringify({ page_size: PAGE, devices: this.devices })): Uint8Array<ArrayBuffer> {
    const text = encodeUtf8(json);
    this.eof().out.u8(6).u32(text.length).bytes(text);
    return this.out.finish();
  }
}

export function page(out: ByteWriter, block: string | undefined, offset: number, bytes: Uint8Array): void {
  out.u64(BigInt(offset) | (block === undefined ? 0x28n : 0x08n));
  if (block !== undefined) out.countedString(block);
  out.bytes(bytes);
}
export function zeroPage(out: ByteWriter, block: string | undefined, offset: number, fill = 0): void {
  out.u64(BigInt(offset) | (block === undefined ? 0x22n : 0x02n));
  if (block !== undefined) out.countedString(block);
  out.u8(fill);
}

/**
 * A small machine with every kind of content: two blocks, a device with a subsection, one with parts of all
 * kinds.
 */
export function smallStream(footers = true): StreamBuilder {
  const stream = new StreamBuilder(footers).configuration("pc-test-1.0");
  stream.ramStart({ "pc.ram": 8 * PAGE, "pc.rom": 2 * PAGE });
  stream.ramPart((out) => {
    page(out, "pc.ram", 0, pageOf(1));
    page(out, undefined, PAGE, pageOf(2));
    zeroPage(out, undefined, 2 * PAGE);
    zeroPage(out, "pc.rom", 0, 0xff);
  });
  stream.ramPart((out) => {
    page(out, "pc.ram", PAGE, pageOf(3));
  }, 3);
  stream.device(
    2,
    "timer",
    {
      fields: [
        { name: "ticks", type: "int64", size: 8 },
        { name: "regs", array_len: 3, type: "uint16", size: 2 },
        { name: "on", type: "bool", size: 1 },
        { name: "id", type: "buffer", size: 4 },
        {
          name: "queue",
          type: "struct",
          struct: { vmsd_name: "queue", version: 2, fields: [{ name: "head", type: "uint32", size: 4 }] },
          size: 4,
        },
      ],
      subsections: [{ vmsd_name: "timer/extra", version: 3, fields: [{ name: "x", type: "int8", size: 1 }] }],
    },
    (out) => {
      out.u64(0xffff_ffff_ffff_fffen).u16(1).u16(2).u16(3).u8(1).bytes(encodeUtf8("abcd")).u32(77);
      out.u8(5).countedString("timer/extra").u32(3).u8(0xff);
    },
  );
  stream.device(3, "serial", { fields: [{ name: "lsr", type: "uint8", size: 1 }] }, (out) => out.u8(0x60), 1);
  return stream;
}
