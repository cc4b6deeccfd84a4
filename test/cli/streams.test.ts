// `wherry diff` and `wherry check`: exit codes, output, trouble.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { check, checkOptions } from "../../src/cli/commands/check-command.ts";
import { CliError } from "../../src/cli/output/cli-error.ts";
import { parseCommandLine } from "../../src/cli/options/command-line.ts";
import { diff, diffOptions } from "../../src/cli/commands/diff-command.ts";
import { smallStream, StreamBuilder } from "../support/stream-builder.ts";
import { virtioStream } from "../support/virtio-stream.ts";

let folder = "";
const at = (name: string) => join(folder, name);

/** Runs a command like main.ts, but in this process: a new process takes a second or more. */
async function run(name: "diff" | "check", args: readonly string[]) {
  const stdout: string[] = [];
  const stderr: string[] = [];
  const spies = (
    [
      ["stdout", stdout],
      ["stderr", stderr],
    ] as const
  ).map(([stream, lines]) =>
    vi.spyOn(process[stream], "write").mockImplementation((text) => lines.push(String(text)) > 0),
  );
  let status: number;
  try {
    if (name === "diff") {
      const { values, positionals } = parseCommandLine(diffOptions, args);
      status = await diff(values, positionals[0] ?? "", positionals[1] ?? "");
    } else {
      const { values, positionals } = parseCommandLine(checkOptions, args);
      status = await check(values, positionals[0]);
    }
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    stderr.push(`wherry: ${error.message}`);
    status = error.exitCode;
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return { status, stdout: stdout.join(""), stderr: stderr.join("") };
}
/** As a process. */
function wherry(args: readonly string[], input?: string | Uint8Array) {
  const { status, stdout } = spawnSync(process.execPath, ["src/cli/main.ts", ...args], {
    encoding: "utf8",
    input,
    cwd: new URL("../..", import.meta.url),
  });
  return { status, stdout };
}

const dump = (version: number) =>
  JSON.stringify({
    vmschkmachine: { Name: "pc-test-1.0" },
    timer: {
      Description: {
        name: "timer",
        version_id: version,
        minimum_version_id: version,
        Fields: [{ field: "x", version_id: 0, field_exists: false, size: 4 }],
      },
    },
  });

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "wherry-streams-"));
  writeFileSync(at("a"), smallStream().end());
  writeFileSync(at("virtio"), virtioStream());
  writeFileSync(at("changed"), virtioStream({ lastAvail: 4 }));
  writeFileSync(at("broken-queue"), virtioStream({ availIndex: 0x4000 }));
  writeFileSync(at("cut"), smallStream().end().subarray(0, 3000));
  writeFileSync(at("no-stream"), "root:x:0:0:root:/root:/bin/bash\n");
  writeFileSync(at("dump1.json"), dump(1));
  writeFileSync(at("dump2.json"), dump(2));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("diff", () => {
  test("0 and nothing for the same, also from standard input", async () => {
    expect(await run("diff", [at("a"), at("a")])).toEqual({ status: 0, stdout: "", stderr: "" });
    expect(wherry(["diff", "-", at("a")], smallStream().end())).toMatchObject({ status: 0, stdout: "" });
  });
  test("1 and the difference", async () => {
    const { status, stdout } = await run("diff", [at("virtio"), at("changed")]);
    expect(status).toBe(1);
    expect(stdout).toBe(
      "virtio-mmio@0000000010008000/virtio-rng/0/virtio.vq[0].last_avail_idx: 0x5 → 0x4  (requestq: -bit 0)\n",
    );
    const { stdout: json } = await run("diff", ["--json", at("virtio"), at("changed")]);
    expect(JSON.parse(json)).toMatchObject({ state: [{ kind: "changed", first: "0x5" }], ram: [] });
    expect((await run("diff", ["--ignore", "*/virtio.vq", at("virtio"), at("changed")])).status).toBe(0);
  });
  test("RAM: pages, summary, none", async () => {
    const told = async (...ram: string[]) =>
      (await run("diff", [...ram, at("virtio"), at("broken-queue")])).stdout;
    expect(await told()).toBe(
      "ram/riscv_virt_board.ram: 1 page differs in 1 range\n  0x2000..0x3000: 1 changed\n",
    );
    expect(await told("--ram", "summary")).toBe("ram/riscv_virt_board.ram: 1 page differs in 1 range\n");
    expect(await told("--ram", "none")).toBe("");
  });
  test("2 for trouble: a cut stream, no such file, a wrong option", async () => {
    const cut = await run("diff", [at("a"), at("cut")]);
    expect(cut.status).toBe(2);
    expect(cut.stderr).toMatch(/cut: compared only up to where it can be read/);
    expect(await run("diff", [at("a"), at("none")])).toMatchObject({ status: 2 });
    expect(await run("diff", [at("a"), folder])).toMatchObject({ status: 2 });
    expect(await run("diff", ["--ram", "all", at("a"), at("a")])).toMatchObject({ status: 2 });
  });
  test("a file that is not a stream is refused at once, with only the reason", async () => {
    for (const files of [
      ["a", "no-stream"],
      ["no-stream", "a"],
    ]) {
      const { status, stdout, stderr } = await run("diff", files.map(at));
      expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
      expect(stderr).toMatch(/^wherry: .*no-stream: .*expected 0x5145564d \("QEVM"\), found 0x726f6f74;/);
      expect(stderr).toMatch(/wherry inspect --offset/);
      expect(stderr).not.toMatch(/compared/);
    }
  });
});

test("no text of a stream controls the terminal", async () => {
  const hostile = new StreamBuilder().configuration("virt\u001b[2J");
  hostile.section(4, 3, "\u001b]0;title\u0007/x", 1, (out) => out.u32(7));
  writeFileSync(at("hostile"), hostile.end());
  writeFileSync(at("hostile-cut"), hostile.end().subarray(0, 40));
  for (const [command, ...args] of [
    ["diff", at("a"), at("hostile")],
    ["diff", at("hostile"), at("hostile-cut")],
    ["check", at("hostile"), "--target", at("a"), "--target", at("dump1.json")],
    ["check", at("a"), "--target", at("hostile"), "--target", at("hostile-cut")],
  ] as const) {
    const { stdout, stderr } = await run(command, args);
    expect((stdout + stderr).replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
  }
});

describe("check", () => {
  test("a stream against a dump, against a stream, alone", async () => {
    expect(await run("check", [at("virtio"), "--target", at("virtio")])).toMatchObject({ status: 0 });
    const by = (target: string) => run("check", [at("a"), "--target", at(target)]);
    expect((await by("dump1.json")).stdout).toMatch(/problem: section timer\/0, .*\n {2}cause: /);
    const newer = await by("dump2.json");
    expect(newer.status).toBe(1);
    expect(newer.stdout).toMatch(
      /section timer\/0 at offset 0x[0-9a-f]+: expected version 2, found version 1/,
    );
    expect(newer.stdout).toMatch(/it does not load\n$/);
    const alone = await run("check", [at("broken-queue")]);
    expect(alone).toMatchObject({ status: 0 });
    expect(alone.stdout).toMatch(/warning: .*VQ 0 \(requestq\).*guest index 0x4000/);
    expect((await run("check", ["--strict", at("broken-queue")])).status).toBe(1);
    expect((await run("check", [at("cut")])).status).toBe(1);
  });
  test("JSON", async () => {
    const { status, stdout } = await run("check", [at("a"), "--target", at("dump2.json"), "--json"]);
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ loads: false, problems: [{ code: "check.version.old" }] });
  });
  test("two dumps", async () => {
    const dumps = (a: string, b: string) => run("check", ["--from", at(a), "--to", at(b)]);
    expect(await dumps("dump1.json", "dump1.json")).toMatchObject({
      status: 0,
      stdout: "1 device types compared: all load\n",
    });
    expect(await dumps("dump1.json", "dump2.json")).toMatchObject({ status: 1 });
  });
  test("a message, also from standard input", async () => {
    const said = "Missing section footer for 0000:00:03.0/e1000e";
    const { status, stdout } = await run("check", ["--message", said]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/section 0000:00:03.0\/e1000e: expected a footer.*\n {2}cause: .*\n {2}to do: /);
    expect(wherry(["check", "--message=-"], `${said}\n`).stdout).toBe(stdout);
    const dated = await run("check", ["--message", `2026-01-10T10:00:00Z qemu-kvm: ${said}`]);
    expect(dated.stdout).toBe(`2026-01-10T10:00:00Z: ${stdout}`);
  });
  test("an unknown message says so, an empty one is an error", async () => {
    expect(await run("check", ["--message", "what?"])).toMatchObject({
      status: 1,
      stdout: expect.stringMatching(/^no message in this text is known/),
    });
    expect(await run("check", ["--message", "what?", "--json"])).toMatchObject({ status: 1, stdout: "[]\n" });
    for (const more of [[], ["--json"]]) {
      expect(await run("check", ["--message", " \n", ...more])).toMatchObject({
        status: 2,
        stdout: "",
        stderr: expect.stringMatching(/the message is empty/),
      });
    }
    expect(wherry(["check", "--message=-"], "").status).toBe(2);
  });
  test("2 for trouble and usage", async () => {
    for (const args of [
      [],
      ["--from", at("dump1.json")],
      [at("a"), "--message", "x"],
      [at("none")],
      [at("a"), "--target", at("cut")],
      ["--from", at("a"), "--to", at("dump1.json")],
    ]) {
      const { status, stderr } = await run("check", [...args]);
      expect(status, args.join(" ")).toBe(2);
      expect(stderr).toMatch(/^wherry: /);
      expect(stderr).not.toMatch(/fault in wherry/);
    }
  });
});
