// Seeds of the fuzzer: a stream, and the places of its parts, so that a mutation hits a length, a name or a
// flag instead of random bytes. Synthesised here: every encoding of RAM, commands, and a device section.
import { ByteWriter } from "../../../src/base/bytes.ts";
import { encodeUtf8 } from "../../../src/base/text.ts";
import { MULTIFD_MAGIC } from "../../../src/stream/multifd-packet.ts";
import { MIG_CMD, QEMU_VM, RAM_SAVE_FLAG } from "../../../src/stream/wire.ts";

/**
 * `length` counts the bytes after it; `json` is a VMDESCRIPTION with its length; `part` contains other spots.
 */
export type SpanKind = "int" | "length" | "name" | "flags" | "bytes" | "json" | "part";

export interface Span {
  readonly at: number;
  readonly size: number;
  readonly kind: SpanKind;
}

export interface Seed {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** By place; at one place, the outermost first. */
  readonly spans: readonly Span[];
  /** The parsed VMDESCRIPTION. */
  readonly description: unknown;
}

const PAGE = 4096;

/** Writes a stream and records its spots. */
export class Draft {
  readonly out = new ByteWriter();
  readonly #spans: Span[] = [];
  description: unknown;

  #note<T>(kind: SpanKind, write: () => T): T {
    const at = this.out.length;
    const index = this.#spans.length;
    const result = write();
    this.#spans.splice(index, 0, { at, size: this.out.length - at, kind });
    return result;
  }
  part(write: () => void): this {
    this.#note("part", write);
    return this;
  }
  u8(value: number, kind: SpanKind = "int"): this {
    this.#note(kind, () => this.out.u8(value));
    return this;
  }
  u16(value: number, kind: SpanKind = "int"): this {
    this.#note(kind, () => this.out.u16(value));
    return this;
  }
  u32(value: number, kind: SpanKind = "int"): this {
    this.#note(kind, () => this.out.u32(value));
    return this;
  }
  u64(value: bigint | number, kind: SpanKind = "int"): this {
    this.#note(kind, () => this.out.u64(BigInt(value)));
    return this;
  }
  bytes(value: Uint8Array): this {
    this.#note("bytes", () => this.out.bytes(value));
    return this;
  }
  name(value: string): this {
    this.#note("name", () => this.out.countedString(value));
    return this;
  }

  header(machine = "virt"): this {
    this.part(() => this.u32(0x5145564d).u32(3));
    return this.part(() => {
      this.u8(QEMU_VM.CONFIGURATION).u32(machine.length, "length").bytes(encodeUtf8(machine));
    });
  }
  subsection(name: string, version: number, write: () => void): this {
    return this.part(() => {
      this.u8(QEMU_VM.SUBSECTION).name(name).u32(version);
      write();
    });
  }
  section(type: number, id: number, name: string, version: number, write: () => void): this {
    return this.part(() => {
      this.u8(type).u32(id);
      if (type === QEMU_VM.SECTION_START || type === QEMU_VM.SECTION_FULL)
        this.name(name).u32(0).u32(version);
      write();
      this.u8(QEMU_VM.SECTION_FOOTER).u32(id);
    });
  }
  command(command: number, data: Uint8Array = new Uint8Array(0)): this {
    return this.part(() => this.u8(QEMU_VM.COMMAND).u16(command).u16(data.length, "length").bytes(data));
  }
  /** Writes one 64-bit word of RAM's records. */
  flags(offset: number, flags: number): this {
    return this.u64(BigInt(offset) | BigInt(flags), "flags");
  }
  end(description?: unknown): this {
    this.u8(QEMU_VM.EOF);
    if (description === undefined) return this;
    this.description = description;
    this.#note("json", () => {
      const text = encodeUtf8(JSON.stringify(description));
      this.out.u8(QEMU_VM.VMDESCRIPTION).u32(text.length).bytes(text);
    });
    return this;
  }
  seed(name: string): Seed {
    return { name, bytes: this.out.finish(), spans: this.#spans, description: this.description };
  }
}

const BLOCKS = [
  ["riscv_virt_board.ram", 16],
  ["virt.flash0", 2],
  ["riscv_virt_board.mrom", 3],
] as const;

function blockList(draft: Draft, extra: (index: number, size: number) => void = () => {}): void {
  const total = BLOCKS.reduce((sum, [, pages]) => sum + pages * PAGE, 0);
  draft.part(() => {
    draft.flags(total, RAM_SAVE_FLAG.MEM_SIZE);
    for (const [index, [name, pages]] of BLOCKS.entries()) {
      draft.part(() => {
        draft.name(name).u64(pages * PAGE, "length");
        extra(index, pages * PAGE);
      });
    }
  });
}

function page(draft: Draft, kind: number, block: string, offset: number, data: () => void): void {
  draft.part(() => {
    draft.flags(offset, kind | (block === "" ? RAM_SAVE_FLAG.CONTINUE : 0));
    if (block !== "") draft.name(block);
    data();
  });
}

const CONTENT = Uint8Array.from({ length: PAGE }, (_, i) => (i % 64 === 0 ? i >> 6 : 0));

function pages(draft: Draft): void {
  page(draft, RAM_SAVE_FLAG.PAGE, BLOCKS[0][0], 0, () => draft.bytes(CONTENT));
  for (let i = 1; i < 16; i++) page(draft, RAM_SAVE_FLAG.ZERO, "", i * PAGE, () => draft.u8(0));
  for (const [name, count] of BLOCKS.slice(1)) {
    for (let i = 0; i < count; i++)
      page(draft, RAM_SAVE_FLAG.ZERO, i === 0 ? name : "", i * PAGE, () => draft.u8(0));
  }
}

const eos = (draft: Draft): Draft => draft.flags(0, RAM_SAVE_FLAG.EOS);

/** RAM in its usual form: list, pages in parts, end. */
function ram(draft: Draft, records: (draft: Draft) => void = pages, ends = true): void {
  draft.section(QEMU_VM.SECTION_START, 2, "ram", 4, () => {
    blockList(draft);
    eos(draft);
  });
  draft.section(QEMU_VM.SECTION_PART, 2, "ram", 4, () => {
    records(draft);
    eos(draft);
  });
  if (!ends) return;
  draft.section(QEMU_VM.SECTION_END, 2, "ram", 4, () => {
    page(draft, RAM_SAVE_FLAG.ZERO, BLOCKS[0][0], PAGE, () => draft.u8(0));
    eos(draft);
  });
}

const DELTA = Uint8Array.of(3, 2, 0xaa, 0xbb, 0x80, 0x01, 1, 0xcc);

function xbzrle(draft: Draft): void {
  pages(draft);
  page(draft, RAM_SAVE_FLAG.XBZRLE, BLOCKS[0][0], 0, () =>
    draft.u8(1).u16(DELTA.length, "length").bytes(DELTA),
  );
  page(draft, RAM_SAVE_FLAG.XBZRLE, "", 0, () =>
    draft
      .u8(1)
      .u16(3, "length")
      .bytes(Uint8Array.of(0, 1, 0xdd)),
  );
}

function mappedRam(draft: Draft): void {
  draft.section(QEMU_VM.SECTION_START, 2, "ram", 4, () => {
    blockList(draft, (_, size) => {
      const at = draft.out.length + 28;
      const bitmapBytes = 8;
      const pagesAt = Math.ceil((at + bitmapBytes) / PAGE) * PAGE;
      draft.part(() => draft.u32(1).u64(PAGE).u64(at).u64(pagesAt));
      draft.bytes(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
      draft.bytes(new Uint8Array(pagesAt - draft.out.length));
      draft.bytes(new Uint8Array(size));
    });
    eos(draft);
  });
  draft.section(QEMU_VM.SECTION_END, 2, "ram", 4, () => eos(draft));
}

const DEVICE = {
  name: "toy",
  instance_id: 0,
  vmsd_name: "toy",
  version: 2,
  fields: [
    { name: "count", type: "uint32", size: 4 },
    { name: "on", type: "bool", size: 1 },
    { name: "regs", array_len: 3, type: "uint64", size: 8 },
    {
      name: "entries",
      array_len: 2,
      type: "struct",
      struct: {
        vmsd_name: "toy/entry",
        version: 1,
        fields: [
          { name: "addr", type: "uint64", size: 8 },
          { name: "cfg", type: "uint8", size: 1 },
        ],
      },
      size: 9,
    },
    { name: "name", type: "buffer", size: 4 },
    { name: "unused", type: "unused_buffer", size: 2 },
  ],
  subsections: [
    { vmsd_name: "toy/more", version: 1, fields: [{ name: "delta", type: "int64", size: 8 }] },
    { vmsd_name: "toy/most", version: 3, fields: [{ name: "timer", type: "timer", size: 8 }] },
  ],
};
const DESCRIPTION = {
  configuration: {
    vmsd_name: "configuration",
    version: 1,
    fields: [
      { name: "len", type: "uint32", size: 4 },
      { name: "name", type: "buffer", size: 4 },
    ],
  },
  page_size: PAGE,
  devices: [DEVICE],
};

function device(draft: Draft): void {
  draft.section(QEMU_VM.SECTION_FULL, 3, "toy", 2, () => {
    draft.u32(5, "length").u8(1).u64(1).u64(2).u64(3);
    for (let i = 0; i < 2; i++) draft.part(() => draft.u64(0x1000).u8(i));
    draft.bytes(encodeUtf8("wave")).bytes(new Uint8Array(2));
    draft.subsection("toy/more", 1, () => draft.u64(2n ** 64n - 5n));
    draft.subsection("toy/most", 3, () => draft.u64(2n ** 64n - 1n));
  });
  draft.section(QEMU_VM.SECTION_FULL, 4, "globalstate", 1, () => {
    const state = new Uint8Array(100);
    state.set(encodeUtf8("running"));
    draft.u32(8, "length").bytes(state);
  });
}

function whole(name: string, write: (draft: Draft) => void, description: unknown = DESCRIPTION): Seed {
  const draft = new Draft();
  draft.header();
  write(draft);
  return draft.end(description).seed(name);
}

/** Bytes of a multifd channel: packets with plain, zero and compressed pages, and a synchronisation point. */
function multifdChannel(): Seed {
  const draft = new Draft();
  draft.part(() =>
    draft.u32(MULTIFD_MAGIC, "flags").u32(1).bytes(new Uint8Array(16)).u8(0).bytes(new Uint8Array(39)),
  );
  const packet = (flags: number, offsets: readonly number[], zeros: readonly number[], payload: Uint8Array) =>
    draft.part(() => {
      draft.u32(MULTIFD_MAGIC).u32(1).u32(flags, "flags").u32(128, "length");
      draft.u32(offsets.length, "length").u32(payload.length, "length").u64(1).u32(zeros.length, "length");
      draft.bytes(new Uint8Array(28));
      const name = new Uint8Array(256);
      name.set(encodeUtf8(BLOCKS[0][0]));
      draft.bytes(name);
      for (const offset of [...offsets, ...zeros]) draft.u64(offset);
      draft.bytes(new Uint8Array(8 * (128 - offsets.length - zeros.length)));
      draft.bytes(payload);
    });
  packet(0, [PAGE], [2 * PAGE, 3 * PAGE], CONTENT);
  packet(2, [4 * PAGE], [], new Uint8Array(100).fill(3));
  packet(1, [], [], new Uint8Array(0));
  packet(1, [], [0], new Uint8Array(0));
  return draft.seed("multifd-channel");
}

/** Seeds of every form, a few kilobytes each. */
export function synthesised(): Seed[] {
  return [
    whole("devices", device),
    whole("ram", (draft) => {
      ram(draft);
      device(draft);
    }),
    whole("xbzrle", (draft) => {
      ram(draft, xbzrle);
      device(draft);
    }),
    whole("mapped-ram", (draft) => {
      draft.subsection("configuration/capabilities", 1, () => draft.u32(1, "length").name("mapped-ram"));
      mappedRam(draft);
      device(draft);
    }),
    whole("ignore-shared", (draft) => {
      draft.subsection("configuration/capabilities", 1, () => draft.u32(1, "length").name("x-ignore-shared"));
      draft.section(QEMU_VM.SECTION_START, 2, "ram", 4, () => {
        blockList(draft, () => draft.u64(0x8000_0000));
        eos(draft);
      });
      draft.section(QEMU_VM.SECTION_END, 2, "ram", 4, () => eos(draft));
      device(draft);
    }),
    whole(
      "postcopy",
      (draft) => {
        draft.command(MIG_CMD.OPEN_RETURN_PATH);
        draft.command(MIG_CMD.PING, Uint8Array.of(0, 0, 0, 1));
        draft.command(MIG_CMD.POSTCOPY_ADVISE, new Uint8Array(16).fill(16, 6, 7).fill(16, 14, 15));
        ram(draft, pages, false);
        const discard = new Draft();
        discard.u8(0).name(BLOCKS[0][0]).u8(0).u64(0).u64(PAGE);
        draft.command(MIG_CMD.POSTCOPY_RAM_DISCARD, discard.out.finish());
        const inner = new Draft();
        inner.command(MIG_CMD.POSTCOPY_LISTEN);
        device(inner);
        inner.command(MIG_CMD.POSTCOPY_RUN);
        const packaged = inner.out.finish();
        draft.part(() => {
          const size = new ByteWriter().u32(packaged.length).finish();
          draft.command(MIG_CMD.PACKAGED, size).bytes(packaged);
        });
        draft.section(QEMU_VM.SECTION_END, 2, "ram", 4, () => {
          page(draft, RAM_SAVE_FLAG.PAGE, BLOCKS[0][0], 0, () => draft.bytes(CONTENT));
          eos(draft);
        });
      },
      undefined,
    ),
    whole("multifd-main", (draft) => {
      draft.section(QEMU_VM.SECTION_START, 2, "ram", 4, () => {
        blockList(draft);
        draft.flags(0, RAM_SAVE_FLAG.MULTIFD_FLUSH);
        eos(draft);
      });
      draft.section(QEMU_VM.SECTION_END, 2, "ram", 4, () => {
        draft.flags(0, RAM_SAVE_FLAG.MULTIFD_FLUSH);
        eos(draft);
      });
      draft.command(MIG_CMD.SWITCHOVER_START);
      device(draft);
    }),
    multifdChannel(),
    ...odd(),
  ];
}

/** A stream without configuration and description, with other sections with parts. */
function odd(): Seed[] {
  const bare = new Draft();
  bare.part(() => bare.u32(0x5145564d).u32(3));
  device(bare);
  const iterative = new Draft().header();
  iterative.section(QEMU_VM.SECTION_START, 5, "dirty-bitmap", 1, () => iterative.u8(1, "flags"));
  iterative.section(QEMU_VM.SECTION_START, 6, "spapr/htab", 1, () => iterative.u32(24));
  iterative.section(QEMU_VM.SECTION_END, 6, "spapr/htab", 1, () => {
    iterative.u32(0).u32(7).u16(1, "length").u16(2, "length").bytes(new Uint8Array(16)).u32(0).u16(0).u16(0);
  });
  iterative.section(QEMU_VM.SECTION_START, 7, "s390-storage_attributes", 0, () => {
    iterative.u64(2, "flags").u64(16, "length").bytes(new Uint8Array(16)).u64(1, "flags");
  });
  iterative.section(QEMU_VM.SECTION_START, 8, "block", 1, () => iterative.u64(2, "flags"));
  return [bare.end().seed("bare"), iterative.end(DESCRIPTION).seed("iterative")];
}
