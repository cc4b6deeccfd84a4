// A machine that outlives its runs: what its files are after each end, and which failures give them up.
import { mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { WherryError } from "../../base/errors.ts";
import { RunStateHolder } from "../../vmm/run-state.ts";
import { CharPipe } from "../../devices/char-backend.ts";
import type { MachineOptions } from "../options/machine-options.ts";
import { Resident } from "./resident.ts";
import type { RunningMachine } from "./start-machine.ts";

class Fault extends WherryError {}

const CTRL_A_X = { kind: "quit", message: "host-ui" } as const;
let directory: string;
let disk: string;
let said: string;
beforeEach(() => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), "wherry-resident-")));
  disk = join(directory, "web.img");
  writeFileSync(disk, "");
  said = "";
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    said += String(text);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true });
});

const files = (): string[] =>
  readdirSync(directory)
    .filter((name) => name !== "web.img")
    .toSorted();
const SAVED = ["web.state", "web.state.json"];

function resident({ forceBoot = false, snapshot = false } = {}): Resident {
  const drives = [{ file: disk, readonly: false, snapshot }];
  const options = {
    harts: 1,
    memoryBytes: 1 << 30,
    drives,
    kernel: "k",
    append: "",
    rng: true,
    paused: false,
  };
  const given = { name: "web", disk, boots: join(directory, "boots"), line: "", forceBoot };
  return new Resident(given, options as unknown as MachineOptions);
}

/** `store` fails with these messages, one after the other, and then works. */
function fakeMachine(...failures: string[]) {
  const runState = new RunStateHolder();
  const calls: string[] = [];
  const running = {
    machine: { runState, start: async () => runState.set("running") },
    quitAgain: new Promise<void>(() => {}),
    giveUpArrival: async () => void calls.push("giveUpArrival"),
    store: async (path: string) => {
      calls.push("store");
      const failure = failures.shift();
      if (failure !== undefined) throw new Error(failure);
      writeFileSync(path, "state");
      runState.set("finish-migrate");
      runState.set("postmigrate");
    },
  };
  return { runState, calls, running: running as unknown as RunningMachine };
}

/** A run that ends by Ctrl-A x. */
async function run(one = resident(), machine = fakeMachine()): Promise<void> {
  const { hooks } = await one.begin();
  hooks.onName();
  one.started(machine.running);
  machine.runState.set("running");
  expect(files()).toEqual([]);
  expect(await one.keep(machine.running, CTRL_A_X)).toBe(true);
}

it("is saved, loaded and saved again; parts of a save that was killed are removed", async () => {
  await run();
  expect(files()).toEqual(SAVED);
  writeFileSync(join(directory, ".web.state.0123.tmp"), "part");
  const one = resident();
  expect((await one.begin()).options.incoming).toMatchObject({ path: join(directory, "web.state") });
  await run(one);
  expect(files()).toEqual(SAVED);
  expect(said).toContain("web is saved");
});

it("goes on if it cannot be saved, and ends if that fails again", async () => {
  const one = resident();
  const { running, runState } = fakeMachine("the disk is full", "the disk is full");
  (await one.begin()).hooks.onName();
  one.started(running);
  runState.set("running");
  expect(await one.keep(running, CTRL_A_X)).toBe(false);
  expect(said).toContain("web is not saved: the disk is full; it goes on");
  expect(await one.keep(running, CTRL_A_X)).toBe(true);
  expect(said).toContain("web is not saved, it boots the next time: the disk is full");
  expect(files()).toEqual([]);
});

it("stays saved if it is ended before it runs", async () => {
  await run();
  const one = resident();
  const { running, runState, calls } = fakeMachine();
  (await one.begin()).hooks.onName();
  runState.set("inmigrate");
  one.started(running);
  expect(await one.keep(running, CTRL_A_X)).toBe(true);
  expect(calls).toEqual(["giveUpArrival"]);
  expect(files()).toEqual(SAVED);
  expect(said).toContain("web is still saved");
});

it("stays saved if it cannot be loaded, unless its own disk has gone on", async () => {
  await run();
  const fail = async (reason: Error) => {
    const one = resident();
    (await one.begin()).hooks.onName();
    said = "";
    return await one.failed(new Fault("migration.load", "not loaded", { cause: reason }), "not loaded");
  };
  for (const reason of [
    new Fault("file-block.lock", `${disk}: cannot be locked`),
    new Fault("disk.changed", `${directory}/data.img: is not the disk as it was`),
    new Fault("machine.mac", "another card"),
    new Fault("stream.end", "cut off"),
  ]) {
    expect(await fail(reason)).toBe(false);
    expect(said).toMatch(/^wherry: not loaded\nwherry: web is still saved: .*--force-boot/);
    expect(files()).toEqual(SAVED);
  }
  expect(await fail(new Fault("disk.changed", `${disk}: is not the disk as it was`))).toBe(true);
  expect(files()).toEqual(["web.state.old"]);
});

it("loses its saved boot only if that is damaged", async () => {
  const boots = join(directory, "boots");
  const one = resident();
  const { hooks } = await one.begin();
  const { running, runState } = fakeMachine();
  const save = async (path: string) => writeFileSync(path, "boot");
  one.started({ ...running, save } as RunningMachine);
  runState.set("running");
  const gate = hooks.gate(new CharPipe(() => {}));
  gate.write(Buffer.from("\u001b]wherry;gate\u0007"));
  await vi.waitFor(() => expect(readdirSync(boots)).toHaveLength(1));
  const fail = async (code: string) => {
    const next = resident();
    expect((await next.begin()).options.incoming).toBeDefined();
    return await next.failed(new Fault("migration.load", "no", { cause: new Fault(code, "no") }), "no");
  };
  expect(await fail("file-block.lock")).toBe(false);
  expect(readdirSync(boots)).toHaveLength(1);
  expect(await fail("stream.end")).toBe(true);
  expect(readdirSync(boots)).toEqual([]);
});

it("is not taken from a run that saves it, and forced to boot only once it has its name", async () => {
  const late = resident();
  const { hooks } = await late.begin();
  await run();
  expect(() => hooks.onName()).toThrow("web was in use while this run began");
  expect(files()).toEqual(SAVED);
  // One that the name did not stop leaves the record to the other run.
  const { running, runState } = fakeMachine();
  late.started(running);
  runState.set("running");
  expect(files()).toEqual(SAVED);
  const forced = resident({ forceBoot: true });
  const begun = await forced.begin();
  expect(files()).toEqual(SAVED);
  begun.hooks.onName();
  expect(files()).toEqual([]);
});

it("says at its start that a drive with snapshot=on keeps it from being saved", async () => {
  (await resident({ snapshot: true }).begin()).hooks.onName();
  expect(said).toContain(`${disk}: snapshot=on: once the guest has written to it, web cannot be saved`);
});
