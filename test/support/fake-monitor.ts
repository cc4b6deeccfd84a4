// A monitor with a fake machine that has only a run state, and a client of it: for tests of QMP.
import type { PerfControl } from "../../src/accelerator/perf-report.ts";
import { decodeUtf8, encodeUtf8 } from "../../src/base/text.ts";
import type { MigrationProgress } from "../../src/migration/save/move-progress.ts";
import {
  defaultParameters,
  type MigrationChange,
  type MigrationParameters,
} from "../../src/migration/save/outgoing-move.ts";
import type { MonitoredMachine, QmpTarget } from "../../src/monitor/machine-commands.ts";
import type { MigrationAddress } from "../../src/monitor/migration-address.ts";
import type { MigrationControl, SaveProgress } from "../../src/monitor/migration-control.ts";
import { QmpMonitor } from "../../src/monitor/qmp-monitor.ts";
import type { MachineEvent } from "../../src/vmm/machine.ts";
import { RunStateHolder } from "../../src/vmm/run-state.ts";

class FakeMachine implements MonitoredMachine {
  readonly runState = new RunStateHolder();
  readonly #listeners: ((event: MachineEvent) => void)[] = [];
  startBlocker: string | undefined;
  isSuspended = false;
  wakeUp() {
    this.isSuspended = false;
    this.emit({ event: "WAKEUP" });
  }
  onEvent(listener: (event: MachineEvent) => void) {
    this.#listeners.push(listener);
    return () => {};
  }
  emit(event: MachineEvent) {
    for (const listener of this.#listeners) listener(event);
  }
  async start() {
    if (this.runState.running) return;
    this.runState.set("running");
    this.emit({ event: "RESUME" });
  }
  async stop() {
    const before = this.runState.current;
    await new Promise((resolve) => setTimeout(resolve, 5));
    this.runState.set("paused");
    this.emit({ event: "STOP" });
    return before;
  }
  async reset(guest = false) {
    this.emit({ event: "RESET", guest });
  }
}

const nothingSoFar: MigrationProgress = {
  status: "setup",
  totalBytes: 4 << 20,
  transferredBytes: 0,
  multifdBytes: 0,
  remainingBytes: 4 << 20,
  normalPages: 0,
  zeroPages: 0,
  rounds: 0,
  dirtyPagesPerSecond: 0,
  megabitsPerSecond: 0,
  pagesPerSecond: 0,
  precopyBytes: 0,
  downtimeBytes: 0,
  totalTimeMs: 0,
  setupTimeMs: undefined,
  expectedDowntimeMs: undefined,
  downtimeMs: undefined,
  error: undefined,
  advice: undefined,
};

class FakeMigration implements MigrationControl {
  info: MigrationProgress | undefined;
  parameters: MigrationParameters = { ...defaultParameters };
  readonly capabilities = new Map([
    ["events", false],
    ["return-path", true],
  ]);
  runsOnArrival: boolean | undefined;
  profile: string | undefined;
  readonly profiles = ["qemu-1.0"];
  saving: SaveProgress | undefined;
  readonly started: MigrationAddress[] = [];
  readonly saved: string[] = [];
  readonly decisions: string[] = [];
  readonly listeners: ((change: MigrationChange) => void)[] = [];
  async start(address: MigrationAddress) {
    this.started.push(address);
    this.set({ status: "setup" });
  }
  async incoming(address: MigrationAddress) {
    this.started.push(address);
  }
  decideStart(runs: boolean) {
    this.runsOnArrival = runs;
  }
  cancel() {
    if (this.info?.status === "setup") this.set({ status: "cancelled" });
  }
  async decide(decision: string) {
    this.decisions.push(decision);
  }
  query() {
    return this.info;
  }
  setParameters(p: Partial<MigrationParameters>) {
    this.parameters = { ...this.parameters, ...p };
  }
  setCapability(name: string, on: boolean) {
    this.capabilities.set(name, on);
  }
  async explain(profile: string) {
    const refusals = [{ code: "qemu.device", message: `no way to ${profile}`, cure: "none" }];
    return { refusals, qemu: ["qemu"], wherry: ["wherry"] };
  }
  async save(path: string) {
    this.saved.push(path);
  }
  onChange(listener: (change: MigrationChange) => void) {
    this.listeners.push(listener);
  }
  set(info: Partial<MigrationProgress>) {
    this.info = { ...nothingSoFar, ...info };
    for (const listener of this.listeners) listener({ event: "status", status: this.info.status });
  }
}

function fakePerf(): PerfControl {
  let counting = false;
  return {
    get counting() {
      return counting;
    },
    start: () => void (counting = true),
    stop: () => void (counting = false),
    read: () => ({
      elapsedNs: 2e9,
      harts: [
        {
          instructions: 1000,
          translated: 10,
          refills: 3,
          stealNs: undefined,
          hot: [{ address: 0xffffffff80001234n, count: 7 }],
          activities: { engine: { count: 4, ns: 1e9 }, "mmio-read": { count: 2, ns: 5000.4 } },
        },
      ],
      translation: { regions: 7, liveBytes: 4096 },
    }),
  };
}

/**
 * A monitor and its parts. `connect` makes a client whose `ask` waits for the replies. `more`: parts of the
 * target that most tests have no use for.
 */
export function fakeMonitor(more: Partial<QmpTarget> = {}) {
  const machine = new FakeMachine();
  const migration = new FakeMigration();
  const perf = fakePerf();
  let quits = 0;
  const target: QmpTarget = {
    machine,
    migration,
    memoryBytes: 512 << 20,
    vcpuThreads: [11, 12],
    registers: async () => ({ pc: "0x80000000", satp: "0x0", x1: "0x12", x2: "0x80001000", f0: "0xff" }),
    readMemory: async (address, length, hart) =>
      address < 0x80000000n
        ? undefined
        : new Uint8Array(length).map((_, i) => i + (hart === undefined ? 0 : 0x80)),
    perf,
    trace: async (hart, address) => `hart ${hart} ${address.toString(16)}\n`,
    quit: () => quits++,
    ...more,
  };
  const monitor = new QmpMonitor(target, {
    wherryVersion: "0.1.0",
    wallNs: () => 1_700_000_000_123_456_789n,
  });
  const connect = () => {
    const lines: unknown[] = [];
    const session = monitor.connect((bytes) => lines.push(JSON.parse(decodeUtf8(bytes))));
    return {
      session,
      lines,
      /** Sends, waits until the session is idle, and returns the output since the last call. */
      async ask(text: string): Promise<unknown[]> {
        lines.splice(0);
        session.receive(encodeUtf8(`${text}\n`));
        await new Promise((resolve) => setTimeout(resolve, 20));
        return lines.slice();
      },
    };
  };
  return { machine, migration, perf, monitor, connect, quits: () => quits };
}
