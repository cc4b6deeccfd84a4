// `wherry inspect` as a process: files and pipes, its output, blocks of RAM as files, exit codes.
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { deflateSync } from "node:zlib";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { ByteWriter } from "../../src/base/bytes.ts";
import { bytesSource } from "../../src/inspect/read/byte-source.ts";
import { readStream } from "../../src/inspect/read/read-stream.ts";
import { page, PAGE, pageOf, smallStream, StreamBuilder, zeroPage } from "../support/stream-builder.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-inspect-"));
});
afterEach(() => rm(directory, { recursive: true }));

interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function inspect(args: readonly string[], stdin?: Uint8Array): Promise<Result> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [MAIN, "inspect", ...args], { cwd: directory });
    let [out, err] = ["", ""];
    child.stdout.on("data", (text) => (out += text));
    child.stderr.on("data", (text) => (err += text));
    child.on("close", (code) => resolve({ code, out, err }));
    child.stdin.on("error", () => {});
    child.stdin.end(stdin);
  });
}

test("a whole stream: overview, section, field, JSON, from a file and a pipe", async () => {
  const bytes = smallStream().end();
  await writeFile(join(directory, "s"), bytes);
  const [all, piped, section, field, json] = await Promise.all([
    inspect(["s"]),
    inspect(["-"], bytes),
    inspect(["s", "--section", "timer", "--hexdump"]),
    inspect(["s", "--field", "timer/0/ticks", "--field", "serial/1/lsr"]),
    inspect(["s", "--json"]),
  ]);
  expect(all).toMatchObject({ code: 0, err: "" });
  expect(all.out).toContain("pc-test-1.0");
  expect(piped).toEqual(all);
  expect(section.out).toContain("ticks: int64 -2\n");
  expect(section.out).toContain("|bcd...M..timer/e|\n");
  expect(field.out).toBe("-2\n0x60 (96) (THRE TEMT)\n");
  expect(JSON.parse(json.out)).toMatchObject({ streamVersion: 3, configuration: { machine: "pc-test-1.0" } });
});

test("exit codes and messages", async () => {
  const bytes = smallStream().end();
  await writeFile(join(directory, "cut"), bytes.subarray(0, 9000));
  await writeFile(join(directory, "s"), bytes);
  const [cut, cutSection, none, usage, noSection, noField] = await Promise.all([
    inspect(["cut"]),
    inspect(["cut", "--section", "ram", "--json"]),
    inspect(["none"]),
    inspect([]),
    inspect(["s", "--section", "timr/0"]),
    inspect(["s", "--field", "timer/0/tick"]),
  ]);
  expect(cut.code).toBe(1);
  expect(cut.out).toContain("stops here");
  expect(cutSection.code).toBe(1);
  expect(JSON.parse(cutSection.out)).toHaveLength(3);
  expect(cutSection.err).toContain("[stream.cut]");
  expect(none).toMatchObject({ code: 1, out: "" });
  expect(none.err).toContain("no such file");
  expect(usage.code).toBe(2);
  expect(noSection.err).toContain("did you mean timer/0?");
  expect(noField).toMatchObject({ code: 1, out: "" });
  expect(noField.err).toContain("there are ticks, regs");
});

test("a stream without names takes them from a complete one", async () => {
  const whole = smallStream().end();
  await writeFile(join(directory, "whole"), whole);
  const { sections } = await readStream(bytesSource(whole));
  const { dataOffset, size } = sections.at(-1)!;
  await writeFile(join(directory, "cut"), whole.subarray(0, dataOffset + size + 5));
  const field = ["cut", "--field", "timer/0/timer/extra.x"];
  const [without, like, none] = await Promise.all([
    inspect(field),
    inspect([...field, "--like", "whole"]),
    inspect(["whole", "--like", "cut"]),
  ]);
  expect(without.out).toBe("");
  expect(like).toMatchObject({ code: 1, out: "-1\n" });
  expect(like.err).toContain("[stream.cut]");
  expect(none.err).toContain("no VMDESCRIPTION");
});

test("a damaged page is reported as such, not as a fault of the output file", async () => {
  const damaged = (flags: bigint, write: (out: ByteWriter) => void) =>
    new StreamBuilder()
      .ramStart({ r: 2 * PAGE })
      .ramPart((out) => {
        page(out, "r", 0, pageOf(1));
        write(out.u64(BigInt(PAGE) | flags));
      })
      .end();
  const streams = {
    deflated: damaged(0x120n, (out) => void out.u32(3).bytes(Uint8Array.of(1, 2, 3))),
    xbzrle: damaged(0x60n, (out) => void out.u8(1).u16(2).bytes(Uint8Array.of(1, 0))),
  };
  for (const [name, bytes] of Object.entries(streams)) {
    await writeFile(join(directory, name), bytes);
    const { code, err } = await inspect([name, "--ram-extract", "r=out"]);
    expect(code).toBe(1);
    expect(err).toMatch(/page 0x1000 of RAM block r is damaged in the stream: (incorrect header|XBZRLE)/);
    expect(err).not.toMatch(/cannot write/);
  }
});

test("RAM blocks as files: whole, zero, XBZRLE and deflated pages, pages sent again, a part", async () => {
  const stream = new StreamBuilder().ramStart({ r: 6 * PAGE, other: PAGE }).ramPart((out) => {
    page(out, "r", 0, pageOf(1));
    page(out, undefined, PAGE, pageOf(2));
    page(out, undefined, 2 * PAGE, pageOf(3));
    zeroPage(out, undefined, 3 * PAGE, 0x55);
    const deflated = deflateSync(pageOf(4));
    out
      .u64(BigInt(4 * PAGE) | 0x120n)
      .u32(deflated.length)
      .bytes(deflated);
    zeroPage(out, undefined, 5 * PAGE);
  });
  stream.ramPart((out) => {
    zeroPage(out, "r", 0);
    // XBZRLE: two unchanged bytes, then one that becomes 9.
    out
      .u64(BigInt(PAGE) | 0x60n)
      .u8(1)
      .u16(3)
      .bytes(new Uint8Array([2, 1, 9]));
  }, 3);
  await writeFile(join(directory, "s"), stream.end());
  const expected = new Uint8Array(6 * PAGE);
  expected.set(pageOf(2), PAGE);
  expected[PAGE + 2] = 9;
  expected.set(pageOf(3), 2 * PAGE);
  expected.fill(0x55, 3 * PAGE, 4 * PAGE);
  expected.set(pageOf(4), 4 * PAGE);

  const done = await inspect([
    "s",
    "--ram-extract",
    "r=all",
    "--ram-extract",
    `r:0x${(PAGE + 1).toString(16)}+8190=part`,
  ]);
  expect(done).toMatchObject({ code: 0, out: "" });
  expect(new Uint8Array(await readFile(join(directory, "all")))).toEqual(expected);
  expect(new Uint8Array(await readFile(join(directory, "part")))).toEqual(
    expected.subarray(PAGE + 1, PAGE + 8191),
  );

  const [unknown, beyond, absent] = await Promise.all([
    inspect(["s", "--ram-extract", "x=f"]),
    inspect(["s", "--ram-extract", "r:0+99999999=f"]),
    inspect(["s", "--ram-extract", "other=f"]),
  ]);
  expect([unknown.code, beyond.code, absent.code]).toEqual([1, 1, 1]);
  expect(unknown.err).toContain("it has r, other");
  expect(beyond.err).toContain("beyond its end");
  expect(absent.err).toContain("no page of other");
});
