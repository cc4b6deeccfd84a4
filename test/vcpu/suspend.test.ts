// A guest that suspends itself (SBI SUSP): the machine says so, tells when it wakes, and can be woken by the
// monitor or by the guest's own timer, also after a save and a restore in that state.
import { afterEach, expect, test } from "vitest";
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { CharPipe } from "../../src/devices/char-backend.ts";
import { createMachine } from "../../src/embed/create-machine.ts";
import { MemorySink, pieceChannel } from "../../src/embed/memory-snapshot.ts";
import type { VirtMachine } from "../../src/machines/virt.ts";
import { loadSnapshot, saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { nodePlatform } from "../../src/node/node-platform.ts";
import { until } from "../support/wait.ts";

const RESUMES = 0x80300000;
/** Suspends, counts how often it has resumed, and suspends again; the third time with a timer. */
const PROGRAM = `
_start:
  li s0, ${RESUMES}
sleep:
  la a1, resumed
  li a0, 0
  li a2, 0
  li a6, 0
  li a7, 0x53555350
  ecall
fail:
  j fail
resumed:
  li s0, ${RESUMES}
  lw t0, 0(s0)
  addi t0, t0, 1
  sw t0, 0(s0)
  li t1, 2
  bne t0, t1, sleep
  li t0, 32                   # sie.STIE
  csrw sie, t0
  rdtime a0
  li t0, 20000000             # 2 s
  add a0, a0, t0
  li a6, 0
  li a7, 0x54494d45
  ecall
  j sleep
`;
const kernel = flatBinary(assemble([{ name: "suspend.s", text: PROGRAM }], { base: 0x80200000n }));

const machines: VirtMachine[] = [];
afterEach(async () => {
  for (const machine of machines.splice(0)) {
    if (machine.runState.running) await machine.stop();
    await machine.vm.destroy();
  }
});

async function make(incoming: boolean) {
  const config = { harts: 2, memoryBytes: 16 << 20, kernel, incoming, engine: "interpreter" as const };
  const { machine } = await createMachine(config, { serial: new CharPipe(() => {}) }, nodePlatform);
  machines.push(machine);
  const events: string[] = [];
  machine.onEvent(({ event }) => events.push(event));
  return { machine, events };
}

const resumes = (machine: VirtMachine) => machine.memory.readU32(RESUMES);
const asleep = (machine: VirtMachine, times: number) =>
  until(20_000, `it sleeps after ${times}`, () => machine.isSuspended && resumes(machine) === times);

test("a suspended guest is seen, woken by the monitor, and wakes by its timer", async () => {
  const { machine, events } = await make(false);
  await machine.start();
  await asleep(machine, 0);
  await until(20_000, "the event", () => events.length === 2);
  expect(events).toEqual(["RESUME", "SUSPEND"]);
  machine.wakeUp();
  await asleep(machine, 1);
  await until(20_000, "the events", () => events.length === 4);
  expect(events).toEqual(["RESUME", "SUSPEND", "WAKEUP", "SUSPEND"]);
  await machine.stop();
  const sink = new MemorySink();
  await saveSnapshot(machine, async () => sink);
  expect(machine.isSuspended).toBe(true);

  const restored = await make(true);
  await loadSnapshot(restored.machine, pieceChannel(sink.chunks));
  restored.machine.runState.set("paused");
  await restored.machine.start();
  expect(restored.machine.isSuspended).toBe(true);
  restored.machine.wakeUp();
  await until(20_000, "the timer wakes it", () => resumes(restored.machine) === 3);
  await until(20_000, "the event", () => restored.events.includes("WAKEUP"));
});
