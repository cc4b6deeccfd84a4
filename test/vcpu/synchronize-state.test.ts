// Writeback at level RUNTIME on the real machine while other harts run. pulse counts its ticks and IPIs, and
// fails if one is lost or doubled or a register changes; here its harts are accessed all the time.
import { expect, test } from "vitest";
import { CharPipe } from "../../src/devices/char-backend.ts";
import { buildPulse } from "../../src/guest/pulse-guest.ts";
import { createMachine } from "../../src/embed/create-machine.ts";
import { nodePlatform } from "../../src/node/node-platform.ts";
import type { Cpu } from "../../src/vmm/cpus.ts";
import { Random } from "../support/random.ts";
import { seed } from "../support/seed.ts";

const HARTS = 4;
const LOOK_MS = 8000;

test(`pulse does not notice that its harts are read and written back (WHERRY_SEED=${seed})`, async () => {
  const random = new Random(seed);
  let text = "";
  const serial = new CharPipe((bytes) => {
    text += Buffer.from(bytes).toString("latin1");
  });
  const see = async (pattern: RegExp): Promise<void> => {
    while (!pattern.test(text)) {
      expect(text).not.toMatch(/^pulse: FAIL/m);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const kernel = await buildPulse();
  const { machine, cpus } = await createMachine(
    { harts: HARTS, memoryBytes: 32 << 20, kernel },
    { serial, virtio: [], drives: [] },
    nodePlatform,
  );
  try {
    await machine.start();
    await see(/^pulse: t=.* OK\r?$/m);
    const seen = new Set<bigint>();
    const end = performance.now() + LOOK_MS;
    let reads = 0;
    for (; performance.now() < end; reads++) {
      const some = Array.from({ length: 1 + random.int(2) }, () => random.pick(cpus.all));
      await Promise.all(some.map((cpu) => cpus.synchronizeState(cpu, ({ pc }) => void seen.add(pc))));
      if (random.oneIn(8)) await new Promise((resolve) => setTimeout(resolve, random.int(5)));
    }
    expect(reads).toBeGreaterThan(10);
    expect(seen.size).toBeGreaterThan(10);
    for (const { vcpu } of cpus.all) expect(vcpu.paused).toBe(false);
    serial.push(Uint8Array.of("q".charCodeAt(0)));
    await see(/^pulse: done .* OK\r?$/m);
  } finally {
    await machine.vm.destroy();
  }
}, 120_000);

test("a timer that fires and an IPI that arrives during an access are still pending afterwards", async () => {
  const { machine, cpus } = await createMachine(
    { harts: 2, memoryBytes: 32 << 20, kernel: await buildPulse() },
    { serial: new CharPipe(() => {}), virtio: [], drives: [] },
    nodePlatform,
  );
  const [cpu] = cpus.all as [Cpu];
  try {
    await cpus.synchronizeAllStates();
    expect(cpu.dirty).toBe(true);
    // Changed by the guest after the copy was made: RUNTIME must not undo it.
    const { vcpu } = cpu;
    const ids = { pending: 0x803000007f000006n, halted: 0x803000007f000000n, compare: 0x8030000004000002n };
    vcpu.setOneReg(ids.pending, 2n);
    vcpu.setOneReg(ids.halted, 1n);
    vcpu.setOneReg(ids.compare, 12345n);
    vcpu.setMpState(5);
    cpu.state.pc = 0x80000040n;
    cpu.put(1);
    expect(Object.values(ids).map((id) => vcpu.getOneReg(id))).toEqual([2n, 1n, 12345n]);
    expect([vcpu.getMpState(), vcpu.getOneReg(0x8030000002000000n)]).toEqual([5, 0x80000040n]);
  } finally {
    await machine.vm.destroy();
  }
});
