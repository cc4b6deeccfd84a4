// `wherry run`, `restore`, `save` and `migrate` as a user runs them: processes, files and sockets, with pulse
// as the guest, whose checks are the judge.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { buildPulse } from "../../src/guest/pulse-guest.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const REPORT = /^pulse: t=.* OK\r?$/m;
const DONE = /^pulse: done .* OK\r?$/m;

let directory: string;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-run-"));
  await writeFile(join(directory, "pulse"), await buildPulse());
  await writeFile(join(directory, "disk"), new Uint8Array(4 << 20));
});
afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
});
afterAll(() => rm(directory, { recursive: true }));

class Wherry {
  readonly child: ChildProcess;
  out = "";
  err = "";
  readonly exit: Promise<number | null>;
  readonly #listeners = new Set<() => void>();

  constructor(...args: string[]) {
    this.child = spawn(process.execPath, [MAIN, ...args], { cwd: directory, stdio: "pipe" });
    children.add(this.child);
    this.child.stdout?.on("data", (text) => {
      this.out += text;
      for (const listener of this.#listeners) listener();
    });
    this.child.stderr?.on("data", (text) => (this.err += text));
    this.exit = new Promise((resolve) => {
      this.child.on("close", (code) => {
        children.delete(this.child);
        resolve(code);
        for (const listener of this.#listeners) listener();
      });
    });
  }
  type(text: string): void {
    this.child.stdin?.write(text);
  }
  /** Waits for a line of the console; rejects if the machine ends without it. */
  async see(pattern: RegExp): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const look = () => {
        if (pattern.test(this.out)) resolve();
        else if (this.child.exitCode !== null)
          reject(new Error(`ended without ${pattern}: ${this.out}${this.err}`));
        else return;
        this.#listeners.delete(look);
      };
      this.#listeners.add(look);
      look();
    });
  }
}

async function control(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const wherry = new Wherry(...args);
  return { code: await wherry.exit, out: wherry.out, err: wherry.err };
}

const HARDWARE = ["--smp", "2", "--memory", "32M", "--rng", "--drive", "file=disk"];
const START = ["run", "--kernel", "pulse", ...HARDWARE];

test("a guest that powers off is exit code 0, one that fails is 3", async () => {
  const good = new Wherry(...START);
  await good.see(REPORT);
  good.type("q");
  await good.see(DONE);
  expect(await good.exit).toBe(0);
  const bad = new Wherry(...START);
  await bad.see(REPORT);
  bad.type("C");
  await bad.see(/^pulse: FAIL counter/m);
  expect(await bad.exit).toBe(3);
  expect(bad.err).toContain("wherry: the guest asked for a shutdown after a failure");
});

test.each(["interpreter", "translator"])("%s: --perf, --trace, and both from outside", async (engine) => {
  const see = ["--perf", "--trace", "0x80200000", "--trace", "0x1"];
  const run = new Wherry(...START, "--engine", engine, ...see, "--qmp", "unix:see.qmp");
  await run.see(REPORT);
  const perf = await control("perf", "--seconds", "1", "--qmp", "unix:see.qmp");
  expect(perf.out).toMatch(/^perf: 1\.\d+ s of \d harts?\n/);
  expect(perf.out).toMatch(/^ {2}engine /m);
  expect(perf.out).toMatch(/ hart 0: .* MIPS/);
  const trace = await control("trace", "0x80200000", "--qmp", "unix:see.qmp");
  expect(trace.out).toMatch(/^; region at 0x80200000: /);
  run.type("q");
  expect(await run.exit).toBe(0);
  expect(run.err).toMatch(/^perf: .* s of /m);
  expect(run.err).toContain("; region at 0x80200000: ");
  expect(run.err).toMatch(/^wherry: 0x1, in the hart's present address space, .*no memory/m);
});

test("SIGTERM ends it in an orderly way", async () => {
  const run = new Wherry(...START, "--qmp", "unix:term.qmp");
  await run.see(REPORT);
  run.child.kill("SIGTERM");
  expect(await run.exit).toBe(143);
  expect(run.err).toBe("");
  expect((await control("status", "--qmp", "unix:term.qmp")).code).toBe(1);
});

test("save, then restore: the guest finds its state unchanged; a wrong machine and a truncated file are refused", async () => {
  const qmp = ["--qmp", "unix:save.qmp"];
  const run = new Wherry(...START, ...qmp);
  await run.see(REPORT);
  await control("stop", ...qmp);
  expect(await control("save", "state", ...qmp)).toMatchObject({
    code: 0,
    out: expect.stringMatching(/^saved state, .*; the machine is paused\n$/),
  });
  await copyFile(join(directory, "disk"), join(directory, "disk.saved"));
  await control("quit", ...qmp);
  expect(await run.exit).toBe(0);

  const hardware = HARDWARE.map((arg) => (arg === "file=disk" ? "file=disk.saved" : arg));
  const restored = new Wherry("restore", "state", ...hardware, "--qmp", "unix:restored.qmp");
  // It was saved while paused, and is paused again.
  while ((await control("status", "--qmp", "unix:restored.qmp")).out.match(/^status: paused$/m) === null);
  expect((await control("cont", "--qmp", "unix:restored.qmp")).code).toBe(0);
  await restored.see(REPORT);
  restored.type("q");
  await restored.see(DONE);
  expect(await restored.exit).toBe(0);

  // The disk of the restored machine went on, as the first machine's would have.
  const went = await control("restore", "state", "--serial", "none", ...hardware);
  expect(went).toMatchObject({
    code: 1,
    err: expect.stringMatching(/disk.saved: is not the disk as it was/),
  });
  await truncate(join(directory, "disk.saved"), 1 << 19);
  const sized = await control("restore", "state", "--serial", "none", ...hardware);
  expect(sized).toMatchObject({
    code: 1,
    err: expect.stringMatching(
      /^wherry: state: section wherry\/disk\/0.*disk.saved: expected .* found 524288 bytes/,
    ),
  });
  const other = await control("restore", "state", "--serial", "none", "--smp", "1", ...hardware.slice(2));
  expect(other).toMatchObject({ code: 1, err: expect.stringMatching(/^wherry: .*start it with 2 harts/) });
  const { length } = await readFile(join(directory, "state"));
  await truncate(join(directory, "state"), length >> 1);
  const cut = await control("restore", "state", "--serial", "none", ...hardware);
  expect(cut).toMatchObject({ code: 1, err: expect.stringMatching(/^wherry: .*cut/) });
});

test("migrate: the guest continues in the other process and finds nothing lost", async () => {
  const source = new Wherry(...START, "--qmp", "unix:a.qmp");
  await source.see(REPORT);
  const destination = new Wherry("run", ...HARDWARE, "--incoming", "unix:move", "--qmp", "unix:b.qmp");
  while ((await control("status", "--qmp", "unix:b.qmp")).code !== 0);
  const moved = await control("migrate", "unix:move", "--qmp", "unix:a.qmp");
  expect(moved).toMatchObject({
    code: 0,
    out: expect.stringMatching(/^moved to unix:move: .* downtime .* rounds\n$/),
  });
  expect((await control("status", "--qmp", "unix:a.qmp")).out).toContain("status: postmigrate\n");
  expect((await control("cont", "--qmp", "unix:a.qmp")).err).toContain("must not run here again");
  await control("quit", "--qmp", "unix:a.qmp");
  expect(await source.exit).toBe(0);
  await destination.see(REPORT);
  destination.type("q");
  await destination.see(DONE);
  expect(await destination.exit).toBe(0);
});

test("when QMP sends its greeting, the address of --incoming is open", async () => {
  for (let i = 0; i < 3; i++) {
    const place = join(directory, `early${i}`);
    const destination = new Wherry(
      "run",
      ...HARDWARE,
      "--incoming",
      `unix:${place}`,
      "--qmp",
      `unix:${place}.qmp`,
    );
    const isOpenWhenGreeted = (): Promise<boolean | undefined> =>
      new Promise((resolve) => {
        const socket = connect({ path: `${place}.qmp` });
        socket.once("error", () => resolve(undefined));
        socket.once("data", () => {
          resolve(existsSync(place));
          socket.destroy();
        });
      });
    let isOpen: boolean | undefined;
    while (isOpen === undefined) isOpen = await isOpenWhenGreeted();
    expect(isOpen).toBe(true);
    destination.child.kill("SIGTERM");
    expect(await destination.exit).toBe(143);
  }
});

test("SIGTERM in the middle of a move: of the destination: the source continues; of the source: both end", async () => {
  const source = new Wherry(...START, "--qmp", "unix:c.qmp");
  await source.see(REPORT);
  const underWay = async (name: string): Promise<[Wherry, ReturnType<typeof control>]> => {
    const destination = new Wherry("run", ...HARDWARE, "--incoming", `unix:${name}`, "--qmp", "unix:d.qmp");
    while ((await control("status", "--qmp", "unix:d.qmp")).code !== 0);
    const moving = control("migrate", `unix:${name}`, "--max-bandwidth", "64K", "--qmp", "unix:c.qmp");
    while (!(await control("status", "--qmp", "unix:c.qmp")).out.includes("migration: active"));
    return [destination, moving];
  };
  const [first, failed] = await underWay("first");
  first.child.kill("SIGTERM");
  expect(await first.exit).toBe(143);
  expect((await failed).err).toContain("the machine is running here");
  const [second, ended] = await underWay("second");
  source.child.kill("SIGTERM");
  expect(await source.exit).toBe(143);
  expect(await second.exit).toBe(1);
  expect((await ended).code).toBe(1);
  expect([source.err, second.err]).toEqual(["", expect.stringMatching(/^wherry: .*\n$/)]);
});
