// Where a vCPU thread's time goes (--perf). The thread marks the ends of intervals: each mark charges the
// time since the last mark to an activity. While counting is off, it reads only one shared word. The cells
// lie in the hart's area; only its thread writes them, so any thread may read them while the hart runs.
import { ACTIVITIES, type Activity } from "../shared/vcpu-activities.ts";
import type { MonotonicNs } from "../../base/clock.ts";
import type { HartPerf, PerfControl, PerfReport } from "../../accelerator/perf-report.ts";
import { HotCode, hotPlaces } from "./hot-code.ts";
import {
  hartBase,
  HART_PERF,
  PERF_OWN_CELLS,
  TRANSLATION_STATS,
  VM_PERF,
  VM_TRANSLATION_STATS,
  VM_VCPU_COUNT,
} from "../shared/memory-map.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";

const INDEX = new Map<Activity, number>(ACTIVITIES.map((activity, i) => [activity, i]));
const indexOf = (activity: Activity): number => INDEX.get(activity) as number;

// Float64 cells from HART_PERF: the state of the thread, then count and ns of each activity.
const GENERATION = 0;
/** When the current interval started (host ns), and its activity. */
const SINCE = 1;
const CURRENT = 2;
const STARTED = 3;
/** CPU time of the thread, and how long it had been awake at that time. */
const CPU = 4;
const AWAKE_THEN = 5;
/** How long the thread was awake. */
const AWAKE = 6;
/** The engine's counters when counting started. */
const BASELINE = 7;
const CELLS = PERF_OWN_CELLS;
const CELL_COUNT = CELLS + 2 * ACTIVITIES.length;

/** The engine's own counters, u64 each. */
const ENGINE_COUNTERS = [SCRATCH.executed, SCRATCH.translated, SCRATCH.refills];

/** Number of places in a report. */
const HOT_PLACES = 32;

const CPU_UPDATE_NS = 20_000_000;

function cellsOf(buffer: SharedArrayBuffer, hart: number): Float64Array<SharedArrayBuffer> {
  return new Float64Array(buffer, hartBase(hart) + HART_PERF, CELL_COUNT);
}

function engineCounters(buffer: SharedArrayBuffer, hart: number): number[] {
  const wide = new BigUint64Array(buffer);
  return ENGINE_COUNTERS.map((at) => Number(Atomics.load(wide, (hartBase(hart) + at) >>> 3)));
}

/** The counters of one hart, on its own thread. */
export class VcpuPerf {
  readonly #cells: Float64Array<SharedArrayBuffer>;
  readonly #nowNs: MonotonicNs;
  readonly #threadCpuNs: (() => number) | undefined;
  readonly #cpuAtStart: number;
  readonly #hot: HotCode;
  #cpuLooked = 0;

  /** Counting starts from zero. */
  constructor(buffer: SharedArrayBuffer, hart: number, nowNs: MonotonicNs, threadCpuNs?: () => number) {
    const cells = cellsOf(buffer, hart);
    this.#cells = cells;
    this.#hot = new HotCode(buffer, hart);
    this.#nowNs = nowNs;
    this.#threadCpuNs = threadCpuNs;
    this.#cpuAtStart = threadCpuNs?.() ?? 0;
    cells.fill(0);
    cells[SINCE] = cells[STARTED] = nowNs();
    cells[CURRENT] = indexOf("other");
    cells.set(engineCounters(buffer, hart), BASELINE);
    cells[GENERATION] = perfGeneration(buffer);
  }

  get generation(): number {
    return this.#cells[GENERATION] as number;
  }

  count(activity: Activity): void {
    const at = CELLS + 2 * indexOf(activity);
    this.#cells[at] = (this.#cells[at] as number) + 1;
  }

  /** A slice has ended. */
  sliceEnded(pc: bigint): void {
    this.count("slice");
    this.#hot.sample(pc);
  }

  /** Charge the time since the last mark to `activity`; the next interval is `next`. */
  mark(activity: Activity, next: Activity = "other"): void {
    const cells = this.#cells;
    const now = this.#nowNs();
    const at = CELLS + 2 * indexOf(activity);
    const ns = now - (cells[SINCE] as number);
    cells[at] = (cells[at] as number) + 1;
    cells[at + 1] = (cells[at + 1] as number) + ns;
    if (activity !== "blocked" && activity !== "parked") cells[AWAKE] = (cells[AWAKE] as number) + ns;
    cells[SINCE] = now;
    cells[CURRENT] = indexOf(next);
    if (now - this.#cpuLooked >= CPU_UPDATE_NS && this.#threadCpuNs !== undefined) {
      this.#cpuLooked = now;
      cells[CPU] = this.#threadCpuNs() - this.#cpuAtStart;
      cells[AWAKE_THEN] = cells[AWAKE] as number;
    }
  }
}

/** 0 while counting is off; otherwise it changes each time that counting restarts. */
export function perfGeneration(buffer: SharedArrayBuffer): number {
  return Atomics.load(new Int32Array(buffer), VM_PERF >>> 2);
}

/** Counting as the VMM controls it. */
export class VmPerf implements PerfControl {
  readonly #buffer: SharedArrayBuffer;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #nowNs: MonotonicNs;
  readonly #wakeAll: () => void;
  #started = 0;
  #generations = 0;

  /** `wakeAll` makes every vCPU thread leave guest mode and its sleep. */
  constructor(buffer: SharedArrayBuffer, nowNs: MonotonicNs, wakeAll: () => void) {
    this.#buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.#nowNs = nowNs;
    this.#wakeAll = wakeAll;
  }

  get counting(): boolean {
    return perfGeneration(this.#buffer) !== 0;
  }

  /** Start counting from zero. */
  start(): void {
    this.#started = this.#nowNs();
    this.#generations++;
    Atomics.store(this.#words, VM_PERF >>> 2, this.#generations);
    this.#wakeAll();
  }

  stop(): void {
    Atomics.store(this.#words, VM_PERF >>> 2, 0);
    this.#wakeAll();
  }

  /** The counts so far; a hart that has not noticed `start` yet has none. */
  read(): PerfReport {
    const now = this.#nowNs();
    const harts = this.#words[VM_VCPU_COUNT >>> 2] as number;
    const wide = new BigUint64Array(this.#buffer);
    const stats = Object.entries(TRANSLATION_STATS).map(([name, offset]) => [
      name,
      Number(Atomics.load(wide, (VM_TRANSLATION_STATS + offset) >>> 3)),
    ]);
    return {
      elapsedNs: now - this.#started,
      harts: Array.from({ length: harts }, (_, hart) => this.#readHart(hart, now)),
      translation: Object.fromEntries(stats) as PerfReport["translation"],
    };
  }

  #readHart(hart: number, now: number): HartPerf {
    const cells = cellsOf(this.#buffer, hart);
    const cell = (index: number): number => cells[index] as number;
    const counts = cell(GENERATION) === this.#generations;
    // The current interval counts up to now.
    const running = counts ? now - cell(SINCE) : 0;
    const activities = ACTIVITIES.map((activity, i) => [
      activity,
      {
        count: counts ? cell(CELLS + 2 * i) : 0,
        ns: counts ? cell(CELLS + 2 * i + 1) + (cell(CURRENT) === i ? Math.max(0, running) : 0) : 0,
      },
    ]);
    const [instructions = 0, translated = 0, refills = 0] = engineCounters(this.#buffer, hart).map(
      (value, i) => (counts ? value - cell(BASELINE + i) : 0),
    );
    return {
      instructions,
      translated,
      refills,
      hot: counts ? hotPlaces(this.#buffer, hart, HOT_PLACES) : [],
      stealNs: cell(CPU) > 0 ? Math.max(0, cell(AWAKE_THEN) - cell(CPU)) : undefined,
      activities: Object.fromEntries(activities) as HartPerf["activities"],
    };
  }
}
