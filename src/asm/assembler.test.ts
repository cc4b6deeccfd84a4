// The assembler: encodings against words from the specification's listings, directives, macros, mistakes;
// and, where GNU as is installed, pulse's and the witness's sources byte for byte (test/oracle style, skipped
// otherwise).
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { assemble, flatBinary, type Source } from "./assembler.ts";
import { staticElf } from "./elf.ts";

const BASE = 0x80200000n;

function words(text: string): string[] {
  const bytes = flatBinary(assemble([{ name: "t.s", text }], { base: BASE }));
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / 4 }, (_, i) =>
    view
      .getUint32(i * 4, true)
      .toString(16)
      .padStart(8, "0"),
  );
}

describe("instructions", () => {
  it.each([
    ["add a0, a1, a2", "00c58533"],
    ["addi sp, sp, -16", "ff010113"],
    ["ld ra, 8(sp)", "00813083"],
    ["sd ra, -8(sp)", "fe113c23"],
    ["lui a0, 0x12345", "12345537"],
    ["srai a0, a1, 63", "43f5d513"],
    ["amoadd.d.aqrl a0, a1, (a2)", "06b6352f"],
    ["lr.d.aq a0, (a1)", "1405b52f"],
    ["sc.w.rl a0, a2, (a1)", "1ac5a52f"],
    ["csrrw sp, sscratch, sp", "14011173"],
    ["csrw stimecmp, a0", "14d51073"],
    ["rdtime a0", "c0102573"],
    ["fmadd.d f0, f1, f2, f3", "1a20f043"],
    ["fcvt.l.d a0, f1, rtz", "c2209553"],
    ["fence rw, w", "0310000f"],
    ["sfence.vma a0, a1", "12b50073"],
    ["wfi", "10500073"],
    ["li a0, -1", "fff00513"],
    ["li a0, 0x12345678", "12345537 6785051b"],
    ["j .", "0000006f"],
    ["ret", "00008067"],
    ["mv a0, a1", "00058513"],
    ["c.addi a0, -3; c.nop", "00011575"],
    ["c.ld a0, 8(a1); c.j .", "a0016588"],
  ])("%s", (text, expected) => {
    expect(words(text).join(" ")).toBe(expected);
  });

  it("reaches labels forward and back, by name and by number", () => {
    expect(words("1: beqz a0, 1f\nj 1b\n1: ret\ncall end\nend: nop")).toEqual([
      "00050463", // beqz a0, +8
      "ffdff06f", // j -4
      "00008067",
      "00000097", // auipc ra, 0
      "008080e7", // jalr ra, 8(ra)
      "00000013",
    ]);
  });
});

describe("directives", () => {
  it("lays data out in sections, one after the other", () => {
    const program = assemble(
      [
        {
          name: "t.s",
          text: ".text\nla a0, value\n.data\n.byte 1, 2\n.align 3\nvalue: .dword value, 'A', ~0\n.bss\n.space 8",
        },
      ],
      { base: BASE },
    );
    const [text, data, bss] = program.sections;
    expect(text?.size).toBe(8);
    expect(data?.address).toBe(BASE + 16n);
    expect(program.symbols.get("value")).toBe(BASE + 24n);
    expect(Buffer.from(data?.bytes ?? []).toString("hex")).toBe(
      "0102000000000000" + "1800208000000000" + "4100000000000000" + "ffffffffffffffff",
    );
    expect(bss?.bytes.length).toBe(0);
    expect(bss?.size).toBe(8);
  });

  it("expands macros, repetitions and conditions", () => {
    const text = `
.equ N, 2
.macro twice reg, by=1
  addi \\reg, \\reg, \\by
  addi \\reg, \\reg, \\by
.endm
  twice a0
  twice a1, 5        # a comment, with "quotes"
  .rept N
  nop
  .endr
  .irp r, s0, s1
  mv \\r, zero
  .endr
  .if N == 3
  ebreak
  .else
  wfi
  .endif
  .ascii "a;#b"`;
    expect(words(text)).toEqual([
      "00150513",
      "00150513",
      "00558593",
      "00558593",
      "00000013",
      "00000013",
      "00000413",
      "00000493",
      "10500073",
      "62233b61",
    ]);
  });

  it("takes symbols from outside", () => {
    const program = assemble([{ name: "t.s", text: ".word LIMIT + 1" }], {
      base: 0n,
      defines: { LIMIT: 41 },
    });
    expect(flatBinary(program)[0]).toBe(42);
  });
});

describe("mistakes are named with file and line", () => {
  it.each([
    ["nop\nfrobnicate a0", /^t\.s:2: unknown instruction 'frobnicate'/],
    ["addi a0, a1, 2048", /^t\.s:1: immediate 2048 is outside -2048\.\.2047/],
    ["add a0, a1", /^t\.s:1: expected a register, found ''/],
    ["j nowhere", /^t\.s:1: undefined symbol 'nowhere'/],
    ["x: nop\nx: nop", /^t\.s:2: symbol 'x' is defined twice/],
    [".macro m\nnop", /^t\.s:1: block is not closed/],
    [".if 1\nnop", /\.if without \.endif/],
    ["beqz a0, far\n.space 8192\nfar: nop", /^t\.s:1: distance to target 8196 is outside/],
    [".word (1", /missing '\)'/],
    ["lw a0, a1", /expected offset\(register\), found 'a1'/],
    [".bss\n.word 1", /only \.space and \.align/],
  ])("%j", (text, message) => {
    expect(() => words(text)).toThrow(message);
  });
});

it("makes a static ELF", () => {
  const program = assemble([{ name: "t.s", text: "_start: nop\n.data\n.word 7\n.bss\n.space 100" }], {
    base: 0x10000n,
    sectionAlign: 4096,
  });
  const elf = staticElf(program);
  const view = new DataView(elf.buffer);
  expect(view.getUint32(0)).toBe(0x7f454c46);
  expect(view.getUint16(18, true)).toBe(243);
  expect(view.getBigUint64(24, true)).toBe(0x10000n);
  expect(view.getUint16(56, true)).toBe(3);
  expect(elf[4096]).toBe(0x13);
  expect(elf[8192]).toBe(7);
  expect(() => staticElf(program, "main")).toThrow("no symbol 'main'");
});

const GNU = "riscv64-linux-gnu-";

function gnuIsThere(): boolean {
  try {
    execFileSync(`${GNU}as`, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

describe.runIf(gnuIsThere())("agrees with GNU as", () => {
  const guests = fileURLToPath(new URL("../../guests/", import.meta.url));
  const read = (directory: string): Source[] =>
    readdirSync(directory)
      .filter((name) => name.endsWith(".s"))
      .sort()
      .map((name) => ({ name, text: readFileSync(join(directory, name), "utf8") }));

  it.each([["pulse"], ["debian"]])("%s", (guest) => {
    const sources = read(join(guests, guest));
    const work = mkdtempSync(join(tmpdir(), "wherry-asm-"));
    try {
      const path = (name: string): string => join(work, name);
      writeFileSync(path("a.s"), `.option norvc\n${sources.map((source) => source.text).join("\n")}`);
      writeFileSync(
        path("a.ld"),
        `SECTIONS { . = ${BASE}; ${[".text", ".rodata", ".data", ".bss"].map((s) => `${s} : { *(${s}) } . = ALIGN(16);`).join(" ")} }`,
      );
      const gnu = (tool: string, ...args: string[]) =>
        execFileSync(`${GNU}${tool}`, args, { cwd: work, stdio: ["ignore", "ignore", "ignore"] });
      gnu("as", "-march=rv64imafdc_zicsr_zifencei_zba_zbb", "-mno-relax", "-o", "a.o", "a.s");
      gnu("ld", "--no-relax", "-T", "a.ld", "-o", "a.elf", "a.o");
      gnu("objcopy", "-j", ".text", "-j", ".rodata", "-j", ".data", "-O", "binary", "a.elf", "a.bin");
      const ours = flatBinary(assemble(sources, { base: BASE }));
      const theirs = readFileSync(path("a.bin"));
      expect(Buffer.from(ours).equals(theirs)).toBe(true);
    } finally {
      rmSync(work, { recursive: true });
    }
  });
});
