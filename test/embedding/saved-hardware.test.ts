// Harts and memory of a saved machine, from its file: what the file tells, and what it leaves to the options.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { savedHardware, sizeOf } from "../../src/embed/saved-hardware.ts";
import { buildPulse } from "../../src/guest/pulse-guest.ts";
import { createMachine } from "../../src/node/index.ts";
import { savedFileHardware } from "../../src/node/saved-file.ts";

const HARDWARE = { harts: 3, memoryBytes: 24 << 20 };
const directory = mkdtempSync(join(tmpdir(), "wherry-hardware-"));
let state: Uint8Array;

beforeAll(async () => {
  const machine = await createMachine({ ...HARDWARE, kernel: await buildPulse() });
  state = await machine.save();
  await machine.close();
});
afterAll(() => rmSync(directory, { recursive: true }));

test("a saved machine's bytes and file tell its harts and memory", async () => {
  expect(await savedHardware(state)).toEqual(HARDWARE);
  const file = join(directory, "state");
  writeFileSync(file, Buffer.concat([new Uint8Array(100), state]));
  expect(await savedFileHardware(file, 100)).toEqual(HARDWARE);
});

test("what is damaged, cut or no file tells less or nothing, and the load says why", async () => {
  expect(await savedHardware(state.subarray(0, state.length - 10))).toEqual({
    memoryBytes: HARDWARE.memoryBytes,
  });
  expect(await savedHardware(new Uint8Array(100))).toEqual({});
  expect(await savedHardware({ size: undefined, read: async () => 0 })).toEqual({});
  expect(await savedFileHardware(join(directory, "none"))).toEqual({});
  expect(await savedFileHardware(directory)).toEqual({});
  const cut = state.subarray(0, state.length >> 1);
  await expect(createMachine({ state: cut })).rejects.toMatchObject({ code: "migration.cut" });
});

test("given options win, and are refused if they differ", async () => {
  const saved = async () => HARDWARE;
  expect(await sizeOf({ harts: 2 }, saved)).toEqual({ harts: 2, memoryBytes: HARDWARE.memoryBytes });
  expect(await sizeOf({}, async () => ({}))).toEqual({ harts: 1, memoryBytes: 512 << 20 });
  await expect(sizeOf({ harts: 1 }, undefined)).rejects.toThrow("memoryBytes is missing");
  await expect(createMachine({ state, harts: 2 })).rejects.toThrow("3 harts");
});
