// What a stream has of a vCPU beyond the fields of the first streams.
import { expect, it } from "vitest";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { cpuState } from "./riscv-cpu-state.ts";

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
