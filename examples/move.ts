// Moves a running machine from one process to another: two `wherry run`, told what to do over QMP, QEMU's
// monitor protocol: JSON, one message a line.
//   npm run pulse -- tmp/pulse.bin && npx node examples/move.ts tmp/pulse.bin
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { argv } from "node:process";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const [, , kernel = "tmp/pulse.bin"] = argv;
const WHERRY = fileURLToPath(new URL("bin/wherry", import.meta.resolve("wherry/package.json")));
const directory = mkdtempSync(join(tmpdir(), "wherry-example-"));
const hardware = ["--smp", "2", "--memory", "64M"]; // the same on both sides

type Machine = ChildProcessByStdio<Writable, Readable, null>;
const children: Machine[] = [];

/** Starts a machine; its console goes to our output, each line with its name in front. */
async function start(name: string, options: readonly string[]): Promise<Machine> {
  const monitor = join(directory, name);
  const child = spawn(WHERRY, ["run", ...hardware, ...options, "--qmp", `unix:${monitor}`], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  children.push(child);
  createInterface(child.stdout).on("line", (line) => console.log(`${name}: ${line}`));
  for (;;) {
    try {
      await qmp(name, "query-status"); // answered once the machine is up, and its `--incoming` address is open
      return child;
    } catch (error) {
      if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}`, { cause: error });
      if (!["ENOENT", "ECONNREFUSED"].includes((error as { code?: string }).code ?? "")) throw error;
      await delay(20);
    }
  }
}

interface Answer {
  readonly return?: { readonly status?: string; readonly downtime?: number; readonly "error-desc"?: string };
  readonly error?: { readonly desc: string };
}

/** One command to a machine's monitor. */
async function qmp(name: string, execute: string, args: object = {}): Promise<NonNullable<Answer["return"]>> {
  const socket = connect(join(directory, name));
  try {
    await once(socket, "connect");
    for (const command of [{ execute: "qmp_capabilities" }, { execute, arguments: args }]) {
      socket.write(`${JSON.stringify(command)}\n`);
    }
    const answers: Answer[] = [];
    for await (const line of createInterface(socket)) {
      const message = JSON.parse(line) as Answer; // the greeting and events have neither
      if (message.error !== undefined) throw new Error(`${execute}: ${message.error.desc}`);
      if (message.return !== undefined && answers.push(message) === 2) return message.return;
    }
    throw new Error(`${name} went away`);
  } finally {
    socket.destroy();
  }
}

try {
  const source = await start("source", ["--kernel", kernel, "--append", "pulse.nodisk"]);
  await delay(2000); // the guest works
  const address = `unix:${join(directory, "move")}`;
  const destination = await start("destination", ["--incoming", address]);

  await qmp("source", "migrate", { uri: address });
  let state = await qmp("source", "query-migrate");
  while (state.status !== "completed") {
    if (state.status === "failed") throw new Error(`the move failed: ${state["error-desc"]}`);
    await delay(100);
    state = await qmp("source", "query-migrate");
  }
  console.log(`moved; the guest stood still for ${state.downtime} ms`);
  await qmp("source", "quit");
  await once(source, "exit");

  destination.stdin.write("q"); // pulse's key for "check everything and power off"
  const [code] = (await once(destination, "exit")) as [number | null];
  console.log(`destination ended with ${code}`);
  if (code !== 0) process.exitCode = 1;
} finally {
  for (const child of children) child.kill();
  rmSync(directory, { recursive: true });
}
