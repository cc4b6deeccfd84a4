// How commands end on failures of the host: a closed pipe, a full disk, an invalid path, a killed machine.
import { execFile, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildPulse } from "../../src/guest/pulse-guest.ts";
import { openFileSink, openFileSource } from "../../src/node/channels/node-channels.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-ends-"));
  await writeFile(join(directory, "pulse.gz"), gzipSync(await buildPulse()));
});
afterAll(() => rm(directory, { recursive: true }));

const shell = (command: string) =>
  new Promise<{ code: number; out: string; err: string }>((resolve) => {
    execFile("/bin/bash", ["-c", command], { cwd: directory, timeout: 50_000 }, (error, out, err) =>
      resolve({ code: typeof error?.code === "number" ? error.code : 0, out, err }),
    );
  });

test("a full standard output is reported in one line as the host's fault", async () => {
  const { code, err } = await shell(`"${process.execPath}" "${MAIN}" --help > /dev/full`);
  expect(code).toBe(1);
  expect(err).toMatch(/^wherry: standard output: ENOSPC.*\n$/);
});

test("a closed standard output ends a machine without a message; its kernel may be gzipped", async () => {
  const run = `"${process.execPath}" "${MAIN}" run --memory 64M --kernel pulse.gz --append pulse.nodisk < /dev/null`;
  const { out, err } = await shell(`${run} | head -1; echo "\${PIPESTATUS[0]}"`);
  expect(out).toMatch(new RegExp(`^pulse: harts=1 .*\\n${128 + constants.signals.SIGPIPE}\\n$`));
  expect(err).toBe("");
});

test("an invalid kernel is named", async () => {
  await writeFile(join(directory, "text"), "# no kernel");
  const { code, err } = await shell(`"${process.execPath}" "${MAIN}" run --kernel text < /dev/null`);
  expect(code).toBe(1);
  expect(err).toMatch(/^wherry: the kernel is .*given: --kernel text\)\n$/);
});

test("a signal ends a machine whose file is a pipe that nobody writes", async () => {
  const run = `"${process.execPath}" "${MAIN}" run --serial none --kernel pipe`;
  const { code } = await shell(`mkfifo pipe; ${run} & sleep 3; kill -TERM $!; wait $!`);
  expect(code).toBe(128 + constants.signals.SIGTERM);
});

test("a directory is neither a saved machine nor a place to save to", async () => {
  await expect(openFileSource(directory)).rejects.toThrow("is a directory, expected a saved machine");
  await expect(openFileSink(directory)).rejects.toThrow("name a file");
  await expect(openFileSink("")).rejects.toThrow("name a file");
});

test("a demo whose destination is killed in the move ends by itself", async () => {
  const child = spawn(process.execPath, [MAIN, "demo", "--guest", "pulse"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  child.stdout.on("data", (bytes) => {
    text += bytes;
    const pid = /moving it to process (\d+) /.exec(text)?.[1];
    if (pid !== undefined && child.exitCode === null && !killed) {
      killed = true;
      process.kill(Number(pid), "SIGKILL");
    }
  });
  let killed = false;
  child.stderr.on("data", (bytes) => (text += bytes));
  const code = await new Promise((resolve) => child.once("close", resolve));
  expect(killed).toBe(true);
  expect(code).toBe(1);
  expect(text).toMatch(/the move failed: .*the machine is running here/);
});
