// Restores in one process run beside each other, and beside a guest: none waits for another's.
import { afterAll, expect, test } from "vitest";
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { createMachine, type MachineOptions, type NodeMachine } from "../../src/node/index.ts";

/** Fills 48 MiB with its addresses, so that a state has so much to load, then prints for ever. */
const FILL = 48;
const GUEST = `
start:
  li t0, 0x81000000
  li t1, ${0x81000000 + FILL * 2 ** 20}
1: sd t0, 0(t0)
  addi t0, t0, 64
  bltu t0, t1, 1b
2: li a7, 1
  li a0, 120
  ecall
  li t1, 100000
3: addi t1, t1, -1
  bnez t1, 3b
  j 2b
`;
const kernel = flatBinary(assemble([{ name: "guest", text: GUEST }], { base: 0x80200000n }));
const hardware = { harts: 1, memoryBytes: 128 << 20 };

const machines: NodeMachine[] = [];
afterAll(async () => void (await Promise.all(machines.map((machine) => machine.close()))));

async function made(options: MachineOptions): Promise<NodeMachine> {
  const machine = await createMachine({ ...hardware, ...options });
  machines.push(machine);
  return machine;
}

test("two restores and a running guest's console interleave", async () => {
  /** What happened, in order: the running guest's output, and what the restored machines did. */
  const log: string[] = [];
  const first = await made({ kernel, onConsole: () => void log.push("output") });
  await first.start();
  await expect.poll(() => log.length, { timeout: 100_000 }).toBeGreaterThan(0);
  const state = await first.save();
  expect(state.length).toBeGreaterThan(FILL << 20);
  log.length = 0;
  const restored = (name: string): Promise<NodeMachine> =>
    made({ state, onRunState: (runState) => void log.push(`${name} ${runState}`) });
  const names = ["a", "b"];
  await Promise.all(names.map(restored));
  const at = (name: string, state: string): number => log.indexOf(`${name} ${state}`);
  for (const name of names) {
    const [begins, ends] = [at(name, "inmigrate"), at(name, "running")];
    expect(begins).toBeGreaterThanOrEqual(0);
    // The guest's console was served while this machine was loaded.
    expect(log.slice(begins, ends)).toContain("output");
  }
  expect(Math.max(at("a", "inmigrate"), at("b", "inmigrate"))).toBeLessThan(
    Math.min(at("a", "running"), at("b", "running")),
  );
});
