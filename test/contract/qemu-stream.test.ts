// The board in QEMU's streams: what 7.2, 10.0 and 11.1 wrote for a running Debian guest (two harts; neither
// RAM nor virtio devices) is loaded and written back byte for byte, except for derived values, which are
// listed here. Then what each release does not write (timers, interrupt lines), and refusals. Random cases:
// WHERRY_SEED replays a run.
import { readFileSync } from "node:fs";
import { inflateRawSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { WherryError } from "../../src/base/errors.ts";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { aclintState } from "../../src/hypervisor/irqchip/aclint.ts";
import { CTL_RUN } from "../../src/hypervisor/shared/memory-map.ts";
import { plicState } from "../../src/hypervisor/irqchip/plic.ts";
import { VcpuRequests } from "../../src/hypervisor/requests/vcpu-requests.ts";
import { RUN } from "../../src/hypervisor/shared/run-page.ts";
import { planMemory, Vm } from "../../src/hypervisor/vm/vm.ts";
import { CharPipe } from "../../src/devices/char-backend.ts";
import { VirtioBlk } from "../../src/devices/virtio/virtio-blk.ts";
import { VirtioConsole } from "../../src/devices/virtio/virtio-console.ts";
import { VirtioNet } from "../../src/devices/virtio/virtio-net.ts";
import { diskState } from "../../src/devices/virtio/disk-section.ts";
import type { VirtioBoard } from "../../src/devices/virtio/virtio-device.ts";
import { VirtioRng } from "../../src/devices/virtio/virtio-rng.ts";
import { goldfishRtcState } from "../../src/devices/goldfish-rtc.ts";
import { cpuSections, irqchipSection } from "../../src/machines/accelerator-sections.ts";
import {
  clockState,
  commonState,
  mtimerDefinition,
  plicDefinition,
} from "../../src/machines/qemu/board-state.ts";
import { hartDefinition, type QemuHart } from "../../src/machines/qemu/qemu-hart-state.ts";
import { releaseNamed } from "../../src/machines/qemu/qemu-releases.ts";
import { VIRT_MEMMAP } from "../../src/machines/boot/virt-map.ts";
import { SaveTime } from "../../src/machines/save-time.ts";
import {
  createVirtMachine,
  type VirtBackends,
  type VirtMachine,
  type VirtOptions,
  virtRamBlocks,
} from "../../src/machines/virt.ts";
import type { StateDefinition } from "../../src/state/schema.ts";
import { stateSection } from "../../src/state/section.ts";
import { Cpus } from "../../src/vmm/cpus.ts";
import type { CpuState } from "../../src/vmm/riscv-cpu-state.ts";
import type { QemuProfile } from "../../src/vmm/qemu-profile.ts";
import { createSharedMemory } from "../../src/wasm/webassembly.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { MemoryBlock } from "../support/memory-block.ts";
import { seed } from "../support/seed.ts";

const MIB = 2 ** 20;
const HARTS = 2;
const NEVER = 2n ** 64n - 1n;

interface SectionBytes {
  readonly version: number;
  readonly bytes: Uint8Array;
}
type Stream = Map<string, SectionBytes>;

const fixtures = JSON.parse(
  readFileSync(new URL("fixtures/qemu-boards.json", import.meta.url), "utf8"),
) as Record<string, Record<string, { version: number; deflated: string }>>;

/** The sections of a QEMU, in its order. */
function streamOf(name: string): Stream {
  return new Map(
    Object.entries(fixtures[name] ?? {}).map(([key, { version, deflated }]) => [
      key,
      { version, bytes: new Uint8Array(inflateRawSync(Buffer.from(deflated, "base64"))) },
    ]),
  );
}

interface World {
  readonly machine: VirtMachine;
  readonly cpus: Cpus;
  readonly vm: Vm;
}

/** A board with a real PLIC, ACLINT and clock; no hart ever runs. */
interface BoardOptions extends Pick<VirtOptions, "rtc">, Pick<VirtBackends, "virtio"> {
  readonly harts?: number;
  readonly builtin?: boolean;
  readonly legacy?: boolean;
  readonly isa?: string[];
}

const recordedDrive = {
  activate: async () => {},
  inactivate: async () => {},
  record: { state: diskState.create(), check: () => {}, expect: () => {} },
};

async function board(options: BoardOptions = {}): Promise<World> {
  const { harts = HARTS, builtin = false, isa, legacy = false, rtc, virtio = [] } = options;
  const blocks = virtRamBlocks(4 * MIB);
  const plan = planMemory(harts, blocks);
  const { buffer } = createSharedMemory(Math.ceil(plan.size / 0x10000));
  const time = new FakeClock();
  const vm = new Vm({
    buffer,
    vcpuCount: harts,
    blocks,
    builtinFirmware: builtin,
    monotonicNs: () => Number(time.nowNs),
    spawnVcpu: () => ({ onSignal: () => {}, onFault: () => {}, terminate: async () => {} }),
  });
  for (let hart = 0; hart < harts; hart++) new VcpuRequests(buffer, hart).store(CTL_RUN, RUN.PARKED);
  const cpus = new Cpus(vm);
  const machine = createVirtMachine(
    {
      harts,
      memorySize: 4 * MIB,
      firmware: builtin ? "builtin" : Uint8Array.of(0x6f, 0, 0, 0),
      incoming: true,
      ...(isa === undefined ? {} : { isaExtensions: isa }),
      ...(rtc === undefined ? {} : { rtc }),
      legacyVirtio: legacy,
    },
    {
      vm,
      cpus,
      sections: [
        ...cpuSections(cpus),
        irqchipSection(aclintState, vm.aclint),
        irqchipSection(plicState, vm.plic),
      ],
      irqchip: vm,
      saveTime: new SaveTime(undefined),
    },
    {
      clock: { monotonicNs: () => Number(time.nowNs), wallNs: () => time.nowNs },
      setTimer: time.setTimer,
      randomBytes: (length) => new Uint8Array(length),
      defer: () => {},
      serial: new CharPipe(() => {}),
      virtio,
      // Its section is not QEMU's.
      drives: [recordedDrive],
    },
  );
  await machine.initialize();
  return { machine, cpus, vm };
}

/** Decodes all, applies all, rebuilds. Returns the release that the loader detected. */
function load({ machine, cpus }: World, stream: Stream): string | undefined {
  const loader = machine.qemu!.loader();
  const apply = [...stream].map(([key, { version, bytes }]) => {
    const section = loader.sections.find((s) => `${s.idstr}/${s.instanceId}` === key);
    expect(section, key).toBeDefined();
    const reader = new ByteReader(bytes);
    const done = section!.decode(reader, version);
    // As for a footer in the wrong place.
    if (reader.remaining > 0)
      throw new WherryError("test.rest", `${key}: ${reader.remaining} bytes are left`);
    return done;
  });
  cpus.synchronizeAllPreLoad();
  for (const one of apply) one();
  loader.rebuild();
  cpus.synchronizeAllPostInit();
  return loader.release;
}

async function save({ machine, cpus }: World, name: string): Promise<Stream> {
  await cpus.synchronizeAllStates();
  return written(machine.qemu!.profile(name));
}
function written({ sections }: QemuProfile): Stream {
  return new Map(
    sections.map((section) => {
      const writer = new ByteWriter();
      section.encode(writer);
      return [`${section.idstr}/${section.instanceId}`, { version: section.version, bytes: writer.finish() }];
    }),
  );
}

function decoded<T>(definition: StateDefinition<T>, stream: Stream, key: string): T {
  return definition.decode(new ByteReader(stream.get(key)!.bytes), stream.get(key)!.version);
}
function encoded<T>(definition: StateDefinition<T>, state: T): SectionBytes {
  const writer = new ByteWriter();
  definition.encode(state, writer);
  return { version: definition.version, bytes: writer.finish() };
}
const hartOf = (stream: Stream, name: string, id = 0): QemuHart =>
  decoded(hartDefinition(releaseNamed(name)), stream, `cpu/${id}`);
/** `stream` with a hart changed. */
function withHart(stream: Stream, name: string, change: (hart: QemuHart) => void, id = 0): Stream {
  const definition = hartDefinition(releaseNamed(name));
  const hart = hartOf(stream, name, id);
  change(hart);
  return new Map(stream).set(`cpu/${id}`, encoded(definition, hart));
}

/** Without the values kept from QEMU. */
const ofHart = (state: CpuState): Partial<CpuState> => ({
  ...state,
  kept: undefined!,
  keptLength: 0,
  keptVersion: 0,
});

const WHOLE_TICK = (ns: bigint): bigint => ns - (ns % 100n);

/** Converts what is not written as it was read. */
function asWritten(stream: Stream, release: string): Stream {
  const out = new Map(stream);
  // QEMU rebuilds its ACPI tables at each start, and RISC-V harts do not use the host's ticks.
  out.delete("virt_acpi_build/0");
  const clock = decoded(clockState, stream, "timer/0");
  out.set("timer/0", encoded(clockState, { ...clock, ticks: 0n, clock: WHOLE_TICK(clock.clock) }));
  const fwCfg = stream.get("fw_cfg/0")!;
  out.set("fw_cfg/0", { ...fwCfg, bytes: fwCfg.bytes.slice(0, 30) });
  for (let id = 0; id < HARTS; id++) {
    const hart = hartOf(stream, release, id);
    // Timers are due at a whole tick.
    if (hart.stimer !== NEVER) hart.stimer = hart.stimecmp * 100n;
    hart.loadReservation = NEVER;
    // The release does not arm this timer: its guest finds the interrupt pending.
    if (release === "qemu-7.2") hart.mip |= (hart.menvcfg & (1n << 63n)) === 0n ? 0x80n : 0x20n;
    out.set(`cpu/${id}`, encoded(hartDefinition(releaseNamed(release)), hart));
    const common = decoded(commonState, stream, `cpu_common/${id}`);
    out.set(
      `cpu_common/${id}`,
      encoded(commonState, { ...common, interruptRequest: hart.mip === 0n ? 0 : 2 }),
    );
  }
  return out;
}

const hex = (stream: Stream): Record<string, string> =>
  Object.fromEntries([...stream].map(([key, { bytes }]) => [key, Buffer.from(bytes).toString("hex")]));

describe.each(Object.keys(fixtures))("a board of %s", (fixture) => {
  const release = fixture.split(" ")[0] as string;

  it("is read completely and written back, byte for byte and in the same order", async () => {
    const world = await board();
    const stream = streamOf(fixture);
    expect(load(world, stream)).toBe(release);
    const back = await save(world, release);
    expect(hex(back)).toEqual(hex(asWritten(stream, release)));
    expect([...back.keys()]).toEqual([...stream.keys()].filter((key) => back.has(key)));
    expect([...back].map(([, s]) => s.version)).toEqual(
      [...back.keys()].map((key) => stream.get(key)!.version),
    );
  });

  it("has the same time and deadlines in every release", async () => {
    const world = await board();
    const stream = streamOf(fixture);
    load(world, stream);
    const now = decoded(clockState, stream, "timer/0").clock / 100n;
    expect(world.vm.clock.read()).toBe(now);
    for (const name of world.machine.qemu!.names) {
      const again = await board();
      expect(load(again, await save(world, name))).toBe(name);
      expect(again.vm.clock.read()).toBe(now);
      await again.cpus.synchronizeAllStates();
      for (const [id, { state, common }] of again.cpus.all.entries()) {
        const was = world.cpus.all[id]!;
        // The software part of mip holds what was made pending for a release that arms no timer: then it is
        // STIP.
        expect(ofHart({ ...state, mip: 0n })).toEqual(ofHart({ ...was.state, mip: 0n }));
        expect(common).toEqual(was.common);
      }
      expect(again.vm.aclint.get()).toEqual(world.vm.aclint.get());
      expect(again.vm.plic.get()).toEqual(world.vm.plic.get());
    }
  });

  it("is the same after a move between Wherrys, until a reset", async () => {
    const [first, second] = [await board(), await board()];
    const stream = streamOf(fixture);
    load(first, stream);
    await first.cpus.synchronizeAllStates();
    second.cpus.synchronizeAllPreLoad();
    const { bytes } = first.machine.carried;
    const { memory } = second.machine.carried.receive(bytes.length);
    memory.bytes.set(bytes);
    second.machine.carried.received(memory, []);
    for (const section of first.machine.sections) {
      const writer = new ByteWriter();
      section.encode(writer);
      const other = second.machine.sections.find(
        (s) => s.idstr === section.idstr && s.instanceId === section.instanceId,
      );
      other!.decode(new ByteReader(writer.finish()), section.version)();
    }
    second.cpus.synchronizeAllPostInit();
    expect(hex(await save(second, release))).toEqual(hex(asWritten(stream, release)));
    await second.machine.reset();
    // For a hart that was started here: without H.
    expect(hartOf(await save(second, release), release).misaExt).toBe(0x14112dn);
  });

  it("is refused clearly wherever a section is cut", async () => {
    const { machine } = await board();
    const loader = machine.qemu!.loader();
    for (const [key, { version, bytes }] of streamOf(fixture)) {
      const section = loader.sections.find((s) => `${s.idstr}/${s.instanceId}` === key)!;
      for (let length = 0; length < bytes.length; length += 1 + (length >> 4)) {
        const reader = new ByteReader(bytes.slice(0, length));
        try {
          section.decode(reader, version);
          // A section without its last subsections is complete.
          expect(length).toBeGreaterThan(0);
        } catch (error) {
          expect(String(error)).toMatch(new RegExp(section.idstr.split("/")[0]!.replaceAll(".", "\\.")));
        }
      }
      // Later sections may depend on it.
      section.decode(new ByteReader(bytes), version);
    }
  });
});

describe("any state", () => {
  const u64 = fc.bigInt(0n, NEVER);
  const words = (mask: bigint) => u64.map((value) => value & mask);
  /** A hart of Wherry with a firmware file. */
  const hart = fc.record({
    pc: u64,
    x: fc.array(u64, { minLength: 32, maxLength: 32 }).map((x) => BigUint64Array.from([0n, ...x.slice(1)])),
    f: fc.array(u64, { minLength: 32, maxLength: 32 }).map((f) => BigUint64Array.from(f)),
    frm: fc.nat(7),
    priv: fc.constantFrom(0, 1, 3),
    ...{
      stvec: u64,
      sscratch: u64,
      sepc: words(~1n),
      scause: u64,
      stval: u64,
      mtvec: u64,
      mscratch: u64,
      mepc: words(~1n),
    },
    ...{ mcause: u64, mtval: u64, mcycle: u64, minstret: u64 },
    satp: fc.constantFrom(0n, (8n << 60n) | 5n, (10n << 60n) | (7n << 44n)),
    scounteren: words(0xffffffffn),
    mcounteren: words(0xffffffffn),
    mstatus: words(0x7e79aan).map((m) => m | (10n << 32n)),
    mie: words(0xaaan),
    mideleg: words(0x222n),
    medeleg: words(0xb3ffn),
    menvcfg: words((1n << 63n) | 0xf1n),
    svade: fc.nat(1),
    senvcfg: words(0xf1n),
    mcountinhibit: words(5n),
    pmpcfg: fc.uint8Array({ minLength: 16, maxLength: 16 }),
    pmpaddr: fc
      .array(words((1n << 54n) - 1n), { minLength: 16, maxLength: 16 })
      .map((a) => BigUint64Array.from(a)),
    timerCompare: u64,
  });

  it("of a hart here is the same after a journey through any release", async () => {
    const [from, to] = [await board(), await board()];
    await fc.assert(
      fc.asyncProperty(
        hart,
        fc.constantFrom("qemu-7.2", "qemu-10.0", "qemu-11.1"),
        async ({ frm, ...fields }, name) => {
          const { cpus, machine } = from;
          await cpus.synchronizeAllStates();
          cpus.synchronizeAllPreLoad();
          for (const [id, { state, common }] of cpus.all.entries()) {
            Object.assign(state, {
              ...fields,
              fcsr: frm << 5,
              mhartid: BigInt(id),
              mip: 2n,
              mpState: 0,
              stealTimeShmem: NEVER,
            });
            state.x = fields.x.slice();
            common.halted = id;
          }
          cpus.synchronizeAllPostInit();
          load(to, await save({ ...from, machine }, name));
          await to.cpus.synchronizeAllStates();
          await cpus.synchronizeAllStates();
          for (const [id, { state, common }] of to.cpus.all.entries()) {
            // If a load arms no timer, its interrupt was made pending.
            expect(ofHart({ ...state, mip: state.mip & ~0x20n })).toEqual(
              // 7.2 has no menvcfg.ADUE: its harts always update A and D.
              ofHart({ ...cpus.all[id]!.state, mip: 2n, ...(name === "qemu-7.2" ? { svade: 0 } : {}) }),
            );
            expect(common.halted).toBe(id);
          }
        },
      ),
      { seed, numRuns: 60 },
    );
  }, 30_000);

  it.each(Object.keys(fixtures))(
    "of %s with bytes changed is refused, or loads what can be written again",
    async (fixture) => {
      const stream = streamOf(fixture);
      const world = await board();
      const keys = [...stream.keys()];
      await fc.assert(
        fc.asyncProperty(
          fc.nat(keys.length - 1),
          fc.array(fc.tuple(fc.double({ min: 0, max: 0.999, noNaN: true }), fc.nat(255)), {
            minLength: 1,
            maxLength: 4,
          }),
          async (at, changes) => {
            const key = keys[at]!;
            const { version, bytes } = stream.get(key)!;
            const spoilt = bytes.slice();
            for (const [where, byte] of changes) spoilt[Math.floor(where * bytes.length)] = byte;
            try {
              load(world, new Map(stream).set(key, { version, bytes: spoilt }));
            } catch (error) {
              expect(error).toBeInstanceOf(WherryError);
              return;
            }
            for (const name of world.machine.qemu!.names) await save(world, name);
          },
        ),
        { seed, numRuns: 150 },
      );
    },
    30_000,
  );
});

describe("sepc and mepc", () => {
  it.each(["qemu-7.2", "qemu-10.0", "qemu-11.1"])(
    "that arrived odd from %s are the hart's when it returns",
    async (release) => {
      const world = await board();
      load(
        world,
        withHart(streamOf(release), release, (hart) => {
          hart.sepc = 0x8000_0001n;
          hart.mepc = 0x8000_0003n;
        }),
      );
      await world.cpus.synchronizeAllStates();
      const { state } = world.cpus.all[0]!;
      expect([state.sepc, state.mepc]).toEqual([0x8000_0000n, 0x8000_0002n]);
      state.sepc = 0xffff_ffff_8000_1000n;
      state.mepc = 0x8000_5000n;
      const hart = hartOf(await save(world, release), release);
      expect([hart.sepc, hart.mepc]).toEqual([0xffff_ffff_8000_1000n, 0x8000_5000n]);
    },
  );
});

describe("menvcfg.ADUE", () => {
  const ADUE = 1n << 61n;
  it.each([
    ["qemu-10.0", ADUE, 0, ADUE],
    ["qemu-11.1", ADUE, 0, ADUE],
    ["qemu-10.0", 0n, 1, 0n],
    ["qemu-11.1", 0n, 1, 0n],
    ["qemu-7.2", 0n, 0, 0n],
  ])("of %s (%d) is the hart's, and goes back; 7.2 has none", async (release, adue, svade, back) => {
    const world = await board();
    load(
      world,
      withHart(streamOf(release), release, (hart) => {
        hart.menvcfg = (hart.menvcfg & ~ADUE) | adue;
      }),
    );
    await world.cpus.synchronizeAllStates();
    expect(world.cpus.all[0]!.state.svade).toBe(svade);
    expect(hartOf(await save(world, release), release).menvcfg & ADUE).toBe(back);
  });

  it("is set in a guest that comes from 7.2 and goes to 11.1", async () => {
    const world = await board();
    load(world, streamOf("qemu-7.2"));
    expect(hartOf(await save(world, "qemu-11.1"), "qemu-11.1").menvcfg & ADUE).toBe(ADUE);
  });

  it("is set in the boards of 10.0 and 11.1 that were recorded", () => {
    for (const release of ["qemu-10.0", "qemu-11.1"])
      expect(hartOf(streamOf(release), release).menvcfg & ADUE).toBe(ADUE);
  });
});

describe("interrupt lines", () => {
  it("are bits of mip there and the controllers' here", async () => {
    const world = await board();
    const stream = withHart(streamOf("qemu-11.1"), "qemu-11.1", (hart) => {
      hart.mip = 0xaaan;
    });
    load(world, stream);
    await world.cpus.synchronizeAllStates();
    // SSIP alone is software's: MSIP is the ACLINT's, the rest follow from comparators and the PLIC.
    expect(world.cpus.all[0]!.state.mip).toBe(2n);
    expect([...world.vm.aclint.get().msip]).toEqual([1, 0]);
    const back = hartOf(await save(world, "qemu-11.1"), "qemu-11.1");
    expect(back.mip).toBe(0xan);
  });

  it("of a high source in service are pending in QEMU, so that they are not lost", async () => {
    const world = await board();
    load(world, streamOf("qemu-11.1"));
    world.vm.plic.set({
      ...world.vm.plic.get(),
      claimed: Uint32Array.of(0x400, 0, 0),
      pending: Uint32Array.of(0, 0, 0),
    });
    world.vm.irqLine(10, true);
    const plic = decoded(plicDefinition(HARTS), await save(world, "qemu-11.1"), "riscv_sifive_plic/0");
    expect([plic.pending[0], plic.claimed[0]]).toEqual([0x400, 0x400]);
  });

  it("that are high make their source pending here", async () => {
    const world = await board();
    world.vm.irqLine(3, true);
    load(world, streamOf("qemu-10.0"));
    expect(world.vm.plic.get().pending[0]).toBe(8);
    expect(hartOf(await save(world, "qemu-10.0"), "qemu-10.0").mip & 0x200n).toBe(0n);
  });
});

describe("time", () => {
  it("is the virtual clock and the offset that 11.1 tells", async () => {
    const world = await board();
    const stream = streamOf("qemu-11.1");
    const definition = mtimerDefinition(3, HARTS);
    const mtimer = decoded(definition, stream, "riscv_mtimer/0");
    mtimer.delta = BigInt.asUintN(64, -1000n);
    load(world, new Map(stream).set("riscv_mtimer/0", encoded(definition, mtimer)));
    expect(world.vm.clock.read()).toBe(decoded(clockState, stream, "timer/0").clock / 100n - 1000n);
  });

  it.each(["qemu-7.2", "qemu-10.0"])(
    "of a machine comparator wakes the guest of %s, which would not arm it",
    async (name) => {
      const world = await board();
      load(
        world,
        withHart(streamOf(name), name, (hart) => {
          hart.mie |= 0x80n;
        }),
      );
      const at = world.vm.clock.read();
      world.vm.aclint.set({ ...world.vm.aclint.get(), timecmp: BigUint64Array.of(at + 500n, at + 500n) });
      const stream = await save(world, name);
      expect(hartOf(stream, name, 0).mip & 0x80n).toBe(0x80n);
      // The other hart's firmware does not wait for it.
      expect(hartOf(stream, name, 1).mip & 0x80n).toBe(0n);
      expect(hartOf(await save(world, "qemu-11.1"), "qemu-11.1").mip & 0x80n).toBe(0n);
    },
  );

  it.each([
    { version: 2 },
    { version: 3 },
    { version: 2, clock: "vm" },
    { version: 3, clock: "vm" },
  ] as const)(
    "of the day goes on from a section of version $version, clock $clock here",
    async ({ version, clock }) => {
      const uptime = decoded(clockState, streamOf("qemu-7.2"), "timer/0").clock;
      const state = goldfishRtcState.create();
      const now = 1_700_000_000_000_000_000n;
      if (version === 2) state.tickOffsetVmstate = now - uptime;
      // The board's clock of the host is at one second.
      else state.tickOffset = now - 1_000_000_000n;
      const { bytes } = encoded(goldfishRtcState, state);
      const section = { version, bytes: version === 2 ? bytes.subarray(0, -8) : bytes };
      const world = await board({ rtc: { clock } });
      load(world, new Map(streamOf("qemu-7.2")).set("goldfish_rtc/0", section));
      const word = (offset: number): bigint =>
        world.machine.addressSpace.read(VIRT_MEMMAP.rtc.base + offset, 4) ?? 0n;
      const time = word(0) | (word(4) << 32n);
      // Guest time here has whole ticks of 100 ns.
      expect(Number(time - now)).toBeCloseTo(0, -2);
    },
  );

  it("that has come is pending everywhere", async () => {
    const world = await board();
    load(world, streamOf("qemu-11.1"));
    await world.cpus.synchronizeAllStates();
    world.cpus.all[1]!.state.timerCompare = 5n;
    for (const name of world.machine.qemu!.names) {
      const hart = hartOf(await save(world, name), name, 1);
      expect([hart.mip & 0x20n, hart.stimer]).toEqual([0x20n, NEVER]);
    }
  });
});

describe("command lines", () => {
  const lines = async (world: World, name: string): Promise<string[]> => {
    const { qemu, wherry } = world.machine.qemu!.profile(name).commandLines();
    return [qemu.join(" "), wherry.join(" ")];
  };

  it("ask QEMU for what the guest was told of", async () => {
    expect(await lines(await board(), "qemu-11.1")).toEqual([
      "qemu-system-riscv64 -M virt -cpu rv64,zicond=on,zfh=on,zfhmin=on,svade=on -smp 2 -m 4M -bios default " +
        "-nographic -global virtio-mmio.force-legacy=false -incoming URI",
      "wherry run --smp 2 --memory 4M --firmware FILE --incoming URI",
    ]);
  });

  it("name the devices in the board's order", async () => {
    const backend = new CharPipe(() => {});
    const world = await board({
      legacy: true,
      virtio: [
        (board) => new VirtioRng(board, { random: () => {} }),
        (board) => new VirtioConsole(board, { backend }),
        (board) => new VirtioConsole(board, { ports: [{ name: "org.example.0", backend }] }),
      ],
    });
    load(world, streamOf("qemu-7.2"));
    // Its standard input and output are the serial console's: QEMU gives them to one device only.
    expect(await lines(world, "qemu-7.2")).toEqual([
      "qemu-system-riscv64 -M virt -cpu rv64 -smp 2 -m 4M -bios default -nographic -device virtio-rng-device " +
        "-device virtio-serial-device,max_ports=1 -chardev socket,id=console1,path=PATH,server=on,wait=off " +
        "-device virtconsole,chardev=console1 -device virtio-serial-device,id=serial2 " +
        "-chardev socket,id=port2.0,path=PATH,server=on,wait=off " +
        "-device virtserialport,bus=serial2.0,chardev=port2.0,name=org.example.0 -incoming URI",
      "wherry run --smp 2 --memory 4M --firmware FILE --virtio legacy --rng --console unix:PATH " +
        "--serial-port name=org.example.0,path=unix:PATH --incoming URI",
    ]);
  });

  it("say which drives cannot be written, on both sides", async () => {
    const drive = (readonly: boolean) => (board: VirtioBoard) =>
      new VirtioBlk(board, { backend: new MemoryBlock(512, readonly) });
    const world = await board({ virtio: [drive(true), drive(false)] });
    const [qemu, wherry] = await lines(world, "qemu-11.1");
    expect(qemu).toMatch(/id=drive0,format=raw,file=FILE,readonly=on .*id=drive1,format=raw,file=FILE /);
    expect(wherry).toContain("--drive file=FILE,readonly=on --drive file=FILE --incoming");
  });
});

it("sections that only Wherry has are neither written for QEMU nor expected from it", async () => {
  const { machine } = await board();
  machine.addSection(stateSection(clockState, clockState.create(), { idstr: "wherry/other" }));
  const { sections } = machine.qemu!.profile("qemu-11.1");
  const names = [...sections, ...machine.qemu!.loader().sections].map(({ idstr }) => idstr);
  expect(names.filter((name) => name.startsWith("wherry/"))).toEqual([]);
});

describe("refused", () => {
  const cases: [string, (hart: QemuHart) => void, RegExp][] = [
    ["a guest of the guest", (h) => (h.hgatp = 8n << 60n), /hypervisor extension.*h=off/],
    ["virtualised mode", (h) => (h.virt = 1n), /hypervisor extension/],
    ["vectors", (h) => (h.mstatus |= 0x600n), /v=off/],
    ["PMP entries that are not here", (h) => (h.pmp[16]!.config = 0x1f), /PMP entry 16/],
    [
      "a counter of events",
      (h) => {
        h.mhpmevent[5] = 0x10019n;
        h.mcountinhibit = 0n;
      },
      /counter 5 counts event 0x10019.*stop perf/,
    ],
    ["a debug trigger", (h) => (h.tdata1[1]! |= 4n), /debug trigger 1/],
    ["letters of misa", (h) => (h.misaExt |= 1n << 21n), /misa has V/],
    ["another hart's state", (h) => (h.mhartid = 3n), /mhartid is 3, expected 0/],
    ["double traps", (h) => (h.menvcfg |= 1n << 59n), /menvcfg is 0x.*bits 0x800000000000000 .*-cpu rv64/],
    ["a translation mode that is not here", (h) => (h.satp = 11n << 60n), /satp's mode is 11/],
  ];
  it.each(cases)("%s", async (_what, change, message) => {
    const world = await board();
    expect(() => load(world, withHart(streamOf("qemu-11.1"), "qemu-11.1", change))).toThrow(message);
  });

  it("vectors, by their subsection", async () => {
    const world = await board();
    const stream = streamOf("qemu-10.0");
    const { bytes, version } = stream.get("cpu/0")!;
    const sub = new ByteWriter().u8(5).countedString("cpu/vector").u32(2).bytes(new Uint8Array(100)).finish();
    const grown = Uint8Array.of(...bytes, ...sub);
    expect(() => load(world, new Map(stream).set("cpu/0", { version, bytes: grown }))).toThrow(
      /cpu\/vector.*expected a hart without the V extension \(start QEMU with -cpu rv64,v=off\)/,
    );
  });

  it("sections with a similar but unknown name", async () => {
    const loader = (await board()).machine.qemu!.loader();
    expect(loader.dropped("slirp")).toMatch(/connections end/);
    for (const name of ["constructor", "__proto__", "toString"]) expect(loader.dropped(name)).toBeUndefined();
  });

  it("a release that is not known", async () => {
    const world = await board();
    const stream = streamOf("qemu-11.1");
    stream.set("cpu/0", { ...stream.get("cpu/0")!, version: 11 });
    expect(() => load(world, stream)).toThrow(
      "cpu: version 11 is of another release of QEMU, read are 5, 10, 12 (QEMU 7.2, 10.0, 11.1)",
    );
  });

  it("another number of harts, with the option that helps", async () => {
    const large = await board({ harts: 3 });
    expect(() => load(large, streamOf("qemu-7.2"))).toThrow(
      "has 2 harts, this machine has 3: start it with 2 harts",
    );
    const headless = streamOf("qemu-7.2");
    for (const key of headless.keys()) if (/^(cpu|riscv)/.test(key)) headless.delete(key);
    expect(() => load(large, headless)).toThrow("has 0 harts");
  });

  it("the built-in firmware, and what 7.2's harts have not", async () => {
    const { machine } = await board({ builtin: true });
    const found = await machine.qemu!.profile("qemu-7.2").refusals();
    expect(found.map((r) => r.code)).toEqual(["qemu.firmware", "qemu.extensions"]);
    expect(found[1]!.message).toContain("zicbom, zicboz, zicond, zawrs, zfa");
    const other = await board({ isa: ["i", "m", "a", "f", "d", "c", "sstc"] });
    expect(await other.machine.qemu!.profile("qemu-7.2").refusals()).toEqual([]);
  });

  it("a guest of a newer release in an older one", async () => {
    const world = await board();
    load(world, streamOf("qemu-11.1"));
    expect((await world.machine.qemu!.profile("qemu-7.2").refusals()).map((r) => r.code)).toEqual([
      "qemu.extensions",
    ]);
    for (const name of ["qemu-10.0", "qemu-11.1"])
      expect(await world.machine.qemu!.profile(name).refusals()).toEqual([]);
  });

  it("a clock that stands still with the guest", async () => {
    const { machine } = await board({ rtc: { clock: "vm" } });
    const [only, ...more] = await machine.qemu!.profile("qemu-11.1").refusals();
    expect([only?.code, more]).toEqual(["qemu.rtc", []]);
  });

  const wire = { send: () => {}, onFrame: () => {}, setOffloads: () => {} };
  it.each<[string, number, NonNullable<VirtBackends["virtio"]>[number]]>([
    [
      "a console's size",
      1,
      (board) => {
        const size = { cols: 80, rows: 25 };
        return new VirtioConsole(board, { backend: new CharPipe(() => {}), size });
      },
    ],
    ["receive offloads", 2, (board) => new VirtioNet(board, { backend: wire })],
    ["send offloads", 1, (board) => new VirtioNet(board, { backend: wire })],
  ])("features that no QEMU offers: %s", async (_, bits, device) => {
    const world = await board({ virtio: [device] });
    const profile = world.machine.qemu!.profile("qemu-11.1");
    expect(await profile.refusals()).toEqual([]);
    const at = 0x10008000;
    for (const [offset, value] of [
      [0x24, 0],
      [0x20, bits],
      [0x24, 1],
      [0x20, 1],
      [0x70, 11],
    ] as const) {
      world.machine.addressSpace.write(at + offset, 4, BigInt(value));
    }
    expect((await profile.refusals()).map((r) => r.code)).toEqual(["qemu.features"]);
  });

  it("queues that are larger than 11.1 takes", async () => {
    const world = await board({
      virtio: [(board) => new VirtioRng(board, { random: () => {} })],
      legacy: true,
    });
    world.machine.addressSpace.write(0x10008038, 4, 1024n);
    const codes = async (name: string): Promise<string[]> =>
      (await world.machine.qemu!.profile(name).refusals()).map((r) => r.code);
    load(world, streamOf("qemu-10.0"));
    expect([await codes("qemu-10.0"), await codes("qemu-11.1")]).toEqual([[], ["qemu.queue-size"]]);
  });

  it("an unknown release", async () => {
    const { machine } = await board();
    expect(() => machine.qemu!.profile("qemu-2.0")).toThrow("expected one of qemu-7.2, qemu-10.0, qemu-11.1");
  });
});
