// MP states on the real machine: harts in every RISC-V state are saved and loaded into another machine, and
// keep their state: a sleeping hart sleeps, a hart about to start starts, and each wakes for the same reasons
// as before.
import { expect, test } from "vitest";
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { CharPipe } from "../../src/devices/char-backend.ts";
import { type CreatedMachine, createMachine } from "../../src/embed/create-machine.ts";
import { MemorySink, pieceChannel } from "../../src/embed/memory-snapshot.ts";
import { loadSnapshot, saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { nodePlatform } from "../../src/node/node-platform.ts";
import { MP_STATE } from "../../src/accelerator/mp-state.ts";
import type { Cpu } from "../../src/vmm/cpus.ts";
import { until } from "../support/wait.ts";
import { LINUX_HEADER } from "../support/linux-header.ts";

const HARTS = 7;
const KERNEL = 0x80200000;
const DATA = 0x80300000;
const GO = DATA;
/** A word for each hart: it has reached its state; it has run on. */
const arrived = (hart: number): number => DATA + 0x100 + hart * 8;
const ranOn = (hart: number): number => DATA + 0x104 + hart * 8;

const PROGRAM = `
.macro hsm func
  li a6, \\func
  li a7, 0x48534d
  ecall
.endm
.macro start hart, at
  li a0, \\hart
  la a1, \\at
  li a2, 0
  hsm 0
.endm
.macro role                     # a0: hart. s0: its words; software interrupts wake it, the timer's are masked
  li s0, ${arrived(0)}
  slli t0, a0, 3
  add s0, s0, t0
  csrwi sie, 2
  csrwi 0x14d, 0                # stimecmp: long due
  li t0, 1
  sw t0, 0(s0)
.endm
.macro run_on value
  li t0, \\value
  sw t0, 4(s0)
1: j 1b
.endm
${LINUX_HEADER}boot:
  start 2, in_wfi
  start 3, retentive
  start 4, non_retentive
  start 6, deaf
  li s0, ${GO}
1: lw t0, 0(s0)
  beqz t0, 1b
  li a0, 0x5c                   # harts 2, 3, 4, 6
  li a1, 0
  li a6, 0
  li a7, 0x735049
  ecall
  start 1, started
2: j 2b
in_wfi:
  role
  wfi
  run_on 2
retentive:
  role
  li a0, 0
  hsm 3
  addi a0, a0, 3                # its answer is success
  sw a0, 4(s0)
1: j 1b
non_retentive:
  role
  li a0, 0x80000000
  la a1, resumed
  li a2, 44
  hsm 3
  run_on 99
resumed:
  li s0, ${arrived(0)}
  slli t0, a0, 3
  add s0, s0, t0
  sw a1, 4(s0)
1: j 1b
started:
  role
  run_on 1
half_started:
  role
  sw a1, 4(s0)
1: j 1b
deaf:
  role
  csrwi sie, 0
  wfi
  run_on 99
image_end:
`;

const assembled = assemble([{ name: "mp-states", text: PROGRAM }], { base: BigInt(KERNEL) });
const kernel = flatBinary(assembled);

function make(incoming: boolean): Promise<CreatedMachine> {
  const devices = { serial: new CharPipe(() => {}), virtio: [], drives: [] };
  return createMachine({ harts: HARTS, memoryBytes: 16 << 20, kernel, incoming }, devices, nodePlatform);
}
const words = ({ machine }: CreatedMachine, at: (hart: number) => number): (number | undefined)[] =>
  Array.from({ length: HARTS }, (_, hart) => machine.memory.readU32(at(hart)));
async function states({ cpus }: CreatedMachine): Promise<string[]> {
  const all: string[] = [];
  for (const cpu of cpus.all) {
    const state = await cpus.synchronizeState(cpu, ({ mpState }) => mpState);
    all.push(cpu.common.halted === 1 ? `${state} halted` : `${state}`);
  }
  return all;
}

const { RUNNABLE, INIT_RECEIVED, STOPPED, SUSPENDED } = MP_STATE;
const AT_REST = [
  ...[`${RUNNABLE}`, `${STOPPED}`, `${RUNNABLE} halted`, `${SUSPENDED}`, `${SUSPENDED}`, `${STOPPED}`],
  `${RUNNABLE} halted`,
];

test("harts in every state keep it in another machine", async () => {
  const from = await make(false);
  const to = await make(true);
  try {
    await from.machine.start();
    await until(10_000, "the states", async () => String(await states(from)) === String(AT_REST));
    expect(words(from, arrived)).toEqual([0, 0, 1, 1, 1, 0, 1]);

    // Hart 5 is about to start: its starter has written the start address, and it has not run yet.
    await from.machine.stop();
    await from.cpus.synchronizeAllStates();
    const { state } = from.cpus.all[5] as Cpu;
    Object.assign(state, {
      mpState: INIT_RECEIVED,
      startAddress: assembled.symbols.get("half_started"),
      startArgument: 55n,
    });
    const sink = new MemorySink();
    await saveSnapshot(from.machine, async () => sink);

    await loadSnapshot(to.machine, pieceChannel(sink.chunks));
    await to.machine.start();
    await until(10_000, "hart 5 has run", () => to.machine.memory.readU32(ranOn(5)) === 55);
    // Time for a hart that should sleep to show that it does not.
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(words(to, ranOn)).toEqual([0, 0, 0, 0, 0, 55, 0]);
    expect(await states(to)).toEqual(AT_REST.with(5, `${RUNNABLE}`));

    to.machine.memory.writeU32(GO, 1);
    await until(10_000, "all have run", () => String(words(to, ranOn)) === "0,1,2,3,44,55,0");
    expect(await states(to)).toEqual([...Array(6).fill(`${RUNNABLE}`), `${RUNNABLE} halted`]);
  } finally {
    await from.machine.vm.destroy();
    await to.machine.vm.destroy();
  }
});
