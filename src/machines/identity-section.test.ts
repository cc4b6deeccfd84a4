import { expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { identitySection } from "./identity-section.ts";

function load(from: { harts: number; builtinFirmware: boolean }, into: typeof from): void {
  const writer = new ByteWriter();
  identitySection(from).encode(writer);
  identitySection(into).decode(new ByteReader(writer.finish()), 1)();
}

test("a machine loads into one started with equal options, otherwise the error names the option", () => {
  const four = { harts: 4, builtinFirmware: true };
  const opensbi = { harts: 4, builtinFirmware: false };
  load(four, { ...four });
  expect(() => load(four, { ...four, harts: 2 })).toThrow("give --smp 4");
  expect(() => load(four, opensbi)).toThrow("leave --firmware out");
  expect(() => load(opensbi, four)).toThrow("give the same --firmware FILE");
});
