// RAM of a real QEMU's streams without its devices: from a stream into memory with the same blocks, and from
// memory into a stream whose other sections come from a QEMU's stream. Another QEMU judges it by loading it.
import { readdirSync } from "node:fs";
import { ByteReader } from "../../src/base/bytes.ts";
import { GuestMemory, PAGE_SIZE, type RamBlock } from "../../src/memory/guest-memory.ts";
import { readConfiguration, readFileHeader, writeConfiguration } from "../../src/stream/configuration.ts";
import type { Channel } from "../../src/stream/channel.ts";
import { defaultEnvironment } from "../../src/migration/environment/migration-environment.ts";
import { UnitLog } from "../../src/stream/integrity.ts";
import { MappedRamWriter } from "../../src/migration/ram/mapped-ram-save.ts";
import { type RamChannels, RamReader } from "../../src/migration/ram/ram-load.ts";
import { allPages, type QemuRamOptions, RamWriter } from "../../src/migration/ram/ram-save.ts";
import { StreamFacts } from "../../src/stream/stream-facts.ts";
import { StreamReader } from "../../src/stream/stream-reader.ts";
import { StreamWriter } from "../../src/stream/stream-writer.ts";
import { QEMU_VM, RAM_IDSTR } from "../../src/stream/wire.ts";
import { cache, qemu, type QemuRelease } from "../../tools/unpacked.ts";

/** The reason for skipping the tests with this release, if any. Fetches nothing. */
export function missing(release: QemuRelease): string | undefined {
  const folders = { "7.2": "qemu-7.2-", "10.0": "qemu-10.0-amd64", "11.1": "qemu-amd64" };
  const isCached = () => readdirSync(cache).some((name) => name.startsWith(folders[release]));
  try {
    if (release === "7.2" || isCached()) return undefined;
  } catch {
    // There is no cache.
  }
  return `QEMU ${release} is not in ${cache}: npx node tools/unpacked.ts fetches it`;
}

export const command = (release: QemuRelease): Promise<string[]> => qemu(release, "riscv64");

/** Zeroed memory of blocks of these names and sizes. */
export function memoryOf(blocks: readonly { readonly name: string; readonly size: number }[]): GuestMemory {
  let hostOffset = 0;
  const made: RamBlock[] = [];
  for (const { name, size } of blocks) {
    const dirty = new Int32Array(new SharedArrayBuffer(Math.ceil(size / PAGE_SIZE / 32) * 4));
    made.push({ name, size, guestPhys: 0, hostOffset, readonly: false, dirty });
    hostOffset += size;
  }
  return new GuestMemory(new SharedArrayBuffer(hostOffset), made);
}

export interface ReadRam {
  readonly memory: GuestMemory;
  readonly capabilities: readonly string[];
  /** Everything after RAM: commands and device sections. */
  readonly rest: Uint8Array;
}

/** Reads the head of a stream and all of its RAM; `blocks` must be those that the stream lists. */
export async function readRam(
  channel: Channel,
  blocks: readonly { readonly name: string; readonly size: number }[],
  channels?: RamChannels,
): Promise<ReadRam> {
  const stream = new StreamReader(channel);
  const facts = new StreamFacts();
  await readFileHeader(stream);
  await stream.nextU8();
  await readConfiguration(stream, facts, { machine: () => {}, subsection: () => {} });
  const memory = memoryOf(blocks);
  const qemuRam = { droppedBlock: () => undefined, channels };
  const ram = new RamReader(memory, stream, new UnitLog(), facts, qemuRam);
  for (let type = 0; type !== QEMU_VM.SECTION_END; ) {
    await stream.need(5);
    type = stream.u8();
    if (type === QEMU_VM.COMMAND) {
      stream.skip(2);
      const length = stream.u16();
      await stream.need(length);
      stream.skip(length);
      continue;
    }
    stream.skip(4);
    if (type === QEMU_VM.SECTION_START) {
      await stream.need(1 + RAM_IDSTR.length + 8);
      stream.skip(1 + RAM_IDSTR.length + 8);
    } else if (type !== QEMU_VM.SECTION_PART && type !== QEMU_VM.SECTION_END) throw new Error(`type ${type}`);
    await ram.records();
    await stream.need(5);
    stream.skip(5);
  }
  ram.complete();
  const rest: Uint8Array[] = [];
  do {
    rest.push(stream.bytes(stream.available).slice());
  } while (await stream.more());
  await channel.close();
  return { memory, capabilities: [...facts.capabilities], rest: Buffer.concat(rest) };
}

/** The blocks that a plain stream of QEMU lists. */
export function blocksOf(stream: Uint8Array): { name: string; size: number }[] {
  const reader = new ByteReader(stream);
  reader.bytes(9);
  reader.bytes(reader.u32());
  reader.bytes(1 + 4);
  reader.countedString();
  reader.bytes(8);
  let left = Number(reader.u64() & ~0xfffn);
  const blocks: { name: string; size: number }[] = [];
  while (left > 0) {
    const block = { name: reader.countedString(), size: Number(reader.u64()) };
    blocks.push(block);
    left -= block.size;
  }
  return blocks;
}

/** A stream with this RAM and the sections of another. Sends all pages `rounds` times. */
export async function writeRam(
  channel: Channel,
  ram: ReadRam,
  form: Omit<QemuRamOptions, "mapped"> & { readonly mapped?: boolean; readonly rounds?: number },
): Promise<void> {
  const stream = new StreamWriter(channel);
  const capabilities = form.mapped === true ? ["mapped-ram"] : [];
  writeConfiguration(stream.out, { machine: "virt", capabilities });
  const mapped = form.mapped === true ? new MappedRamWriter(stream) : undefined;
  const writer = new RamWriter(ram.memory, stream, new UnitLog(), defaultEnvironment, 1, { ...form, mapped });
  await writer.start();
  const pages = allPages(ram.memory);
  for (let round = 1; round < (form.rounds ?? 1); round++) {
    await writer.pages(QEMU_VM.SECTION_PART, pages, () => {});
  }
  await writer.pages(QEMU_VM.SECTION_END, pages, () => {});
  stream.out.bytes(ram.rest);
  await stream.drain();
}
