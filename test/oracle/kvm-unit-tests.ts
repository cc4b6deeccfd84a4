// Runs kvm-unit-tests' SBI tests in Wherry with its own firmware, in Wherry with an OpenSBI, and in QEMU, and
// prints a table (docs/sbi.md). The suite is not part of the repository: build it elsewhere and give the
// directory of its clone, or a .flat file.
//   node test/oracle/kvm-unit-tests.ts CLONE [--firmware FILE] [--qemu PROGRAM] [--smp N] [--runs N] [--all]
// Without --firmware, QEMU takes its own OpenSBI, and Wherry runs with its own firmware alone.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

const LIMIT_MS = 180_000;

/** The tests' environment: what they cannot know about this firmware. OpenSBI dies of the invalid address. */
const BUILTIN_ENVIRONMENT = [
  ...["SBI_SPEC_VERSION=0x3000000", "SBI_IMPL_ID=0x57", "SBI_IMPL_VERSION=1"],
  ...["MVENDORID=0", "MARCHID=0", "MIMPID=0", "MISALIGNED_EXC_DELEG_RESET=1"],
  ...[
    "SBI_HAVE_FWFT_MISALIGNED_EXC_DELEG=y",
    "SBI_HAVE_FWFT_PTE_AD_HW_UPDATING=y",
    "INVALID_ADDR_AUTO=y",
    "",
  ],
].join("\n");

interface Machine {
  readonly name: string;
  readonly command: readonly string[];
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    firmware: { type: "string" },
    qemu: { type: "string", default: "qemu-system-riscv64" },
    smp: { type: "string", default: "4" },
    runs: { type: "string", default: "1" },
    all: { type: "boolean", default: false },
  },
});
const [given] = positionals;
if (given === undefined) {
  console.error(
    "usage: node test/oracle/kvm-unit-tests.ts CLONE [--firmware FILE] [--qemu PROGRAM] [--smp N] [--runs N] [--all]",
  );
  process.exit(2);
}
const kernel = statSync(given).isDirectory() ? join(given, "riscv/sbi.flat") : given;
if (!(statSync(kernel, { throwIfNoEntry: false })?.isFile() ?? false)) {
  console.error(
    `${kernel}: no such file. In the clone: ./configure --arch=riscv64 --cross-prefix=riscv64-linux-gnu- && make`,
  );
  process.exit(2);
}

const folder = mkdtempSync(join(tmpdir(), "kvm-unit-tests-"));
process.on("exit", () => rmSync(folder, { recursive: true }));
const environment = join(folder, "environment");
writeFileSync(environment, BUILTIN_ENVIRONMENT);

const wherry = [
  join(import.meta.dirname, "../../bin/wherry"),
  ...["run", "--smp", values.smp, "--memory", "128M", "--kernel", kernel],
];
const { firmware } = values;
const machines: readonly Machine[] = [
  { name: "Wherry", command: [...wherry, "--initrd", environment] },
  ...(firmware === undefined
    ? []
    : [{ name: "Wherry, OpenSBI", command: [...wherry, "--firmware", firmware] }]),
  {
    name: "QEMU, OpenSBI",
    command: [
      ...[values.qemu, "-nodefaults", "-nographic", "-serial", "stdio", "-M", "virt", "-smp", values.smp],
      ...["-m", "128M", "-bios", firmware ?? "default", "-kernel", kernel],
    ],
  },
];

/** The results by test, in their order; a reason if the machine did not come to the summary. */
async function run({ command }: Machine): Promise<{ results: Map<string, string>; error?: string }> {
  const [program = "", ...args] = command;
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  let error: string | undefined;
  child.stdout.on("data", (bytes: Buffer) => (text += bytes.toString("latin1")));
  child.stderr.on("data", (bytes: Buffer) => (text += bytes.toString("latin1")));
  const timer = setTimeout(() => {
    error = `no end after ${LIMIT_MS / 1000} s`;
    child.kill("SIGKILL");
  }, LIMIT_MS);
  await new Promise<void>((resolve) => {
    child.on("error", (e) => {
      error = e.message;
      resolve();
    });
    child.on("close", () => resolve());
  });
  clearTimeout(timer);
  const results = new Map<string, string>();
  for (const [, verdict = "", test = ""] of text.matchAll(
    /^(PASS|K?FAIL|XFAIL|XPASS|SKIP): sbi: (.*?)\r?$/gm,
  )) {
    let name = test.replace(/ \(error=-?\d+\)$/, "");
    // Some names stand for several calls.
    for (let i = 2; results.has(name); i++) name = `${test}, ${i}`;
    results.set(name, verdict);
  }
  if (!/^SUMMARY: /m.test(text)) error ??= `ended without a summary: ${text.trim().split("\n").at(-1)}`;
  return error === undefined ? { results } : { results, error };
}

let failed = false;
for (let i = 0; i < Number(values.runs); i++) {
  const outcomes: { name: string; results: Map<string, string>; error?: string }[] = [];
  for (const machine of machines) outcomes.push({ name: machine.name, ...(await run(machine)) });
  const names = new Set(outcomes.flatMap(({ results }) => [...results.keys()]));
  console.log(`| test | ${machines.map(({ name }) => name).join(" | ")} |`);
  console.log(`|---|${machines.map(() => "---|").join("")}`);
  for (const name of names) {
    const cells = outcomes.map(({ results }) => results.get(name) ?? "");
    if (values.all || cells.some((cell) => cell !== "PASS"))
      console.log(`| ${name} | ${cells.join(" | ")} |`);
  }
  for (const { name, results, error } of outcomes) {
    const count = (verdict: string): number => [...results.values()].filter((v) => v === verdict).length;
    const counts = ["PASS", "FAIL", "KFAIL", "SKIP"].map((verdict) => `${count(verdict)} ${verdict}`);
    console.log(`${name}: ${counts.join(", ")}${error === undefined ? "" : `; ${error}`}`);
  }
  const [own] = outcomes;
  failed ||= own === undefined || own.error !== undefined || [...own.results.values()].includes("FAIL");
}
process.exitCode = failed ? 1 : 0;
