// The life of a machine in a program: what each call does in each state (the table of docs/embedding.md),
// calls that overlap, the promise of the end, and listeners that throw.
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { nodePlatform } from "../../src/node/node-platform.ts";
import { HostedMachine, type HostedMachineOptions } from "../../src/embed/hosted-machine.ts";
import { MemorySink, pieceChannel } from "../../src/embed/memory-snapshot.ts";
import { echoKernel, lifeCycle } from "../support/life-cycle.ts";

const kernel = echoKernel();
const HARDWARE = { harts: 1, memoryBytes: 8 << 20, kernel, engine: "interpreter" } as const;

interface Threads {
  /** What a thread's fault calls. */
  readonly faults: ((error: unknown) => void)[];
}

async function make(options: Partial<HostedMachineOptions> = {}): Promise<HostedMachine & Threads> {
  const faults: ((error: unknown) => void)[] = [];
  const platform = {
    ...nodePlatform,
    spawnVcpu(data: Parameters<typeof nodePlatform.spawnVcpu>[0]) {
      const thread = nodePlatform.spawnVcpu(data);
      const onFault = (listener: (error: unknown) => void) => {
        faults.push(listener);
        thread.onFault(listener);
      };
      return { ...thread, onFault };
    },
  };
  const machine = await HostedMachine.create({ ...HARDWARE, ...options }, {}, platform);
  onTestFinished(() => machine.close());
  return Object.assign(machine, { faults });
}

async function saved(machine: HostedMachine): Promise<Uint8Array[]> {
  const sink = new MemorySink();
  await machine.save(async () => sink);
  return [...sink.chunks];
}

/** A machine that ran when it was saved. */
const runningState = (async () => {
  const machine = await HostedMachine.create(HARDWARE, {}, nodePlatform);
  await machine.start();
  const pieces = await saved(machine);
  await machine.close();
  return pieces;
})();

const states: Record<string, () => Promise<HostedMachine>> = {
  // `incoming` only where `load` is to be tried: a created machine that is loaded must be.
  created: () => make(),
  async running() {
    const machine = await make();
    await machine.start();
    return machine;
  },
  async paused() {
    const machine = await make();
    await machine.start();
    await machine.pause();
    return machine;
  },
  async ended() {
    const machine = await make();
    await machine.start();
    machine.write("q");
    await machine.ended;
    return machine;
  },
  async crashed() {
    const machine = await make();
    await machine.start();
    machine.faults[0]?.(new Error("planted"));
    await machine.ended;
    return machine;
  },
  async "load failed"() {
    const machine = await make({ incoming: true });
    await machine.load(pieceChannel([new Uint8Array(8)])).catch(() => {});
    return machine;
  },
  async closed() {
    const machine = await make();
    await machine.close();
    return machine;
  },
};

const calls: Record<string, (machine: HostedMachine) => Promise<unknown>> = {
  start: (machine) => machine.start(),
  pause: (machine) => machine.pause(),
  reset: (machine) => machine.reset(),
  write: async (machine) => machine.write("x"),
  save: (machine) => saved(machine),
  load: async (machine) => machine.load(pieceChannel(await runningState)),
  close: (machine) => machine.close(),
};

describe("docs/embedding.md has", () => {
  test("each call and each state", () => {
    expect(lifeCycle.states).toEqual(Object.keys(states));
    expect(lifeCycle.calls).toEqual(Object.keys(calls));
  });
  test.each(Object.keys(states))("what each call does in a machine that is %s", async (state) => {
    const found: [string, string][] = [];
    let machine: HostedMachine | undefined;
    for (const [name, call] of Object.entries(calls)) {
      machine ??= (await states[state]?.()) as HostedMachine;
      const before = machine.runState;
      const refusal = await call(machine).then(
        () => undefined,
        (error: unknown) => (error as { code: string }).code,
      );
      found.push([name, refusal ?? machine.runState]);
      if (machine.runState === before) continue;
      await machine.close();
      machine = undefined;
    }
    expect(found).toEqual(lifeCycle.column(state));
  });
});

test("calls are executed in their order, awaited or not", async () => {
  const machine = await make();
  const all = [machine.start(), machine.pause()];
  await Promise.all(all);
  expect(machine.runState).toBe("paused");
  const states: string[] = [];
  const note = async (call: Promise<unknown>) => {
    await call;
    states.push(machine.runState);
  };
  await Promise.all([
    note(machine.start()),
    note(saved(machine)),
    note(machine.pause()),
    note(machine.reset()),
    note(machine.start()),
    note(machine.close()),
  ]);
  expect(states).toEqual(["running", "running", "paused", "prelaunch", "running", "shutdown"]);
});

test("close twice, at once, and while a save is under way", async () => {
  const machine = await make();
  await machine.start();
  const saving = saved(machine);
  const closing = [machine.close(), machine.close()];
  await expect(machine.start()).rejects.toMatchObject({ code: "machine.closed" });
  expect((await saving).length).toBeGreaterThan(0);
  await Promise.all(closing);
  await machine.close();
  expect(await machine.ended).toEqual({ kind: "closed", message: "the machine was closed" });
});

test("the end is the guest's, if it came before the close; a reset begins another life", async () => {
  const machine = await make();
  const { ended } = machine;
  await machine.start();
  machine.write("q");
  expect(await ended).toEqual({ kind: "shutdown", message: "guest-shutdown" });
  await expect(machine.start()).rejects.toThrow("the machine is shutdown: reset it first, then start it");
  await machine.reset();
  const second = machine.ended;
  expect(second).not.toBe(ended);
  await machine.start();
  await machine.reset();
  expect(machine.ended).toBe(second);
  machine.write("q");
  expect((await second).kind).toBe("shutdown");
  await machine.close();
  expect(machine.ended).toBe(second);
});

test("the end of a second life that is closed is not the first one's", async () => {
  const machine = await make();
  await machine.start();
  machine.write("q");
  await machine.ended;
  await machine.reset();
  await machine.start();
  await machine.close();
  expect(await machine.ended).toEqual({ kind: "closed", message: "the machine was closed" });
});

test("a crash has its cause", async () => {
  const machine = await make();
  await machine.start();
  machine.faults[0]?.(new Error("planted"));
  expect(await machine.ended).toEqual({ kind: "guest-failed", message: "vCPU 0: planted" });
});

test("a listener that throws, or rejects, is reported once and disturbs nothing", async () => {
  const error = vi.spyOn(console, "error").mockImplementation(() => {});
  onTestFinished(() => error.mockRestore());
  let printed = "";
  const machine = await make({
    onConsole: (bytes) => {
      printed += Buffer.from(bytes).toString();
      throw new TypeError("planted");
    },
    onRunState: (async () => {
      throw new TypeError("planted too");
    }) as () => void,
  });
  await machine.start();
  machine.write("abcq");
  expect((await machine.ended).kind).toBe("shutdown");
  expect(printed).toBe("abc");
  const reports = error.mock.calls.map(([text, cause]) => `${text} ${(cause as Error).message}`);
  expect(reports.sort()).toEqual([
    "wherry: onConsole failed (the machine goes on; reported once): planted",
    "wherry: onRunState failed (the machine goes on; reported once): planted too",
  ]);
});

test("a fault of a backend is a WherryError with its cause", async () => {
  const machine = await make();
  const planted = new TypeError("planted");
  const openSink = () => Promise.reject(planted);
  await expect(machine.save(openSink)).rejects.toMatchObject({ code: "machine.internal", cause: planted });
});

test.each([
  [{ harts: "2" }, "options.value", 'harts: expected a whole number from 1 to 32, found "2"'],
  [{ harts: 1.5 }, "options.value", "harts: expected a whole number from 1 to 32, found 1.5"],
  [{ harts: undefined }, "options.missing", "harts is missing"],
  [
    { memoryBytes: "8M" },
    "options.value",
    'memoryBytes: expected a whole number from 1 to 4294967296, found "8M"',
  ],
  [{ engine: "jit" }, "options.value", 'engine: expected "interpreter" or "translator", found "jit"'],
  [{ hart: 2 }, "options.name", 'unknown option "hart"; did you mean harts?'],
  [{ onconsole: () => {} }, "options.name", 'unknown option "onconsole"; did you mean onConsole?'],
  [{ colour: 1 }, "options.name", 'unknown option "colour"; the options are harts, memoryBytes, kernel'],
  [{ kernel: "Image" }, "options.value", 'kernel: expected the bytes, a Uint8Array, found "Image"'],
  [{ kernel: new ArrayBuffer(8) }, "options.value", "found an object (ArrayBuffer)"],
  [{ append: ["a"] }, "options.value", "append: expected a string, found an array"],
  [{ onConsole: {} }, "options.value", "onConsole: expected a function, found an object (Object)"],
  [{ icount: { shift: 3 } }, "options.missing", "icount.sleep is missing"],
  [
    { icount: { shft: 3, sleep: true } },
    "options.name",
    'unknown option "icount.shft"; did you mean icount.shift?',
  ],
  [{ rtc: { baseNs: 0 } }, "options.value", "rtc.baseNs: expected a bigint, such as 0n, found 0"],
  [{ isaExtensions: ["i", "v"] }, "options.value", "isaExtensions[1]: expected"],
  [{ memoryBytes: 3 << 20 }, "boot.memory", "memory size: expected a multiple of 2 MiB, found 3145728 bytes"],
  [{ kernel: undefined }, "boot.kernel", "nothing to run: give a kernel, or a firmware file"],
])("%o is refused", async (options, code, message) => {
  const refused = make(options as never);
  await expect(refused).rejects.toThrow(message);
  await expect(refused).rejects.toMatchObject({ code });
});

test("what is no object of options is refused too, and so is input that is neither text nor bytes", async () => {
  for (const options of [undefined, null, [], "x"]) {
    const refused = HostedMachine.create(options as never, {}, nodePlatform);
    await expect(refused).rejects.toMatchObject({ code: "options.value" });
  }
  const machine = await make();
  expect(() => machine.write(5 as never)).toThrow(
    "input: expected a string or bytes (a Uint8Array), found 5",
  );
});
