// Messages for files, sockets and values that cannot be used: what, where, why, each once, and the exit code.
// Existing files are not changed.
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildPulse } from "../../src/guest/pulse-guest.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "wherry-bad-"));
let server: Server;

beforeAll(async () => {
  mkdirSync(join(directory, "dir"));
  writeFileSync(join(directory, "empty"), "");
  writeFileSync(join(directory, "text"), "hello, hello\n");
  writeFileSync(join(directory, "kernel"), await buildPulse());
  // A machine of another architecture, as far as its configuration goes.
  const name = Buffer.from("pc-q35-10.0");
  writeFileSync(
    join(directory, "q35"),
    Buffer.concat([Buffer.from("QEVM\0\0\0\x03\x07\0\0\0", "latin1"), Buffer.from([name.length]), name]),
  );
  execFileSync("mkfifo", [join(directory, "fifo")]);
  // A server that does not speak QMP.
  server = createServer((socket) => socket.on("error", () => {}).write("login: \n"));
  await new Promise<void>((resolve) => server.listen(join(directory, "socket"), resolve));
});
afterAll(() => {
  server.close();
  rmSync(directory, { recursive: true });
});

function wherry(args: readonly string[]): Promise<{ code: number | null; err: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [MAIN, ...args], {
      stdio: ["ignore", "ignore", "pipe"],
      cwd: directory,
    });
    let err = "";
    child.stderr.on("data", (text) => (err += text));
    child.on("close", (code) => resolve({ code, err }));
  });
}

const none = "no such file or directory (ENOENT)";
const unread = "a pipe that nobody reads: start its reader first";
const long = `unix:${"x".repeat(200)}`;
const tooLong = "the path has 200 bytes, a unix socket's has at most 107";
const noStream = "header at offset 0x0";
test.concurrent.each([
  ["run --kernel nowhere", 1, `--kernel nowhere: ${none}`],
  ["run --kernel dir", 1, "--kernel dir: illegal operation on a directory (EISDIR)"],
  ["run --kernel kernel --serial file:/nowhere/x", 1, `--serial file:/nowhere/x: ${none}`],
  ["run --kernel kernel --serial file:fifo", 1, `--serial file:fifo: ${unread}`],
  ["run --kernel kernel --serial none --console file:fifo", 1, `--console file:fifo: ${unread}`],
  [
    "run --memory 2M --kernel /dev/zero",
    1,
    "--kernel /dev/zero: has more bytes than the machine's memory of 2 MiB: give it more memory, or another file",
  ],
  [
    "run --kernel kernel --serial unix:/nowhere/x",
    1,
    "cannot listen on unix:/nowhere/x: there is no directory /nowhere",
  ],
  ["run --kernel kernel --qmp unix:text", 1, "text exists and is not a socket"],
  ["run --kernel kernel --qmp unix:socket", 1, "another process listens on socket"],
  ["run --kernel kernel --qmp bla", 2, "--qmp bla: expected unix:PATH or tcp:HOST:PORT"],
  [`run --kernel kernel --qmp ${long}`, 2, `--qmp ${long}: ${tooLong}`],
  ["run --kernel kernel --drive file=fifo", 1, "fifo: not a regular file; a disk is an image in a file"],
  ["run --incoming file:nowhere", 1, `cannot open nowhere: ${none}`],
  ["run --incoming file:dir", 1, "dir is a directory, expected a saved machine"],
  [
    "run --incoming file:empty",
    1,
    `empty: ${noStream}: the stream ends 8 bytes too early; the data is cut or damaged: use another copy, or save again`,
  ],
  [
    "restore text",
    1,
    `text: ${noStream}: expected 0x5145564d ("QEVM"), found 0x68656c6c; this is not a saved machine`,
  ],
  [
    "restore q35",
    1,
    'q35: section configuration at offset 0xd: this machine is "virt", found "pc-q35-10.0": give both sides the same machine type',
  ],
  ["run --incoming unix:/nowhere/x", 1, "cannot listen at unix:/nowhere/x: there is no directory /nowhere"],
  ["run --incoming unix:dir", 1, "cannot listen at unix:dir: dir exists and is not a socket"],
  [
    "run --incoming unix:socket",
    1,
    "cannot listen at unix:socket: another process listens there (EADDRINUSE)",
  ],
  [`run --incoming ${long}`, 1, `${long}: ${tooLong}`],
  ["run --incoming foo", 2, "--incoming foo: expected tcp:HOST:PORT, unix:PATH, file:FILE or exec:COMMAND"],
  [
    "migrate foo --qmp unix:socket",
    2,
    "URI foo: expected tcp:HOST:PORT, unix:PATH, file:FILE or exec:COMMAND",
  ],
  [
    "migrate unix:x --multifd 2 --qmp unix:socket",
    2,
    "--multifd is a format of QEMU: name the release that loads it with --profile",
  ],
  [
    "save x --mapped-ram --qmp unix:socket",
    2,
    "--mapped-ram is a format of QEMU: name the release that loads it with --profile",
  ],
  ["status --qmp unix:socket", 1, "unix:socket does not speak QMP: is it another socket of the machine?"],
  ["status --qmp unix:nowhere", 1, "cannot reach unix:nowhere: no machine listens there"],
  ["trace main --qmp unix:nowhere", 2, "ADDRESS main: expected an address such as 0x80200000"],
  ["inspect nowhere", 1, `nowhere: ${none}`],
  ["inspect dir", 1, "dir: is a directory"],
  [
    "diff text q35",
    2,
    `text: ${noStream}: expected 0x5145564d ("QEVM"), found 0x68656c6c; give the file that migrate or savevm wrote, unpacked; cut off the bytes before it (\`wherry inspect --offset\` skips them)`,
  ],
  [
    "diff q35 empty",
    2,
    `empty: ${noStream}: expected 8 more bytes, found the end; check that the migration's status was \`completed\`, and use a whole copy of the file`,
  ],
  ["check --from nowhere --to text", 2, `nowhere: ${none}`],
  [
    "check --from text --to text",
    2,
    "text: dump of the target: expected the output of qemu -dump-vmstate, found no JSON (Unexpected token 'h'); make it with `qemu-system-ARCH -M MACHINE -dump-vmstate FILE`",
  ],
  ["check --from dir --to dir", 2, "dir: illegal operation on a directory (EISDIR)"],
  ["guest", 2, "unknown command 'guest'; did you mean guest fetch?"],
] as const)("wherry %s", { timeout: 120_000 }, async (line, code, message) => {
  const before = readdirSync(directory);
  const advice =
    code === 2 && !/^(diff|check)/.test(line) ? "try: wherry --help, or wherry COMMAND --help\n" : "";
  expect(await wherry(line.split(" "))).toEqual({ code, err: `wherry: ${message}\n${advice}` });
  expect(readdirSync(directory)).toEqual(before);
});
