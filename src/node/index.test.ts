// The Node entry for embedders: boot, save to memory and to a file, resume from both; refusals.
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { buildPrinter, checkLines } from "../../test/support/printer.ts";
import { QmpClient } from "../../test/support/qmp-client.ts";
import { assemble, flatBinary } from "../asm/assembler.ts";
import { buildPulse } from "../guest/pulse-guest.ts";
import type { EngineKind } from "../hypervisor/shared/engine-kind.ts";
import {
  createMachine,
  type DriveSpec,
  Machine,
  type MachineOptions,
  type NetBackend,
  type NodeMachine,
  type RestoreClock,
} from "./index.ts";
import { machineNamed } from "./names/machine-registry.ts";

const HARDWARE = { harts: 2, memoryBytes: 32 << 20 };
const REPORT = /^pulse: t=.* OK\r?$/m;

class Guest {
  #text = "";
  #look = () => {};
  readonly options = {
    ...HARDWARE,
    onConsole: (bytes: Uint8Array) => {
      this.#text += Buffer.from(bytes).toString("latin1");
      this.#look();
    },
  };
  async see(pattern: RegExp): Promise<string> {
    for (;;) {
      const [found] = pattern.exec(this.#text) ?? [];
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => {
        this.#look = resolve;
      });
    }
  }
}

async function goOnWith(state: string | Uint8Array, engine: EngineKind, clock?: RestoreClock): Promise<void> {
  const guest = new Guest();
  const warnings: string[] = [];
  const onWarning = (message: string) => warnings.push(message);
  // Harts and memory come with the state.
  const { onConsole } = guest.options;
  const options = { onConsole, state, engine, clock, onWarning };
  const machine: NodeMachine = await createMachine(options);
  expect(warnings).toEqual([]);
  expect(machine.runState).toBe("running");
  await guest.see(REPORT);
  machine.write("q");
  await guest.see(/^pulse: done .* OK\r?$/m);
  expect(await machine.ended).toEqual({ kind: "shutdown", message: "guest-shutdown" });
  await machine.close();
}

test("a guest waits for a reader whose promises are open, and loses nothing", async () => {
  let text = "";
  let read = (): void => {};
  let reading = new Promise<void>((resolve) => (read = resolve));
  const machine = await createMachine({
    ...{ harts: 1, memoryBytes: 8 << 20, kernel: buildPrinter() },
    onConsole(bytes) {
      text += Buffer.from(bytes).toString("latin1");
      return reading;
    },
  });
  try {
    await machine.start();
    await expect.poll(() => text.length, { timeout: 60_000 }).toBeGreaterThan(65_535);
    const { length } = text;
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(text.length - length).toBeLessThan(1000);
    await machine.save();
    reading = Promise.resolve();
    read();
    await expect.poll(() => text.length, { timeout: 60_000 }).toBeGreaterThan(3 * 65_536);
    expect(checkLines(`\n${text}`).first).toBe(0);
  } finally {
    await machine.close();
  }
});

test("a machine is saved while it runs, and others resume from its bytes and its file", async () => {
  const directory = await mkdtemp(join(tmpdir(), "wherry-entry-"));
  const guest = new Guest();
  const machine = await createMachine({
    ...guest.options,
    kernel: await buildPulse(),
    append: "pulse.nodisk",
  });
  try {
    await machine.start();
    await guest.see(REPORT);
    const bytes = await machine.save();
    expect(machine.runState).toBe("running");
    const file = join(directory, "state");
    await machine.saveTo(file);
    await machine.pause();
    expect(machine.runState).toBe("paused");
    await goOnWith(bytes, "translator");
    // Pulse accepts guest time that jumps ahead.
    await goOnWith(file, "interpreter", "host");
    const broken = bytes.slice();
    const at = bytes.length >> 1;
    broken[at] = (broken[at] ?? 0) ^ 1;
    await expect(createMachine({ ...HARDWARE, state: broken })).rejects.toThrow("RAM chunk");
  } finally {
    await machine.close();
    await rm(directory, { recursive: true });
  }
});

/** Drives two disks (virtio's registers, with VERSION_1), prints, waits: their contents are the guest's. */
const DRIVER = flatBinary(
  assemble(
    [
      {
        name: "driver",
        text: `
  li t0, 0x10008000
  li t1, 0x10007000
1: li t2, 1
  sw t2, 0x24(t0)
  sw t2, 0x20(t0)
  li t2, 11
  sw t2, 0x70(t0)
  li t2, 15
  sw t2, 0x70(t0)
  mv t3, t0
  mv t0, t1
  bne t3, t1, 1b
  li a7, 1
  li a0, 120
  ecall
2: wfi
  j 2b
`,
      },
    ],
    { base: 0x80200000n },
  ),
);

test("a state is resumed with the disks that it had: in their order, all of them, as they were", async () => {
  const directory = await mkdtemp(join(tmpdir(), "wherry-entry-"));
  const disk = async (name: string, byte: number, readonly = false) => {
    const file = join(directory, name);
    await writeFile(file, new Uint8Array(1 << 20).fill(byte));
    return { file, readonly };
  };
  const [a, b, c] = [await disk("a", 1), await disk("b", 2), await disk("base", 3, true)];
  const small = { harts: 1, memoryBytes: 16 << 20 };
  const saved = async (drives: readonly DriveSpec[]) => {
    const guest = new Guest();
    const { onConsole } = guest.options;
    const machine = await createMachine({ ...small, kernel: DRIVER, drives, onConsole });
    try {
      await machine.start();
      await guest.see(/x/);
      return await machine.save();
    } finally {
      await machine.close();
    }
  };
  const resume = (state: Uint8Array, drives: readonly DriveSpec[]) =>
    createMachine({ ...small, state, drives });
  try {
    const state = await saved([a, b]);
    await expect(resume(state, [b, a])).rejects.toThrow(/b: is not the disk .* in the order of the saved/);
    await expect(resume(state, [a])).rejects.toThrow(/no such device/);
    await (await resume(state, [a, b])).close();
    // Clones share a base that none of them writes.
    const shared = await saved([c]);
    const clones = [await resume(shared, [c]), await resume(shared, [c])];
    for (const clone of clones) await clone.close();
    await writeFile(c.file, new Uint8Array(1 << 20).fill(4));
    await expect(resume(shared, [c])).rejects.toThrow(/base: is not the disk/);
    await (await resume(shared, [{ ...c, forceChanged: true }])).close();
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("a state brings its forwarded ports to a user network, and is taken by a card on any other", async () => {
  const small = { harts: 1, memoryBytes: 16 << 20 };
  const warnings: string[] = [];
  const onWarning = (message: string) => void warnings.push(message);
  const hostfwd = ["tcp:127.0.0.1:0-:22"];
  const machine = await createMachine({ ...small, kernel: await buildPulse(), net: { user: { hostfwd } } });
  await machine.network!.forward("tcp:127.0.0.1:0-:80");
  const forwards = machine.network!.forwards;
  const state = await machine.save();
  const resume = (net: MachineOptions["net"]) => createMachine({ ...small, state, net, onWarning });
  // Its own ports are taken, so that it gets others.
  const beside = await resume({ user: {} });
  expect(beside.network!.forwards.map((rule) => rule.split("-")[1])).toEqual([":22", ":80"]);
  expect(beside.network!.forwards).not.toEqual(forwards);
  await beside.close();
  await machine.close();
  const after = await resume({ user: { hostfwd: ["tcp:127.0.0.1:0-:22"] } });
  expect(after.network!.forwards[1]).toBe(forwards[1]);
  expect(after.network!.forwards[0]).not.toBe(forwards[0]);
  await after.close();
  const wire: NetBackend = { send: () => {}, onFrame: () => {} };
  const elsewhere = await resume({ backend: wire });
  const without = await elsewhere.save();
  await elsewhere.close();
  expect(Buffer.from(state).includes("wherry/usernet")).toBe(true);
  expect(Buffer.from(without).includes("wherry/usernet")).toBe(false);
  const back = await createMachine({ ...small, state: without, net: { user: { hostfwd } }, onWarning });
  expect(back.network!.forwards).toHaveLength(1);
  await back.close();
  expect(warnings).toEqual(
    Array(3).fill(expect.stringMatching(/^the machine brings the forwarded port .*: open on the loopback$/)),
  );
});

test("a failed creation leaves nothing open", async () => {
  const refuses = (options: MachineOptions) => expect(createMachine(options)).rejects;
  await refuses(HARDWARE).toThrow("nothing to run");
  await refuses({ ...HARDWARE, kernel: new Uint8Array(100) }).toMatchObject({ code: "boot.kernel" });
  await refuses({ ...HARDWARE, harts: 1000, state: new Uint8Array(0) }).toMatchObject({
    code: "options.value",
  });
  await refuses({ ...HARDWARE, kernel: await buildPulse(), clock: "host" }).toThrow("clock is for a saved");
  await refuses({ ...HARDWARE, state: new Uint8Array(0) }).toMatchObject({ code: "migration.cut" });
  const directory = await mkdtemp(join(tmpdir(), "wherry-entry-"));
  await writeFile(join(directory, "disk"), new Uint8Array(512));
  const drives = [{ file: join(directory, "disk"), readonly: false }];
  await refuses({ ...HARDWARE, drives, state: join(directory, "none") }).toThrow("cannot open");
  for (const [options, message] of [
    [{ drive: drives }, 'unknown option "drive"; did you mean drives?'],
    [{ drives: ["disk"] }, 'drives[0]: expected an object of options, found "disk"'],
    [{ drives: [{ file: "disk" }] }, "drives[0].readonly is missing"],
    [{ drives: [{ file: "disk", readOnly: true, readonly: true }] }, "did you mean drives[0].readonly?"],
    [{ net: { mode: "user", host: "h", port: 1 } }, 'net.mode: expected "listen" or "connect"'],
    [{ net: { mode: "listen", host: "h", port: 1, mac: "52:54" } }, "net.mac: expected 6 bytes"],
    [{ console: process.stdout }, "console: expected an object with the methods write, read, onReadable"],
    [{ state: 5 }, "state: expected a saved machine: its path, or its bytes (a Uint8Array), found 5"],
    [{ incoming: true }, 'unknown option "incoming"'],
  ] as const) {
    await refuses({ ...HARDWARE, ...options } as never).toThrow(message);
  }
  await refuses(undefined as never).toMatchObject({ code: "options.value" });
  await rm(directory, { recursive: true });
});

test("a machine's name: QMP by it, taken once, free after close", async () => {
  const runtime = await mkdtemp(join(tmpdir(), "wherry-named-"));
  const before = process.env["XDG_RUNTIME_DIR"];
  process.env["XDG_RUNTIME_DIR"] = runtime;
  try {
    const options = { harts: 1, memoryBytes: 8 << 20, kernel: buildPrinter(), name: "printer" };
    const machine = await createMachine(options);
    const entry = machineNamed("printer");
    expect(entry).toMatchObject({ pid: process.pid, harts: 1, memoryBytes: 8 << 20 });
    const client = await QmpClient.connect(entry.qmp);
    expect(await client.execute("query-status")).toMatchObject({ status: "prelaunch" });
    client.close();
    await expect(createMachine(options)).rejects.toMatchObject({ code: "registry.in-use" });
    await expect(createMachine({ ...options, name: "a/b" })).rejects.toMatchObject({ code: "options.value" });
    await machine.close();
    expect(await readdir(join(runtime, "wherry"))).toEqual([]);
    // One that never comes has its name only while it waits.
    const abort = new AbortController();
    const incoming = Machine.incoming("tcp:127.0.0.1:0", {
      ...{ harts: 1, memoryBytes: 8 << 20, name: "printer", signal: abort.signal },
      onListening: () => abort.abort(),
    });
    await expect(incoming).rejects.toMatchObject({ code: "machine.aborted" });
    expect(await readdir(join(runtime, "wherry"))).toEqual([]);
  } finally {
    if (before === undefined) delete process.env["XDG_RUNTIME_DIR"];
    else process.env["XDG_RUNTIME_DIR"] = before;
    await rm(runtime, { recursive: true });
  }
});
