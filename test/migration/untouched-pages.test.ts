// Pages that were never written are zero. They are neither read nor written by a save, a load or a move: in
// these tests, such pages hold bytes that nobody wrote, which must not be noticed, and must stay.
import { describe, expect, test } from "vitest";
import { PAGE_SIZE, type RamBlock } from "../../src/memory/guest-memory.ts";
import { defaultEnvironment } from "../../src/migration/environment/migration-environment.ts";
import { allPages } from "../../src/migration/ram/ram-save.ts";
import { StreamSaver } from "../../src/migration/save/save-stream.ts";
import { loadSnapshot, saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { bytesSource } from "../../src/inspect/read/byte-source.ts";
import { diffRam, readWithRam } from "../../src/inspect/diff/diff-ram.ts";
import { StreamWriter } from "../../src/stream/stream-writer.ts";
import { QEMU_VM } from "../../src/stream/wire.ts";
import { FakeMachine } from "../support/fake-machine.ts";
import { memorySink, memorySource } from "../support/fake-network.ts";

const BYTE = 0xa5;

/** An empty machine, whose hart does not judge its memory. */
function machine(ramPages = 2048): { machine: FakeMachine; ram: RamBlock } {
  const made = new FakeMachine({ fill: 0, ramPages });
  made.memoryHash = () => 0;
  return { machine: made, ram: made.memory.blocks[0] as RamBlock };
}

function spoil({ machine: { memory }, ram }: ReturnType<typeof machine>): void {
  memory.bytes.fill(BYTE, ram.hostOffset, ram.hostOffset + ram.size);
}

const page = (byte: number) => new Uint8Array(PAGE_SIZE).fill(byte);

describe("a snapshot", () => {
  test("has the written pages only, and its length is theirs", async () => {
    const source = machine();
    spoil(source);
    const { memory } = source.machine;
    memory.writeBlock(source.ram, 5 * PAGE_SIZE, page(1));
    memory.writeBlock(source.ram, 700 * PAGE_SIZE, page(0));
    memory.write(source.ram.guestPhys + 711 * PAGE_SIZE - 2, Uint8Array.of(1, 2, 3, 4));
    const sink = memorySink();
    const result = await saveSnapshot(source.machine, async () => sink);
    const total = memory.blocks.reduce((sum, { size }) => sum + size / PAGE_SIZE, 0);
    expect(result).toMatchObject({ normalPages: 3, zeroPages: total - 3 });
    // The rest is a few sections, and no record for a zero page.
    expect(result.bytes).toBeLessThan(3 * PAGE_SIZE + 4096);

    const target = machine();
    spoil(target);
    await loadSnapshot(target.machine, memorySource(sink.committed as Uint8Array));
    const first = (n: number) => target.machine.memory.bytes[target.ram.hostOffset + n * PAGE_SIZE];
    expect([5, 6, 700, 711, 712].map(first)).toEqual([1, BYTE, BYTE, 3, BYTE]);
  });

  test("zeroes what the loading machine wrote itself", async () => {
    const sink = memorySink();
    await saveSnapshot(machine().machine, async () => sink);
    const target = machine();
    spoil(target);
    target.machine.memory.writeBlock(target.ram, 9 * PAGE_SIZE, page(7));
    await loadSnapshot(target.machine, memorySource(sink.committed as Uint8Array));
    const first = (n: number) => target.machine.memory.bytes[target.ram.hostOffset + n * PAGE_SIZE];
    expect([8, 9, 10].map(first)).toEqual([BYTE, 0, BYTE]);
  });

  test("of a machine that was itself loaded has the same pages", async () => {
    const source = machine();
    source.machine.memory.writeBlock(source.ram, 3 * PAGE_SIZE, page(4));
    const sink = memorySink();
    await saveSnapshot(source.machine, async () => sink);
    const target = machine();
    await loadSnapshot(target.machine, memorySource(sink.committed as Uint8Array));
    target.machine.runState.set("paused");
    const again = memorySink();
    const { normalPages } = await saveSnapshot(target.machine, async () => again);
    expect(normalPages).toBe(1);
  });
});

test("a page that was sent and became zero is sent again; one whose dirty bit was fetched is still known", async () => {
  const source = machine(64);
  const { memory, vm } = source.machine;
  const sink = memorySink();
  const stream = new StreamWriter(sink.channel);
  const saver = new StreamSaver(source.machine, stream, defaultEnvironment);
  const none = allPages(memory).map((bits) => bits.map(() => 0));
  for (const n of [1, 2, 3]) memory.writeBlock(source.ram, n * PAGE_SIZE, page(n));
  await vm.getAndClearDirtyLog(0);
  saver.header();
  await saver.startRam();
  await saver.ram.pages(QEMU_VM.SECTION_PART, allPages(memory), () => {});
  memory.writeBlock(source.ram, 2 * PAGE_SIZE, page(0));
  memory.writeBlock(source.ram, 4 * PAGE_SIZE, page(0));
  const before = stream.offset;
  await saver.ram.pages(QEMU_VM.SECTION_END, [await vm.getAndClearDirtyLog(0), ...none.slice(1)], () => {});
  expect(saver.ram.normalPages).toBe(3);
  // One record with the block's name, for page 2; page 4 is zero at the destination.
  expect(stream.offset - before).toBe(5 + (8 + 1 + source.ram.name.length + 1) + 8 + 5);
  await saver.devices("paused");
  saver.trailer();
  await stream.drain();
  await sink.commit();
  const target = machine(64);
  await loadSnapshot(target.machine, memorySource(sink.committed as Uint8Array));
  const first = (n: number) => target.machine.memory.bytes[target.ram.hostOffset + n * PAGE_SIZE];
  expect([0, 1, 2, 3, 4].map(first)).toEqual([0, 1, 0, 3, 0]);
});

test("`wherry diff` takes a page that is left out as zeros", async () => {
  const [a, b] = await Promise.all(
    [[1, 2], [1]].map(async (pages) => {
      const source = machine(64);
      for (const n of pages) source.machine.memory.writeBlock(source.ram, n * PAGE_SIZE, page(n));
      const sink = memorySink();
      await saveSnapshot(source.machine, async () => sink);
      return await readWithRam(bytesSource(sink.committed as Uint8Array));
    }),
  );
  const range = { block: "riscv_virt_board.ram", start: 2 * PAGE_SIZE, end: 3 * PAGE_SIZE, pages: 1 };
  expect(diffRam(a!, b!)).toEqual([
    { block: "riscv_virt_board.ram", ranges: [{ ...range, kind: "changed" }] },
  ]);
});
