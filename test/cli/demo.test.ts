// The demo unattended, with pulse: `npm start` without a terminal and a mirror. Also its parsing of Debian's
// console, here a script.
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ConsoleClient } from "../../src/cli/machine/console-client.ts";
import { debianGuest } from "../../src/cli/commands/demo-debian.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-test-demo-"));
});
afterEach(() => rm(directory, { recursive: true }));

/** The demo with its temporary files in the test's own directory. */
function demo(...args: string[]) {
  const child = spawn(process.execPath, [MAIN, "demo", ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, TMPDIR: directory },
  });
  let [out, err] = ["", ""];
  child.stdout.on("data", (text) => (out += text));
  child.stderr.on("data", (text) => (err += text));
  const ended = new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
    child.on("close", (code) => resolve({ code, out, err }));
  });
  return { child, ended, output: () => out };
}

test("without a mirror: pulse is moved, its check passes, and no process or file remains", async () => {
  const nowhere = ["--mirror", "http://127.0.0.1:9", "--cache", join(directory, "cache")];
  const { code, out, err } = await demo("--smp", "2", ...nowhere).ended;
  expect({ code, err: err.replace(/^(boot|move): .*\n/gm, "") }).toEqual({ code: 0, err: "" });
  expect(out).toMatch(/^No Debian: .*127\.0\.0\.1:9/);
  expect(out).toContain("pulse on 2 harts, moved while it worked");
  expect(out).toMatch(/downtime +\S+ m?s as the guest saw it, \S+ m?s as the host saw it/);
  expect(out).toMatch(/check +passed/);
  expect((await readdir(directory)).filter((name) => name !== "cache")).toEqual([]);
});

test("ended by a signal it takes its machines and its files with it", async () => {
  const { child, ended, output } = demo("--guest", "pulse", "--smp", "1");
  while (!output().includes("runs it")) await new Promise((resolve) => setTimeout(resolve, 50));
  const pid = Number(/process (\d+) runs it/.exec(output())?.[1]);
  child.kill("SIGTERM");
  expect((await ended).code).toBe(143);
  while (await isAlive(pid)) await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await readdir(directory)).toEqual([]);
});

test("Debian's kernel may log in the middle of an expected line", async () => {
  const path = join(directory, "console");
  const server = createServer((socket) => {
    const print = (...pieces: string[]) =>
      socket.write(pieces.join("[   59.212798] hrtimer: interrupt took 8200600 ns\r\n"));
    print("Linux\r\nwher", "ry:~", "# ");
    const lines = setInterval(
      () => print("witness: n=1 ", "gap_us=3000 maxgap_us=1 mem=ok fi", "le=ok\r\n"),
      10,
    );
    socket.on("data", (typed) => {
      if (typed.includes("witness.stop")) print("witness: PA", "SS n=", "1\r\n");
    });
    socket.on("close", () => clearInterval(lines));
    // The client may be gone when the next line is due.
    socket.on("error", () => clearInterval(lines));
  }).listen(path);
  const client = await ConsoleClient.connect(path);
  const files = { kernel: "", initrd: "", opensbi: "", version: "", suite: "" };
  const { boot, startWork, prove } = debianGuest(files, 1);
  try {
    await boot(client, () => {});
    expect(await startWork(client)).toBe(3);
    expect(await prove(client, "")).toMatchObject({ ok: true, gapMs: 3 });
  } finally {
    client.close();
    server.close();
  }
}, 10_000);

/** False for a zombie too: in a container, process 1 may not reap it. */
async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => ") Z");
  return !/\) [ZX]/.test(stat);
}
