// One cell of the matrix: the guest boots on the first side of a route, works, moves along the route, and is
// judged by its output.
import { setTimeout as sleep } from "node:timers/promises";
import { truncateSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { QemuRelease } from "../../tools/unpacked.ts";
import { directory } from "../support/cases.ts";
import { until } from "../support/wait.ts";
import { Echo } from "./echo.ts";
import type { Guest } from "./guest.ts";
import { hop, type Transport } from "./hop.ts";
import { type Journal, jumpMs, judge, type Leg, readJournal, stayedEnough } from "./journal.ts";
import { type Hardware, type Kind, Side } from "./sides.ts";

const DISK_BYTES = 4 << 20;
const BOOT_MS = 180_000;
/** Reports during which the kernel may still log its boot. */
const SETTLE_REPORTS = 6;
/** Guest time to spend on each side, and the host time limit for it. */
const STAY_MS = 2000;
const STAY_LIMIT_MS = 25_000;
const VERDICT_MS = 60_000;
const LOOK_MS = 100;

export interface Cell {
  readonly release: QemuRelease;
  readonly route: readonly Kind[];
  readonly harts: number;
  readonly busy: boolean;
  /** One per move. */
  readonly transports: readonly Transport[];
  readonly legacy: boolean;
  /** A planted fault: advances the guest's clock in the file of a `file` move. */
  readonly plantedJumpNs?: bigint;
}

export interface Outcome {
  readonly complaints: readonly string[];
  readonly facts: string;
  /** Everything that the guest printed. */
  readonly log: string;
}

export function nameOf(cell: Cell): string {
  const { release, route, harts, busy, transports, legacy } = cell;
  const short = (kind: Kind): string => (kind === "qemu" ? "Q" : "W");
  const path = route.map((kind, i) => (i === 0 ? "" : ` ${transports[i - 1]} `) + short(kind)).join("");
  return `${release} ${path}, ${harts} ${harts === 1 ? "hart" : "harts"}, ${busy ? "busy" : "idle"}, ${legacy ? "legacy" : "modern"}`;
}

class Journey {
  readonly #cell: Cell;
  readonly #guest: Guest;
  readonly #folder: string;
  readonly #hardware: Hardware;
  readonly sides: Side[] = [];
  readonly #stoppedAt: (number | undefined)[] = [];
  readonly #resumedAt: (number | undefined)[] = [];
  readonly downtimes: number[] = [];

  constructor(cell: Cell, guest: Guest, folder: string, wire: string) {
    this.#cell = cell;
    this.#guest = guest;
    this.#folder = folder;
    const disk = join(folder, "disk");
    writeFileSync(disk, "");
    truncateSync(disk, DISK_BYTES);
    const { release, harts, legacy } = cell;
    this.#hardware = { release, harts, disk, wire, legacy, firmware: guest.firmware };
  }

  legs(): Leg[] {
    return this.sides.map(({ name, chunks, words }, i) => ({
      name,
      chunks,
      words,
      resumedAt: this.#resumedAt[i],
      stoppedAt: this.#stoppedAt[i],
    }));
  }

  get #last(): Side {
    return this.sides.at(-1) as Side;
  }

  /** Polls the output until `shows` accepts it. */
  async #see(
    limitMs: number,
    what: string,
    found: (journal: Journal, leg: number) => boolean,
  ): Promise<void> {
    const end = Date.now() + limitMs;
    for (;;) {
      const journal = readJournal(this.legs());
      const [wrong] = journal.complaints;
      if (wrong !== undefined) throw new Error(wrong);
      if (found(journal, this.sides.length - 1)) return;
      const last = this.#last;
      if (last.ended) throw new Error(`${last.name} has ended: ${last.complaints()}`);
      if (Date.now() > end) throw new Error(`${last.name}: ${what}: not within ${limitMs / 1000} s`);
      await sleep(LOOK_MS);
    }
  }

  async #boot(kind: Kind): Promise<void> {
    const side = await Side.start(kind, this.#hardware, this.#guest, this.#folder);
    this.sides.push(side);
    await until(BOOT_MS, "it starts", () =>
      side.qmp.execute("cont").then(
        () => true,
        () => undefined,
      ),
    );
    await this.#see(BOOT_MS, "the guest boots", ({ reports }) => reports.length >= SETTLE_REPORTS);
    if (!this.#cell.busy) return;
    side.type("b");
    await this.#see(STAY_LIMIT_MS, "the guest gets busy", ({ reports }, leg) =>
      stayedEnough(
        { reports: reports.filter(({ busy }) => busy), kernel: [], passed: false, complaints: [] },
        leg,
        500,
      ),
    );
  }

  async #move(kind: Kind, transport: Transport): Promise<void> {
    const from = this.#last;
    const to = await Side.start(kind, this.#hardware, undefined, this.#folder);
    try {
      const { release, plantedJumpNs } = this.#cell;
      this.downtimes.push(await hop(from, to, transport, release, this.#folder, plantedJumpNs));
    } finally {
      this.#stoppedAt.push(from.eventTime("STOP"));
      this.sides.push(to);
      this.#resumedAt[this.sides.length - 1] = to.eventTime("RESUME");
    }
    await from.end();
    await this.#see(STAY_LIMIT_MS, "the guest's clock, timers and work continue", (journal, leg) =>
      stayedEnough(journal, leg, STAY_MS),
    );
  }

  async travel(): Promise<void> {
    const { route, transports } = this.#cell;
    for (const [i, kind] of route.entries()) {
      if (i === 0) await this.#boot(kind);
      else await this.#move(kind, transports[i - 1] as Transport);
    }
    this.#last.type("q");
    await this.#see(VERDICT_MS, "the guest's verdict", ({ passed }) => passed);
  }
}

/** How often a guest with a VM generation ID arrives in Wherry from a stream that could be loaded again. */
function restoresOf({ route, transports }: Cell): number {
  const again: readonly Transport[] = ["exec", "file", "mapped-ram"];
  const arrives = (i: number): boolean => route[i + 1] === "wherry" && again.includes(transports[i]!);
  return route[0] === "wherry" ? transports.filter((_, i) => arrives(i)).length : 0;
}

/** Never rejects because of the guest or a monitor: those are complaints. */
export async function runCell(cell: Cell, guest: Guest): Promise<Outcome> {
  const folder = await mkdtemp(join(directory, "cell-"));
  const echo = await Echo.start();
  const journey = new Journey(cell, guest, folder, echo.address);
  const complaints: string[] = [];
  try {
    await journey.travel();
  } catch (error) {
    complaints.push((error as Error).message);
    for (const { name, complaints: said } of journey.sides)
      if (said() !== "" && !complaints.join().includes(said())) complaints.push(`${name} says: ${said()}`);
  } finally {
    for (const side of journey.sides) await side.end();
    echo.close();
    await rm(folder, { recursive: true, force: true });
  }
  const legs = journey.legs();
  const journal = readJournal(legs);
  const verdict = judge(legs, journal, restoresOf(cell));
  for (const each of verdict.complaints) if (!complaints.includes(each)) complaints.push(each);
  const jumps = legs
    .slice(1)
    .map((_, i) => `${Math.round(jumpMs(legs, journal.reports, i + 1) ?? Number.NaN)}`);
  const lost = journal.reports.at(-1)?.lost ?? 0;
  const log = legs
    .map(({ name, chunks }) => `=== ${name}\n${chunks.map(({ text }) => text).join("")}`)
    .join("\n");
  return {
    complaints,
    facts:
      `downtime ${journey.downtimes.join(", ")} ms; clock off by ${jumps.join(", ")} ms` +
      (lost > 0 ? `; ${lost} exception flags lost` : "") +
      (verdict.forgiven > 0 ? `; ${verdict.forgiven} kernel lines of a slow host` : ""),
    log,
  };
}
