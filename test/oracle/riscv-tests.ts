// Runs programs of the riscv-tests suite (the `-p-` variants in physical, the `-v-` ones in virtual memory;
// one hart) in Wherry's engine. The suite is not part of the repository: build it elsewhere and give the
// directory of its ELF files:
//   node test/oracle/riscv-tests.ts DIRECTORY [--only SUBSTRING] [--engine translator|interpreter]
//   [--threshold N]
// A test writes its result to the word at its symbol `tohost`: 1 for success, otherwise 2 × (failed case) +
// 1.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { RAM_BASE } from "../support/programs/layout.ts";
import { engineOf, engineOptions } from "./engine-option.ts";
import { createHart } from "./wherry.ts";

const RAM_SIZE = 0x1000000;
const LIMIT = 5_000_000;

/** Loads an ELF64 file's segments; returns its entry and the address of `tohost`. */
function loadElf(file: Uint8Array, ram: Uint8Array): { entry: bigint; tohost: bigint } {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const u16 = (at: number): number => view.getUint16(at, true);
  const u64 = (at: number): number => Number(view.getBigUint64(at, true));
  if (view.getUint32(0) !== 0x7f454c46) throw new Error("no ELF file");
  for (let i = 0; i < u16(56); i++) {
    const header = u64(32) + i * u16(54);
    if (view.getUint32(header, true) !== 1) continue;
    const from = u64(header + 8);
    ram.set(file.subarray(from, from + u64(header + 32)), u64(header + 24) - Number(RAM_BASE));
  }
  const section = (n: number): number => u64(40) + n * u16(58);
  for (let i = 0; i < u16(60); i++) {
    const symtab = section(i);
    if (view.getUint32(symtab + 4, true) !== 2) continue;
    const names = u64(section(view.getUint32(symtab + 40, true)) + 24);
    for (let at = u64(symtab + 24); at < u64(symtab + 24) + u64(symtab + 32); at += 24) {
      const name = names + view.getUint32(at, true);
      const text = new TextDecoder().decode(file.subarray(name, name + 7));
      if (text === "tohost\0")
        return { entry: view.getBigUint64(24, true), tohost: view.getBigUint64(at + 8, true) };
    }
  }
  throw new Error("no symbol tohost");
}

/** Undefined if the test passed, otherwise the failure. */
function runTest(path: string): string | undefined {
  try {
    const hart = createHart(RAM_SIZE, engine);
    const { entry, tohost } = loadElf(readFileSync(path), hart.ram);
    hart.state.set("pc", entry);
    const word = new DataView(hart.ram.buffer, hart.ram.byteOffset + Number(tohost - RAM_BASE), 8);
    hart.run(LIMIT, () => word.getUint32(0, true) !== 0);
    const value = word.getUint32(0, true);
    return value === 1 ? undefined : `case ${value >>> 1} failed`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: "string", default: "" }, ...engineOptions },
});
const engine = engineOf(values);
const directory = positionals[0];
if (directory === undefined) {
  console.error(
    "usage: node test/oracle/riscv-tests.ts DIRECTORY [--only SUBSTRING] [--engine E] [--threshold N]",
  );
  process.exit(2);
}
const names = readdirSync(directory)
  .filter((name) => /-[pv]-/.test(name) && name.includes(values.only))
  .sort();
let failed = 0;
for (const name of names) {
  const result = runTest(join(directory, name));
  if (result === undefined) continue;
  failed++;
  console.log(`${name}: ${result}`);
}
console.log(`${engine.engine}, threshold ${engine.threshold}: ${names.length} tests, ${failed} failed`);
process.exitCode = failed === 0 && names.length > 0 ? 0 : 1;
