// Time accounting (--perf), on a vCPU thread whose clock the test advances.
import { expect, test } from "vitest";
import { ScriptedVm } from "../../../test/support/scripted-vm.ts";
import { HART_PERF, hartBase, TRANSLATION_STATS, VM_TRANSLATION_STATS } from "../shared/memory-map.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";
import { EXIT } from "../hart/engine-interface.ts";

const MS = 1e6;
const UART = 0x10000000n;

test("each interval is charged to the thread's activity, and together they are the elapsed time", () => {
  const s = new ScriptedVm({ steal: true });
  const { perf } = s.vm;
  const wide = new BigUint64Array(s.vm.buffer);
  wide[(hartBase(0) + SCRATCH.executed) >>> 3] = 1000n;
  perf.start();
  const pass = (ms: number): void => void (s.nowNs += ms * MS);
  s.sleeps.push(() => {
    pass(40);
    s.vm.irqLine(1, false);
    s.end(0);
  });
  s.run(
    0,
    () => (pass(5), EXIT.SLICE),
    (imports) => {
      pass(1);
      imports.mmioRead(UART, 1);
      pass(2);
      wide[(hartBase(0) + SCRATCH.executed) >>> 3] = 3000n;
      return EXIT.WFI;
    },
    () => EXIT.SLICE,
  );
  const { harts, elapsedNs } = perf.read();
  const { activities, instructions } = harts[0]!;
  expect(instructions).toBe(2000);
  expect(activities["engine"]!.ns).toBe(8 * MS);
  expect(activities["blocked"]).toEqual({ count: 1, ns: 40 * MS });
  expect(activities["slice"]!.count).toBe(1);
  expect(activities["wfi"]!.count).toBe(1);
  expect(activities["mmio-read"]!.count).toBe(1);
  const sum = Object.values(activities).reduce((all, { ns }) => all + ns, 0);
  expect(sum).toBe(elapsedNs);
});

test("nothing is written while counting is off, and counting starts at zero", () => {
  const s = new ScriptedVm();
  const cells = new Uint8Array(s.vm.buffer, hartBase(0) + HART_PERF, 0x400);
  s.run(0, () => EXIT.SLICE);
  expect(cells.every((byte) => byte === 0)).toBe(true);
  expect(s.vm.perf.counting).toBe(false);
  for (const ms of [5, 7]) {
    s.vm.perf.start();
    s.run(0, () => ((s.nowNs += ms * MS), EXIT.SLICE));
    expect(s.vm.perf.read().harts[0]!.activities["engine"]!.ns).toBe(ms * MS);
  }
  s.vm.perf.stop();
  expect(s.vm.perf.counting).toBe(false);
});

test("SBI calls count by extension; the report includes the translation thread's counters", () => {
  const s = new ScriptedVm();
  s.vm.perf.start();
  s.ecall(0, 0x10, 0);
  s.ecall(0, 0x12345, 0);
  new BigUint64Array(s.vm.buffer)[(VM_TRANSLATION_STATS + TRANSLATION_STATS.evictions) >>> 3] = 12n;
  const { harts, translation } = s.vm.perf.read();
  expect(harts[0]!.activities["sbi-base"]!.count).toBe(1);
  expect(harts[0]!.activities["sbi-unknown"]!.count).toBe(1);
  expect(translation["evictions"]).toBe(12);
});
