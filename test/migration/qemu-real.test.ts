// Moves with real QEMUs, with OpenSBI as the whole guest: both ways, over each transport, with and without a
// return path; and the state of both sides after a failed move. All with the installed QEMU (Debian 12's
// 7.2), the differences of newer ones with those that `npx node tools/unpacked.ts` has fetched.
import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import type { MachineProcess } from "../../src/cli/machine/machine-process.ts";
import { fresh, ISA, isInstalled, LIMIT_MS, qemu, reaches, statusOf, wherry } from "./opensbi.ts";
import { until } from "../support/wait.ts";
import { command, missing } from "./qemu-ram.ts";

const QEMU_PROFILE = { "x-wherry-profile": "qemu-7.2" };

/** Source's and destination's URIs. */
function uris(transport: "unix" | "exec" | "file"): [string, string] {
  const path = fresh("stream");
  if (transport === "unix") return [`unix:${path}`, `unix:${path}`];
  if (transport === "file") return [`exec:cat > ${path}`, `exec:cat ${path}`];
  execFileSync("mkfifo", [path]);
  return [`exec:cat > ${path}`, `exec:cat ${path}`];
}

/** A destination that has refused a source before its first page accepts others. */
const waitsOn = ({ qmp }: MachineProcess, why: RegExp) =>
  until(LIMIT_MS, "the source is refused", async () => {
    const { status, "error-desc": error } = (await qmp.execute("query-migrate")) as Record<string, string>;
    return status === "setup" && error !== undefined && why.test(error);
  });

describe.runIf(isInstalled())("with QEMU 7.2", { timeout: LIMIT_MS }, () => {
  test.each([
    ["unix", true, 1],
    ["unix", false, 2],
    ["exec", false, 1],
    ["file", false, 1],
  ] as const)("from QEMU over %s, return path: %s, harts: %i", async (transport, returnPath, harts) => {
    const [to, from] = uris(transport);
    const source = await qemu([], harts);
    await reaches(source, "running");
    if (returnPath) await source.capabilities(["return-path"]);
    const destination = await wherry(["--incoming", transport === "file" ? "defer" : from], harts);
    await source.execute("migrate", { uri: to });
    await reaches(source, "completed", "query-migrate");
    if (transport === "file") await destination.qmp.execute("migrate-incoming", { uri: from });
    await reaches(destination.qmp, "running");
    expect(await statusOf(source)).toBe("postmigrate");
    expect(await statusOf(destination.qmp, "query-migrate")).toBe("completed");
  });

  test.each([
    ["unix", 1],
    ["unix", 2],
    ["exec", 1],
    ["file", 1],
  ] as const)("to QEMU over %s, harts: %i", async (transport, harts) => {
    const [to, from] = uris(transport);
    const source = await wherry(ISA, harts);
    const destination = await qemu(["-incoming", transport === "file" ? "defer" : from], harts);
    await source.qmp.execute("migrate", { uri: to, ...QEMU_PROFILE });
    await reaches(source.qmp, "completed", "query-migrate");
    if (transport === "file") await destination.execute("migrate-incoming", { uri: from });
    await reaches(destination, "running");
    expect(await statusOf(source.qmp)).toBe("postmigrate");
    await expect(source.qmp.execute("cont")).rejects.toThrow("must not run here again");
  });

  test("there and back, with a machine that is paused", async () => {
    const path = fresh("stream");
    const source = await qemu();
    await source.execute("stop");
    const middle = await wherry(["--incoming", `unix:${path}`]);
    await source.execute("migrate", { uri: `unix:${path}` });
    await reaches(middle.qmp, "paused");
    const back = await qemu(["-incoming", `unix:${path}-back`]);
    await middle.qmp.execute("migrate", { uri: `unix:${path}-back`, ...QEMU_PROFILE });
    await reaches(middle.qmp, "completed", "query-migrate");
    await reaches(back, "paused");
  });

  test("QEMU loads a file that was saved for it, and Wherry continues", async () => {
    const path = fresh("stream");
    const source = await wherry(ISA);
    await source.qmp.execute("x-wherry-save", { file: path, profile: "qemu-7.2" });
    expect(await statusOf(source.qmp)).toBe("running");
    const destination = await qemu(["-incoming", `exec:cat ${path}`]);
    await reaches(destination, "running");
  });

  test("a machine that does not fit stays with QEMU, with and without a return path", async () => {
    for (const returnPath of [true, false]) {
      const path = fresh("stream");
      const source = await qemu([], 2);
      if (returnPath) await source.capabilities(["return-path"]);
      const destination = await wherry(["--incoming", `unix:${path}`], 1);
      await source.execute("migrate", { uri: `unix:${path}` });
      await destination.exited;
      // Without a return path QEMU may complete before the refusal; only Wherry's user gets the error.
      await until(LIMIT_MS, "QEMU's move ends", async () =>
        ["failed", "completed"].includes((await statusOf(source, "query-migrate")) ?? ""),
      );
      if (returnPath) expect(await statusOf(source, "query-migrate")).toBe("failed");
      else await source.execute("cont");
      await reaches(source, "running");
    }
  });

  test("a QEMU that does not fit gives the machine back before the end", async () => {
    const path = fresh("stream");
    const source = await wherry(ISA, 2);
    await qemu(["-incoming", `unix:${path}`], 1);
    await source.qmp.execute("migrate", { uri: `unix:${path}`, ...QEMU_PROFILE });
    await reaches(source.qmp, "failed", "query-migrate");
    expect(await source.qmp.execute("query-migrate")).toMatchObject({
      "error-desc": expect.stringContaining("QEMU aborted the migration"),
    });
    await reaches(source.qmp, "running");
  });

  test("a machine that QEMU cannot be is refused before anything is sent", async () => {
    const source = await wherry();
    const missing = /told of .*zawrs.*--isa qemu-7.2/;
    const move = { uri: "unix:/nowhere", ...QEMU_PROFILE };
    await expect(source.qmp.execute("migrate", move)).rejects.toThrow(missing);
    await expect(
      source.qmp.execute("x-wherry-save", { file: fresh("none"), profile: "qemu-7.2" }),
    ).rejects.toThrow(missing);
    expect(await source.qmp.execute("query-migrate")).toEqual({});
    expect(await statusOf(source.qmp)).toBe("running");
    expect(await source.qmp.execute("x-wherry-explain-profile", { profile: "qemu-7.2" })).toMatchObject({
      refusals: [{ code: "qemu.extensions" }],
      qemu: expect.arrayContaining(["-smp", "1"]),
    });
    await expect(
      source.qmp.execute("migrate", { uri: "unix:/nowhere", "x-wherry-profile": "qemu-1.0" }),
    ).rejects.toThrow("expected qemu-7.2, qemu-10.0, qemu-11.1");
  });

  test("postcopy is refused before anything has moved", async () => {
    const path = fresh("stream");
    const source = await qemu();
    await source.capabilities(["postcopy-ram"]);
    const destination = await wherry(["--incoming", `unix:${path}`]);
    await source.execute("migrate", { uri: `unix:${path}` });
    await waitsOn(destination, /postcopy-ram off/);
    await reaches(source, "failed", "query-migrate");
    await reaches(source, "running");
  });
});

describe.each(["10.0", "11.1"] as const)("with QEMU %s", { timeout: LIMIT_MS }, (release) => {
  const run = isInstalled() && missing(release) === undefined;
  const own = async (args: readonly string[], harts: number) => qemu(args, harts, await command(release));
  const profile = { "x-wherry-profile": `qemu-${release}` };

  test.runIf(run)("there over a socket, with its return path, and back into a file", async () => {
    const [socket, file] = [`unix:${fresh("stream")}`, `file:${fresh("stream")}`];
    const source = await own([], 2);
    await reaches(source, "running");
    await source.capabilities(["return-path"]);
    const middle = await wherry(["--incoming", socket], 2);
    await source.execute("migrate", { uri: socket });
    await reaches(source, "completed", "query-migrate");
    await reaches(middle.qmp, "running");
    await middle.qmp.execute("migrate", { uri: file, ...profile });
    await reaches(middle.qmp, "completed", "query-migrate");
    await reaches(await own(["-incoming", file], 2), "running");
  });

  test.runIf(run)("from its file, and there over a socket", async () => {
    const [socket, file] = [`unix:${fresh("stream")}`, `file:${fresh("stream")}`];
    const source = await own([], 1);
    await reaches(source, "running");
    await source.execute("migrate", { uri: file });
    await reaches(source, "completed", "query-migrate");
    const middle = await wherry(["--incoming", file]);
    await reaches(middle.qmp, "running");
    const destination = await own(["-incoming", socket], 1);
    await middle.qmp.execute("migrate", { uri: socket, ...profile });
    await reaches(middle.qmp, "completed", "query-migrate");
    await reaches(destination, "running");
  });

  test.runIf(run)("postcopy is refused, and one that does not fit gives the machine back", async () => {
    const socket = `unix:${fresh("stream")}`;
    const source = await own([], 2);
    await source.capabilities(["postcopy-ram"]);
    const refusing = await wherry(["--incoming", socket], 2);
    await source.execute("migrate", { uri: socket });
    await waitsOn(refusing, /postcopy-ram off/);
    await reaches(source, "failed", "query-migrate");
    await reaches(source, "running");
    const ours = await wherry([], 1);
    await own(["-incoming", `${socket}-2`], 2);
    await ours.qmp.execute("migrate", { uri: `${socket}-2`, ...profile });
    await reaches(ours.qmp, "failed", "query-migrate");
    await reaches(ours.qmp, "running");
  });
});
