// The gates of tools/gates.ts hold for the repository, and each fails on a planted violation.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  configuredHosts,
  globalsGate,
  headerGate,
  hostsGate,
  linesGate,
  namesGate,
  platformGate,
  readSources,
  synchronizeGate,
  violations,
} from "./gates.ts";
import { linksGate } from "./links-gate.ts";
import { onePlaceGate } from "./one-place-gate.ts";
import { columnsGate, referencesGate } from "./prose-gates.ts";
import { wireGate } from "./wire-gate.ts";

const file = (path: string, text: string): { path: string; text: string }[] => [{ path, text }];

describe("the repository", () => {
  it("passes every gate", () => {
    expect(violations(join(import.meta.dirname, ".."), configuredHosts())).toEqual([]);
  });
});

describe("what is read of the repository", () => {
  it("is regular files: a FIFO, a socket or a dead link in tmp/ is passed over", {
    timeout: 20_000,
  }, async () => {
    const root = mkdtempSync(join(tmpdir(), "wherry-sources-"));
    const server = createServer();
    try {
      mkdirSync(join(root, "tmp"));
      writeFileSync(join(root, "tmp/a.md"), "text");
      execFileSync("mkfifo", [join(root, "tmp/fifo.md")]);
      symlinkSync("nowhere", join(root, "tmp/dead.md"));
      await new Promise<void>((resolve) => server.listen(join(root, "tmp/socket.md"), resolve));
      expect(readSources(root)).toEqual([{ path: "tmp/a.md", text: "text" }]);
    } finally {
      server.close();
      rmSync(root, { recursive: true });
    }
  });
});

describe("who may synchronise vCPU state", () => {
  it("a device may not", () => {
    expect(synchronizeGate(file("src/devices/uart.ts", "cpus.synchronizeAllStates();"))).toEqual([
      "src/devices/uart.ts: may not use synchronizeAllStates (allowed: src/vmm/machine.ts, src/vmm/cpus.ts, src/migration/save/, src/migration/snapshot/)",
    ]);
  });
  it("the monitor may look at one vCPU, and do no more", () => {
    expect(synchronizeGate(file("src/monitor/register-dump.ts", "await cpus.synchronizeState(0);"))).toEqual(
      [],
    );
    expect(
      synchronizeGate(file("src/monitor/register-dump.ts", "cpus.synchronizeAllPostReset();")),
    ).toHaveLength(1);
  });
  it("migration may not fetch a single vCPU or write back for a reset", () => {
    const save = "src/migration/save/save.ts";
    expect(synchronizeGate(file(save, "await cpus.synchronizeAllStates();"))).toEqual([]);
    expect(synchronizeGate(file(save, "cpus.synchronizeState(1);"))).toHaveLength(1);
    expect(synchronizeGate(file(save, "cpus.synchronizeAllPostInit();"))).toHaveLength(1);
    expect(synchronizeGate(file("src/migration/ram/a.ts", "cpus.synchronizeAllStates();"))).toHaveLength(1);
    expect(synchronizeGate(file("src/migration/load/a.ts", "cpus.synchronizeAllPreLoad();"))).toEqual([]);
  });
  it("a new hook, a renamed method and a bracket do not get around it", () => {
    expect(
      synchronizeGate(
        file("src/machines/virt.ts", 'cpus["synchronizeAllPostInit"](); const { synchronizeNow } = cpus;'),
      ),
    ).toHaveLength(2);
  });
  it("a comment that names a hook is no call", () => {
    expect(
      synchronizeGate(file("src/devices/uart.ts", "// synchronizeAllStates has run\n/* synchronizeState */")),
    ).toEqual([]);
  });
});

describe("no Node below the platforms", () => {
  it("an import, a type or a dynamic import of node: fails", () => {
    for (const text of [
      'import fs from "node:fs";',
      'type A = import("node:net").Socket;',
      "await import('node:os')",
    ]) {
      expect(platformGate(file("src/migration/x.ts", text))).toHaveLength(1);
      expect(platformGate(file("src/browser/x.ts", text))).toHaveLength(1);
      expect(platformGate(file("src/node/x.ts", text))).toEqual([]);
    }
  });
});

describe("globalThis", () => {
  it("is in the one declaration of the platforms' globals alone", () => {
    const text = "const time = (globalThis as { performance: { now(): number } }).performance;";
    expect(globalsGate(file("src/wasm/x.ts", text))).toHaveLength(1);
    expect(globalsGate(file("src/base/runtime-globals.ts", text))).toEqual([]);
    expect(globalsGate(file("src/wasm/x.ts", "// globalThis"))).toEqual([]);
  });
});

describe("files", () => {
  it("have at most 800 lines", () => {
    expect(linesGate(file("src/a.ts", "x\n".repeat(800)))).toEqual([]);
    expect(linesGate(file("src/a.ts", "x\n".repeat(801)))).toEqual([
      "src/a.ts: 801 lines, at most 800: split it by topic",
    ]);
  });
  it("have a name that no other file has", () => {
    const paths = ["src/a/one.ts", "src/b/two.ts", "src/a/index.ts", "src/b/index.ts", "test/b/one.ts"];
    const files = paths.map((path) => ({ path, text: "" }));
    expect(namesGate(files)).toEqual([]);
    expect(namesGate([...files, ...file("src/b/one.ts", "")])).toEqual([
      "src/b/one.ts: has the name of src/a/one.ts: name it by its room and content",
    ]);
  });
  it("start with a comment", () => {
    expect(headerGate(file("src/base/a.ts", "// What it is.\n"))).toEqual([]);
    expect(headerGate(file("src/base/a.ts", 'import "./b.ts";\n'))).toHaveLength(1);
  });
});

describe("facts of the architecture", () => {
  it.each([
    ["a CSR's number", "satp: 0x180,"],
    ["a CSR's number", '["mstatus", 0x300],'],
    ["a CSR's number", "const CSR_TIME = 0xC01;"],
    ["the mask of S-mode's interrupts", "const S_INTERRUPTS = 0x222n;"],
    ["the mask of all interrupts", "value & 0xaaan"],
    ["what is delegable", "const DELEGABLE = 0xb3ffn;"],
    ["mstatus' mask", "const MASK = 0x7e79aan;"],
    ["misa", "const ISA = 0x8000_0000_0014_112dn;"],
    ["all ones", "const NEVER = 0xffffffffffffffffn;"],
    ["all ones", "const NEVER = 0xFFFF_FFFF_FFFF_FFFFn;"],
    ["all ones", "const ONES = 2n ** 64n - 1n;"],
    ["all ones", "const ONES = (1n << 64n) - 1n;"],
    ["a bit of mip", "const MIP_STIP = 1 << 5;"],
    ["a bit of mip", "  SEIP: bit(9),"],
    ["an interrupt", "const INTERRUPT = { SSI: 1 };"],
    ["a bit of mstatus", "  MPRV: 17,"],
    ["a list of extensions", 'const ISA = ["zicntr", "zicsr", "zihpm"];'],
    ["an extension's number", "  ZIHINTPAUSE: 10,"],
  ])("%s has no second copy: %s", (_fact, line) => {
    expect(onePlaceGate(file("src/vmm/x.ts", line))).toHaveLength(1);
    expect(onePlaceGate(file("src/vmm/x.ts", `// ${line}`))).toEqual([]);
    expect(onePlaceGate(file("src/riscv/x.ts", line))).toEqual([]);
    expect(onePlaceGate(file("src/vmm/x.test.ts", line))).toEqual([]);
  });
  it("a mask made of them, and what only has such a name, is none", () => {
    for (const line of [
      "const MIP_STIP = 1 << INTERRUPT.STI;",
      "const IER_MSI = 0x08;",
      "read64(0x180)",
      "REGISTERS.satp.csr",
      'extensions: { zfh: "zfh=on", zicond: "zicond=on" },',
    ])
      expect(onePlaceGate(file("src/vmm/x.ts", line))).toEqual([]);
  });
});

describe("numbers of the stream", () => {
  it.each([
    ["a type byte", "const SUBSECTION_MARK = 0x05;"],
    ["a type byte", "  SECTION_FOOTER: 126,"],
    ["a command", "const MIG_CMD_PING = 2;"],
    ["a command", '[3, "POSTCOPY_ADVISE"],'],
    ["a message", "MIG_RP_MSG: { SHUT: 1 },"],
    ["a flag of RAM", "const RAM_SAVE_FLAG_MULTIFD_FLUSH = 0x200;"],
    ["a flag of RAM", 'const FLAGS = new Map([["EOS", 0x10]]);'],
    ["a version", "const RAM_VERSION = 4;"],
    ["the magic", "if (magic !== 0x5145_564D) return;"],
    ["the magic", 'text === "QEVM"'],
    ["multifd's magic", "reader.u32() === 0x11223344"],
  ])("%s has no second copy: %s", (_fact, line) => {
    expect(wireGate(file("src/inspect/x.ts", line))).toHaveLength(1);
    expect(wireGate(file("src/inspect/x.ts", `// ${line}`))).toEqual([]);
    expect(wireGate(file("src/stream/x.ts", line))).toEqual([]);
    expect(wireGate(file("test/x.ts", line))).toEqual([]);
  });
  it("another number of such a name, and a number that is computed, are none", () => {
    for (const line of ["const PAGE = 4096;", "PING: QEMU_VM.PING", "const ZERO = 2 ** 4;", "page(8)"])
      expect(wireGate(file("src/inspect/x.ts", line))).toEqual([]);
  });
});

describe("names of registries and mirrors", () => {
  const gate = hostsGate(["packages.example"]);
  it("fail wherever they stand", () => {
    expect(gate(file("docs/a.md", "see https://packages.example/x"))).toEqual([
      "docs/a.md: names the host packages.example: take it from the machine's configuration",
    ]);
    expect(
      gate(file("package-lock.json", `"resolved": "http://${"mirror"}.example.org/a.tgz"`)),
    ).toHaveLength(1);
    expect(gate(file("docs/a.md", "packages-example, https://example.org/mirrors-of-state"))).toEqual([]);
  });
});

describe("links and names in documents", () => {
  const gate = linksGate(join(import.meta.dirname, ".."));
  const document = (text: string): { path: string; text: string }[] => [
    { path: "README.md", text },
    { path: "src/base/bytes.ts", text: "// Bytes.\n" },
  ];
  it("lead to files and headings", () => {
    expect(
      gate(document("# One `two`: [three](x:y)\n\n[a](LICENSE) [b](#one-two-three) `base/bytes.ts`\n")),
    ).toEqual([]);
    expect(gate(document("[a](docs/none.md)"))).toEqual([
      "README.md: links to docs/none.md, and there is no docs/none.md",
    ]);
    expect(gate(document("# One\n[a](#two)"))).toEqual([
      "README.md: links to #two, and README.md has no such heading",
    ]);
    expect(gate(document("see `base/words.ts`"))).toEqual([
      "README.md: names base/words.ts, and there is no such file",
    ]);
  });
  it("are not looked for in code blocks and on the web", () => {
    expect(gate(document("```\n[a](none.md)\n```\n[b](https://example.org/none.md)"))).toEqual([]);
  });
});

describe("prose", () => {
  it("refers to no document that is not in the repository", () => {
    for (const absent of [`${"design"} 03`, `${"Seed"} 000`, `${"issue"} 12`, `${"issue"} #12`]) {
      expect(referencesGate(file("src/a.ts", `// The order of ${absent}.`))).toEqual([
        `src/a.ts: refers to "${absent}", which is not in the repository: name a chapter of docs or a public document`,
      ]);
    }
    expect(referencesGate(file("docs/a.md", "| what |\n|---|\n| S0 writeback |\n| **S4** |\n"))).toHaveLength(
      2,
    );
    expect(referencesGate(file("docs/a.md", "| stage | Sv39x4, S2 of x86 |\n"))).toEqual([]);
    expect(referencesGate(file("CHANGELOG.md", `${"issue"} 12`))).toEqual([]);
  });
  it("has at most 110 columns", () => {
    const words = `${"word ".repeat(21)}1234`;
    expect(columnsGate(file("docs/a.md", `${words}5\n`))).toEqual([]);
    expect(columnsGate(file("docs/a.md", `${words}5+\n`))).toEqual([
      "docs/a.md:1: 111 columns of prose, at most 110: wrap it",
    ]);
    for (const comment of [`// ${words}`, `/** ${words} */`, `/**\n * ${words}\n */`])
      expect(columnsGate(file("src/a.ts", `const a = 1;\n${comment}\n`))).toHaveLength(1);
    for (const path of ["a.sh", "a.s", ".ci/run"])
      expect(columnsGate(file(path, `a\n# ${words}\n`))).toHaveLength(1);
  });
  it("may have long tables, code, links and words", () => {
    const words = "word ".repeat(30);
    const text = `| ${words} |\n\n\`\`\`\n${words}\n\`\`\`\n[${words}](b.md)\n- ${"x".repeat(120)}\n`;
    expect(columnsGate(file("docs/a.md", text))).toEqual([]);
    expect(columnsGate(file("src/a.ts", `const a = "${words}";\n`))).toEqual([]);
  });
});
