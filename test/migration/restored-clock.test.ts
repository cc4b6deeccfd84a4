// Guest time of a restored machine: it goes on where it stopped, or later by as long as the machine was away.
// In both cases the real-time clock shows the host's time, and timers that are overdue fire once. The guest
// is a program that counts the interrupts of its hart's timer and of the real-time clock's alarm.
import { afterEach, beforeEach, expect, test } from "vitest";
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { CharPipe } from "../../src/devices/char-backend.ts";
import { createMachine } from "../../src/embed/create-machine.ts";
import { MemorySink, pieceChannel } from "../../src/embed/memory-snapshot.ts";
import { VIRT_IRQ, VIRT_MEMMAP } from "../../src/machines/boot/virt-map.ts";
import type { VirtMachine } from "../../src/machines/virt.ts";
import { loadSnapshot, saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { nodePlatform } from "../../src/node/node-platform.ts";
import type { RestoreClock } from "../../src/vmm/machine.ts";
import { until } from "../support/wait.ts";

const KERNEL = 0x80200000;
const DATA = 0x80300000;
const TURNS = DATA;
const TIMERS = DATA + 4;
const ALARMS = DATA + 8;
const { plic, rtc } = VIRT_MEMMAP;
/** Both timers are due that long after the guest started. */
const DUE_S = 600;
const HOUR_NS = 3_600_000_000_000n;

const PROGRAM = `
  li s0, ${DATA}
  li s1, ${plic.base + 0x201004}     # claim and complete of hart 0's S-mode context
  li s2, ${rtc.base}
  li t0, 1
  li t1, ${plic.base + 4 * VIRT_IRQ.RTC}
  sw t0, 0(t1)                  # priority
  li t0, ${1 << VIRT_IRQ.RTC}
  li t1, ${plic.base + 0x2080}
  sw t0, 0(t1)                  # enabled
  li t0, 1
  sw t0, 0x10(s2)               # IRQ_ENABLED
  lwu t0, 0(s2)                 # TIME_LOW, TIME_HIGH
  lwu t1, 4(s2)
  slli t1, t1, 32
  or t0, t0, t1
  li t1, ${DUE_S * 1_000_000_000}
  add t0, t0, t1
  srli t1, t0, 32
  sw t1, 0x0c(s2)               # ALARM_HIGH, ALARM_LOW
  sw t0, 0x08(s2)
  rdtime t0
  li t1, ${DUE_S * 10_000_000}
  add t0, t0, t1
  csrw 0x14d, t0                # stimecmp
turn:
  lw t0, 0(s0)
  addi t0, t0, 1
  sw t0, 0(s0)
  csrr t0, sip
  andi t0, t0, 0x20             # STIP
  beqz t0, alarm
  li t0, -1
  csrw 0x14d, t0
  lw t0, 4(s0)
  addi t0, t0, 1
  sw t0, 4(s0)
alarm:
  lw t0, 0(s1)
  beqz t0, turn
  sw zero, 0x1c(s2)             # CLEAR_INTERRUPT
  sw t0, 0(s1)
  lw t0, 8(s0)
  addi t0, t0, 1
  sw t0, 8(s0)
  j turn
`;
const kernel = flatBinary(assemble([{ name: "clock", text: PROGRAM }], { base: BigInt(KERNEL) }));

/** Added to the host's wall clock. */
let shiftNs: bigint;
const wallNs = (): bigint => nodePlatform.clock.wallNs() + shiftNs;
const platform = { ...nodePlatform, clock: { ...nodePlatform.clock, wallNs } };

const machines: VirtMachine[] = [];
beforeEach(() => {
  shiftNs = 0n;
});
afterEach(async () => {
  for (const machine of machines.splice(0)) await machine.vm.destroy();
});

async function make(incoming: boolean): Promise<VirtMachine> {
  const devices = { serial: new CharPipe(() => {}), virtio: [], drives: [] };
  const config = { harts: 1, memoryBytes: 16 << 20, kernel, incoming, engine: "interpreter" as const };
  const { machine } = await createMachine(config, devices, platform);
  machines.push(machine);
  return machine;
}

async function turns({ memory }: VirtMachine): Promise<void> {
  const before = memory.readU32(TURNS) ?? 0;
  await until(20_000, "the guest runs", () => (memory.readU32(TURNS) ?? 0) > before + 2);
}

/** A machine saved after some turns; its guest time then, in ticks. */
async function saved(): Promise<{ state: MemorySink; ticks: bigint }> {
  const machine = await make(false);
  await machine.start();
  await turns(machine);
  await machine.stop();
  const state = new MemorySink();
  await saveSnapshot(machine, async () => state);
  return { state, ticks: machine.vm.clock.read() };
}

async function restored(
  state: MemorySink,
  clock: RestoreClock,
): Promise<{ machine: VirtMachine; warning: string | undefined }> {
  const machine = await make(true);
  const { warning } = await loadSnapshot(machine, pieceChannel(state.chunks), clock);
  machine.runState.set("paused");
  return { machine, warning };
}

const counts = ({ memory }: VirtMachine): (number | undefined)[] => [
  memory.readU32(TIMERS),
  memory.readU32(ALARMS),
];
function rtcSeconds({ addressSpace }: VirtMachine): number {
  const low = addressSpace.read(rtc.base, 4) ?? 0n;
  return Number(((addressSpace.read(rtc.base + 4, 4) ?? 0n) << 32n) | low) / 1e9;
}
const hostSeconds = (): number => Number(wallNs()) / 1e9;

test("an hour away: guest time stops, the real-time clock and its alarm do not", async () => {
  const { state, ticks } = await saved();
  shiftNs = HOUR_NS;
  const { machine, warning } = await restored(state, "stop");
  expect([machine.vm.clock.read(), warning]).toEqual([ticks, undefined]);
  expect(Math.abs(rtcSeconds(machine) - hostSeconds())).toBeLessThan(1);
  await machine.start();
  await until(20_000, "the alarm", () => counts(machine)[1] === 1);
  await turns(machine);
  expect(counts(machine)).toEqual([0, 1]);
});

test("an hour away on the host's clock: guest time is an hour later, each overdue timer fires once", async () => {
  const { state, ticks } = await saved();
  shiftNs = HOUR_NS;
  const { machine, warning } = await restored(state, "host");
  expect(warning).toBeUndefined();
  const seconds = Number(machine.vm.clock.read() - ticks) / 1e7;
  // Up to a minute for a slow host.
  expect(seconds).toBeGreaterThanOrEqual(3600);
  expect(seconds).toBeLessThan(3660);
  expect(Math.abs(rtcSeconds(machine) - hostSeconds())).toBeLessThan(1);
  await machine.start();
  await until(20_000, "both", () => String(counts(machine)) === "1,1");
  await turns(machine);
  expect(counts(machine)).toEqual([1, 1]);
});

test("a host's clock that was set back adds nothing, and the load says so", async () => {
  const { state, ticks } = await saved();
  shiftNs = -HOUR_NS;
  const { machine, warning } = await restored(state, "host");
  expect(machine.vm.clock.read()).toBe(ticks);
  expect(warning).toMatch(/^guest time goes on where it stopped: it was saved at .*clocks is wrong$/);
  expect(Math.abs(rtcSeconds(machine) - hostSeconds())).toBeLessThan(1);
  await machine.start();
  await turns(machine);
  expect(counts(machine)).toEqual([0, 0]);
});
