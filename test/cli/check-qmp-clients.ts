// Drives a machine over QMP with the clients that others use, as far as they are installed: QEMU's own
// (qemu.qmp, `pip install qemu.qmp`) and go-qemu (Debian: golang-go, golang-github-digitalocean-go-qemu-dev).
//
//   node test/cli/check-qmp-clients.ts [--python PROGRAM] [--gopath DIRECTORY]
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { MachineProcess } from "../../src/cli/machine/machine-process.ts";

const { values } = parseArgs({
  options: {
    python: { type: "string", default: "python3" },
    gopath: { type: "string", default: "/usr/share/gocode" },
  },
});
const clients = join(import.meta.dirname, "qmp-clients");
const directory = mkdtempSync(join(tmpdir(), "wherry-qmp-"));

interface Client {
  readonly name: string;
  readonly command: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** Ends with status 0 if it is installed. */
  readonly probe: readonly string[];
}

const env = { ...process.env, GO111MODULE: "off", GOPATH: values.gopath, GOCACHE: join(directory, "go") };
const all: readonly Client[] = [
  {
    name: "qemu.qmp",
    command: [values.python, join(clients, "qemu_qmp.py")],
    probe: [values.python, "-c", "import qemu.qmp"],
  },
  {
    name: "go-qemu",
    command: ["go", "run", join(clients, "go-qemu.go")],
    env,
    probe: ["go", "list", "github.com/digitalocean/go-qemu/qemu"],
  },
];

const run = ([program = "", ...args]: readonly string[], environment?: NodeJS.ProcessEnv) =>
  new Promise<boolean>((resolve) => {
    const child = spawn(program, args, { stdio: "inherit", env: environment });
    child.once("error", () => resolve(false));
    child.once("exit", (status) => resolve(status === 0));
  });

const text = "_start:\n  j _start\n";
const kernel = join(directory, "kernel");
writeFileSync(kernel, flatBinary(assemble([{ name: "idle.s", text }], { base: 0x80200000n })));
let passed = 0;
let failed = 0;
for (const {
  name,
  command,
  env: environment,
  probe: [program = "", ...args],
} of all) {
  if (spawnSync(program, args, { stdio: "ignore", env: environment }).status !== 0) {
    process.stdout.write(`${name}: not installed\n`);
    continue;
  }
  const machine = await MachineProcess.start(name, directory, ["--kernel", kernel, "--memory", "16M"]);
  const isRight = await run([...command, join(directory, `${name}.qmp`)], environment);
  if (isRight) passed++;
  else failed++;
  process.stdout.write(`${name}: ${isRight ? "drives the machine" : "FAILED"}\n`);
  await machine.quit();
}
rmSync(directory, { recursive: true, force: true });
process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
