// What a stream has of a vCPU beyond the fields of the first streams.
import { expect, it } from "vitest";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { type CpuState, cpuState } from "./riscv-cpu-state.ts";

const bytesOf = (svade: number): Uint8Array => {
  const writer = new ByteWriter();
  cpuState.encode({ ...cpuState.create(), svade }, writer);
  return writer.view();
};

it("a hart that updates A and D is as in a stream from before menvcfg.ADUE, and the other has a subsection", () => {
  const name = (bytes: Uint8Array): boolean => Buffer.from(bytes).includes("cpu/svade");
  expect([name(bytesOf(0)), name(bytesOf(1))]).toEqual([false, true]);
  const loaded = [0, 1].map((svade) => cpuState.decode(new ByteReader(bytesOf(svade)), 1).svade);
  expect(loaded).toEqual([0, 1]);
});

it("SBI's features and counters are subsections while they hold something, and come back from them", () => {
  const encoded = (change: Partial<CpuState>): Uint8Array => {
    const writer = new ByteWriter();
    cpuState.encode({ ...cpuState.create(), ...change }, writer);
    return writer.view();
  };
  const names = ["fwft", "pmuEvent", "pmuValue", "pmuRuns", "pmuSnapshot"] as const;
  const has = (bytes: Uint8Array): string[] =>
    names.filter((name) => Buffer.from(bytes).includes(`cpu/${name}`));
  expect(has(encoded({}))).toEqual([]);
  const [pmuEvent, pmuValue] = [new BigUint64Array(19), new BigUint64Array(19)];
  pmuEvent[18] = 0xf0007n;
  pmuValue[18] = 2n ** 64n - 1n;
  const change = { fwft: 0x10011, pmuEvent, pmuValue, pmuRuns: 1 << 18, pmuSnapshot: 0x8000_0000n };
  expect(has(encoded(change))).toEqual([...names]);
  expect(cpuState.decode(new ByteReader(encoded(change)), 1)).toMatchObject(change);
  for (const wrong of [{ fwft: 2 }, { pmuRuns: 4 }, { pmuEvent: new BigUint64Array(19).fill(1n << 20n) }])
    expect(() => cpuState.decode(new ByteReader(encoded(wrong)), 1)).toThrow(
      Object.keys(wrong)[0]!.slice(0, 3),
    );
});
