// Loads a stream of any of the three releases into this board. Sections are decoded and checked as they
// arrive. The harts are assembled after all sections were applied, because their interrupt lines and time
// belong to the controllers here.
import { TIMER_OFF } from "../../devices/device-clock.ts";
import type { QemuStreamLoader } from "../../vmm/qemu-profile.ts";
import type { Section } from "../../state/section.ts";
import {
  acpiBuildState,
  clockState,
  commonState,
  fwCfgWithAcpiState,
  type MtimerState,
  mtimerDefinition,
  plicDefinition,
  PLIC_SOURCES,
  PLIC_WORDS,
  type QemuPlicState,
} from "./board-state.ts";
import { checkHart, hartFromQemu } from "./qemu-hart.ts";
import { MIP } from "../../riscv/causes.ts";
import { NS_PER_TICK, timeOffset } from "./guest-time.ts";
import { hartDefinition, type QemuHart } from "./qemu-hart-state.ts";
import { keepHart } from "./qemu-kept.ts";
import type { QemuParts } from "./qemu-parts.ts";
import { type Release, RELEASES, QemuStreamError } from "./qemu-releases.ts";
import { qemuSection } from "./qemu-sections.ts";
import { isShared } from "./qemu-writer.ts";

/** The clock here counts exactly up to this: 28 years. */
const LAST_TICK = (1n << 53n) - 1n;

const DROPPED: ReadonlyMap<string, string> = new Map([
  ["slirp", "QEMU's user network: its connections end where it ends"],
]);
const DROPPED_BLOCKS: readonly string[] = [
  ...["/rom@etc/acpi/tables", "/rom@etc/table-loader", "/rom@etc/acpi/rsdp"],
];

export class QemuLoader implements QemuStreamLoader {
  #sections: readonly Section[] | undefined;
  readonly #parts: QemuParts;
  readonly #harts: QemuHart[] = [];
  readonly #halted: number[] = [];
  #release: Release | undefined;
  /** QEMU's virtual clock in ns, and mtime minus that clock in ticks. */
  #clock = 0n;
  #offset = 0n;
  #mtimer: MtimerState | undefined;

  constructor(parts: QemuParts) {
    this.#parts = parts;
  }

  /** Made for a stream that is QEMU's: the definitions of all releases take longer than a small load. */
  get sections(): readonly Section[] {
    this.#sections ??= this.#makeSections();
    return this.#sections;
  }

  #makeSections(): readonly Section[] {
    const { machine, cpus } = this.#parts;
    const ids = cpus.all.map(({ id }) => id);
    return [
      qemuSection({
        idstr: "timer",
        definitions: [clockState],
        check: ({ clock }) => {
          this.#clock = clock;
        },
        take: () => {},
      }),
      ...ids.flatMap((id) => this.#hartSections(id)),
      this.#mtimerSection(),
      this.#plicSection(),
      this.#fwCfgSection(),
      qemuSection({ idstr: "virt_acpi_build", definitions: [acpiBuildState], take: () => {} }),
      ...machine.sections.filter(isShared),
    ];
  }

  get release(): string | undefined {
    return this.#release?.name;
  }

  dropped(idstr: string): string | undefined {
    return DROPPED.get(idstr);
  }

  droppedBlock(name: string): string | undefined {
    return DROPPED_BLOCKS.includes(name) ? "ACPI tables, which QEMU rebuilds at each start" : undefined;
  }

  #hartSections(id: number): Section[] {
    return [
      qemuSection({
        idstr: "cpu_common",
        instanceId: id,
        definitions: [commonState],
        check: ({ halted }) => {
          this.#halted[id] = halted;
        },
        take: () => {},
      }),
      qemuSection({
        idstr: "cpu",
        instanceId: id,
        definitions: RELEASES.map(hartDefinition),
        check: (hart, version) => {
          checkHart(hart, id);
          this.#release = RELEASES.find((r) => r.cpu === version);
          this.#harts[id] = hart;
        },
        take: () => {},
      }),
    ];
  }

  #mtimerSection(): Section {
    const harts = this.#parts.cpus.all.length;
    return qemuSection({
      idstr: "riscv_mtimer",
      definitions: [mtimerDefinition(1, harts), mtimerDefinition(3, harts)],
      // This section follows the harts, and its length depends on their number.
      before: () => this.#checkHarts(),
      check: (state, version) => {
        this.#mtimer = state;
        this.#offset = timeOffset(version, this.#clock, state, this.#harts);
        const now = this.#clock / NS_PER_TICK + this.#offset;
        if (now >= 0n && now <= LAST_TICK) return;
        throw new QemuStreamError("qemu.time", `riscv_mtimer: mtime is ${now}, expected 0 to ${LAST_TICK}`);
      },
      take: () => {},
    });
  }

  #plicSection(): Section {
    const { plic } = this.#parts.irqchip;
    const contexts = 2 * this.#parts.cpus.all.length;
    const ours = (state: QemuPlicState) => ({
      ...state,
      numSources: PLIC_SOURCES,
      numContexts: contexts,
      numEnableWords: contexts * PLIC_WORDS,
      numBitWords: PLIC_WORDS,
      // The devices drive their lines when they are loaded.
      level: plic.get().level,
    });
    return qemuSection({
      idstr: "riscv_sifive_plic",
      definitions: [plicDefinition(contexts / 2)],
      check: (state) => plic.check(ours(state)),
      take: (state) => plic.set(ours(state)),
    });
  }

  #fwCfgSection(): Section {
    const { fwCfg } = this.#parts;
    return qemuSection({
      idstr: "fw_cfg",
      definitions: [fwCfgWithAcpiState],
      take: ({ curEntry, curOffset, dmaAddr }) => Object.assign(fwCfg, { curEntry, curOffset, dmaAddr }),
    });
  }

  #checkHarts(): void {
    const ours = this.#parts.cpus.all.length;
    const theirs = this.#parts.cpus.all.filter(
      ({ id }) => this.#harts[id] !== undefined && this.#halted[id] !== undefined,
    ).length;
    if (theirs === ours) return;
    throw new QemuStreamError(
      "qemu.harts",
      `the stream has ${theirs} harts, this machine has ${ours}: start it with ${theirs} harts`,
    );
  }

  rebuild(): void {
    const { cpus, irqchip, serial } = this.#parts;
    this.#checkHarts();
    const release = this.#release;
    const mtimer = this.#mtimer;
    if (release === undefined) throw new QemuStreamError("qemu.section", "the stream has no section cpu");
    if (mtimer === undefined)
      throw new QemuStreamError("qemu.section", "the stream has no section riscv_mtimer");
    const now = this.#clock / NS_PER_TICK + this.#offset;
    for (const cpu of cpus.all) {
      hartFromQemu(this.#harts[cpu.id]!, release, cpu, this.#halted[cpu.id]!);
      cpu.state.timerTime = now;
      keepHart(cpu, release, this.#harts[cpu.id]!);
    }
    const msip = Uint32Array.from(this.#harts, ({ mip }) => ((mip & MIP.MSIP) === 0n ? 0 : 1));
    irqchip.aclint.set({ numHarts: cpus.all.length, timecmp: mtimer.timecmp, msip });
    this.#raiseLines();
    this.#parts.rtcLoaded(this.#clock, now * NS_PER_TICK);
    const shift = this.#offset * NS_PER_TICK;
    if (serial.state.fifoTimeoutTimer !== TIMER_OFF && shift !== 0n) {
      serial.state.fifoTimeoutTimer = clampNs(serial.state.fifoTimeoutTimer + shift);
      serial.update();
    }
  }

  /**
   * A high line makes its source pending here as soon as the source is not being served; in QEMU only when
   * the line is raised.
   */
  #raiseLines(): void {
    const { plic } = this.#parts.irqchip;
    const state = plic.get();
    for (const i of state.pending.keys()) state.pending[i]! |= state.level[i]! & ~state.claimed[i]!;
    plic.set(state);
  }
}

function clampNs(ns: bigint): bigint {
  return ns < 0n ? 0n : BigInt.asUintN(64, ns);
}
