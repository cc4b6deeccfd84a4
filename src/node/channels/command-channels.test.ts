// Commands as channels: their input and output, and the report of their failures.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, assert, expect, test, vi } from "vitest";
import type { Channel } from "../../stream/channel.ts";
import { openCommandSink, openCommandSource } from "./command-channels.ts";

const directory = mkdtempSync(join(tmpdir(), "wherry-command-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const megabyte = Uint8Array.from({ length: 1 << 20 }, (_, i) => i * 7);

async function readAll(channel: Channel): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for (;;) {
    const target = new Uint8Array(100_000);
    const n = await channel.read(target);
    if (n === 0) return Buffer.concat(pieces);
    pieces.push(target.subarray(0, n));
  }
}

test("a command reads all of its standard input, and ends before commit resolves", async () => {
  const path = join(directory, "out");
  const sink = openCommandSink(`cat > '${path}'; sleep 0.1; echo end >> '${path}'`);
  for (let i = 0; i < 3; i++) await sink.channel.write(megabyte);
  await sink.commit();
  expect(readFileSync(path)).toEqual(
    Buffer.concat([megabyte, megabyte, megabyte, new TextEncoder().encode("end\n")]),
  );
});

test("a command that fails does not end the stream", async () => {
  const sink = openCommandSink("cat > /dev/null; exit 3");
  await sink.channel.write(megabyte);
  await expect(sink.commit()).rejects.toThrow(/the command cat .*ended with status 3/);
  await expect(readAll(openCommandSource("echo abc; exit 4"))).rejects.toThrow(/ended with status 4/);
  await expect(readAll(openCommandSource("kill -9 $$"))).rejects.toThrow(/was ended by SIGKILL/);
});

test("a command that stops reading is reported with its exit status", async () => {
  const sink = openCommandSink("head -c 10 > /dev/null; exit 5");
  const writes = async () => {
    for (let i = 0; i < 10; i++) await sink.channel.write(megabyte);
  };
  await expect(writes()).rejects.toThrow(/ended with status 5/);
  await sink.discard();
});

test("a command's output is read to its end, or until the read is aborted", async () => {
  expect((await readAll(openCommandSource("head -c 3000000 /dev/zero"))).length).toBe(3_000_000);
  const endless = openCommandSource("cat /dev/zero");
  await endless.read(new Uint8Array(10));
  const reading = readAll(endless);
  endless.abort(new Error("aborted"));
  await expect(reading).rejects.toThrow("aborted");
});

test("aborting ends the command and all processes that it started", async () => {
  const pidFile = join(directory, "pid");
  const sink = openCommandSink(`sleep 1000 & echo $! > ${pidFile}; wait`);
  const started = await vi.waitFor(() =>
    Number(readFileSync(pidFile, "utf8").trim() || assert.fail("not yet")),
  );
  const writing = sink.channel.write(megabyte);
  const reason = new Error("cancelled");
  sink.channel.abort(reason);
  await expect(writing).rejects.toThrow("cancelled");
  await expect(sink.commit()).rejects.toThrow(/SIGTERM/);
  // It may remain a zombie for a while: not every system's init reaps at once.
  const commandLine = (): string => {
    try {
      return readFileSync(`/proc/${started}/cmdline`, "utf8");
    } catch {
      return "";
    }
  };
  await vi.waitFor(() => expect(commandLine()).toBe(""));
});
