// Firmware features and performance counters on the real machine: their values, locks, events and snapshot
// page are saved and loaded into another machine, with the counters that run and those that are stopped; a
// reset of the machine clears them.
import { expect, test } from "vitest";
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { CharPipe } from "../../src/devices/char-backend.ts";
import { type CreatedMachine, createMachine } from "../../src/embed/create-machine.ts";
import { MemorySink, pieceChannel } from "../../src/embed/memory-snapshot.ts";
import { loadSnapshot, saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { nodePlatform } from "../../src/node/node-platform.ts";
import { until } from "../support/wait.ts";
import { LINUX_HEADER } from "../support/linux-header.ts";

const KERNEL = 0x80200000;
const GO = 0x80300000;
const RESULTS = 0x80300100;
const SNAPSHOT = 0x80301000;
const FWFT = 0x46574654;
const PMU = 0x504d55;
const SET_TIMER = 0xf0005;

const PROGRAM = `
.macro sbi extension, function, a, b=0, c=0, d=0
  li a0, \\a
  li a1, \\b
  li a2, \\c
  li a3, \\d
  li a4, 0
  li a6, \\function
  li a7, \\extension
  ecall
.endm
.macro result register          # to the next of the results
  sd \\register, 0(s0)
  addi s0, s0, 8
.endm
.macro report                   # what features and counters are like
  sbi ${FWFT}, 1, 4
  result a1
  sbi ${FWFT}, 0, 4, 0
  result a0
  sbi ${FWFT}, 1, 0
  result a1
  sbi 0x54494d45, 0, -1
  sbi ${PMU}, 5, 3
  result a1
  csrr t0, cycle
  csrr t1, cycle
  sub t0, t1, t0
  result t0
  sbi ${PMU}, 2, 0, 1, 0, 1     # counter 0 for cycles
  result a0
  sbi ${PMU}, 4, 3, 1, 2        # stop, with a snapshot
  result a0
.endm
${LINUX_HEADER}boot:
  li s0, ${RESULTS}
  li s1, ${GO}
  lw t0, 0(s1)
  bnez t0, after                # after a reset of the machine
  sbi ${FWFT}, 0, 4, 1, 1       # A and D bits are updated, locked
  sbi ${FWFT}, 0, 0, 0          # misaligned exceptions are not delegated
  sbi ${PMU}, 7, ${SNAPSHOT}
  sbi ${PMU}, 4, 0, 1           # no cycles are counted
  sbi ${PMU}, 2, 0, 1, 0, 1     # but the counter has its event
  sbi ${PMU}, 2, 3, 1, 4, ${SET_TIMER}
  sbi 0x54494d45, 0, -1
  li t0, 1
  sw t0, 4(s1)
1: lw t0, 0(s1)
  beqz t0, 1b
after:
  report
  li t0, 2
  sw t0, 4(s1)
2: j 2b
image_end:
`;

const kernel = flatBinary(assemble([{ name: "sbi-state", text: PROGRAM }], { base: BigInt(KERNEL) }));

function make(incoming: boolean): Promise<CreatedMachine> {
  const devices = { serial: new CharPipe(() => {}), virtio: [], drives: [] };
  return createMachine({ harts: 1, memoryBytes: 16 << 20, kernel, incoming }, devices, nodePlatform);
}
const word = ({ machine }: CreatedMachine, at: number): number => machine.memory.readU32(at) as number;
const results = (m: CreatedMachine): number[] =>
  Array.from({ length: 7 }, (_, i) => word(m, RESULTS + 8 * i) | 0);
const finished = (m: CreatedMachine): Promise<unknown> =>
  until(10_000, "the report", () => word(m, GO + 4) === 2);

test("features, locks and counters are the same in another machine, and cleared by its reset", async () => {
  const from = await make(false);
  const to = await make(true);
  try {
    await from.machine.start();
    await until(10_000, "the set-up", () => word(from, GO + 4) === 1);
    await from.machine.stop();
    const sink = new MemorySink();
    await saveSnapshot(from.machine, async () => sink);

    await loadSnapshot(to.machine, pieceChannel(sink.chunks));
    await to.machine.start();
    to.machine.memory.writeU32(GO, 1);
    await finished(to);
    // Locked with ADUE; two timers were set; cycles stand still, and their counter is taken.
    expect(results(to)).toEqual([1, -14, 0, 2, 0, -2, 0]);
    expect(word(to, SNAPSHOT + 8)).toBe(2);

    to.machine.memory.writeU32(GO + 4, 0);
    to.machine.memory.writeU32(GO, 1);
    await to.machine.stop();
    await to.machine.reset();
    await to.machine.start();
    await finished(to);
    expect(results(to)).toEqual([0, 0, 1, 0, expect.any(Number), 0, -9]);
    expect(results(to)[4]).toBeGreaterThan(0);
  } finally {
    for (const { machine } of [from, to]) await machine.vm.destroy();
  }
});
