// How many harts and how much memory a saved machine has, from both ends of its stream, Wherry's or QEMU's:
// the list of RAM blocks is at its start, the VMDESCRIPTION, which names a section for each hart, at its end.
import { WherryError } from "../base/errors.ts";
import { type ByteSource, bytesSource } from "../inspect/read/byte-source.ts";
import { findDescription } from "../inspect/read/find-description.ts";
import { virtRamBlocks } from "../machines/virt.ts";
import { readCommand } from "../stream/commands.ts";
import { readConfiguration, readFileHeader } from "../stream/configuration.ts";
import { readRamList } from "../stream/ram-list.ts";
import { readSectionHead } from "../stream/section-frame.ts";
import { StreamFacts } from "../stream/stream-facts.ts";
import { StreamReader } from "../stream/stream-reader.ts";
import { QEMU_VM } from "../stream/wire.ts";

export interface SavedHardware {
  readonly harts?: number;
  readonly memoryBytes?: number;
}

const [RAM] = virtRamBlocks(2 ** 21);
/** Commands before the start of RAM: a few. */
const MAX_PARTS = 16;

/**
 * What the stream tells; nothing where it is a pipe, damaged or cut, which the load then reports with the
 * place.
 */
export async function savedHardware(state: Uint8Array | ByteSource): Promise<SavedHardware> {
  const source = state instanceof Uint8Array ? bytesSource(state) : state;
  if (source.size === undefined) return {};
  const [harts, memoryBytes] = await Promise.all([
    hartsOf(source).catch(() => undefined),
    memoryOf(source).catch(() => undefined),
  ]);
  return {
    ...(harts === undefined ? {} : { harts }),
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
  };
}

async function hartsOf(source: ByteSource): Promise<number | undefined> {
  const found = await findDescription(source, 0);
  return found?.description.devices.filter(({ name }) => name === "cpu").length || undefined;
}

async function memoryOf(source: ByteSource): Promise<number | undefined> {
  let at = 0;
  const stream = new StreamReader({
    async read(target) {
      const got = await source.read(at, target);
      at += got;
      return got;
    },
    write: async () => {},
    close: async () => {},
    abort: () => {},
  });
  const facts = new StreamFacts();
  await readFileHeader(stream);
  await stream.nextU8();
  await readConfiguration(stream, facts, { machine: () => {}, subsection: () => {} });
  for (let part = 0; part < MAX_PARTS; part++) {
    const { offset } = stream;
    const type = await stream.nextU8();
    if (type === QEMU_VM.COMMAND) await readCommand(stream, offset);
    else if (type === QEMU_VM.SECTION_START) break;
    else return undefined;
  }
  await readSectionHead(stream);
  const total = Number((await stream.nextU64()) & ~0xfffn);
  let memoryBytes: number | undefined;
  // With mapped-ram, the list goes on after each block's pages; RAM, the largest block, is the first there.
  await readRamList(stream, facts, total, ({ name, size }) => {
    if (name !== RAM?.name) return;
    memoryBytes = size;
    throw new Error("found");
  }).catch(() => {});
  return memoryBytes;
}

/** Where neither the options nor the saved machine tell: the command line's defaults. */
const DEFAULTS = { harts: 1, memoryBytes: 512 * 2 ** 20 };

/** The hardware's size, from the options or the saved machine. Without both, rejects with WherryError. */
export async function sizeOf(
  { harts, memoryBytes }: { readonly harts?: number | undefined; readonly memoryBytes?: number | undefined },
  saved: (() => Promise<SavedHardware>) | undefined,
): Promise<Required<SavedHardware>> {
  if (harts !== undefined && memoryBytes !== undefined) return { harts, memoryBytes };
  if (saved === undefined) {
    const missing = harts === undefined ? "harts" : "memoryBytes";
    throw new WherryError("options.missing", `${missing} is missing`);
  }
  const found = { ...DEFAULTS, ...(await saved()) };
  return { harts: harts ?? found.harts, memoryBytes: memoryBytes ?? found.memoryBytes };
}
