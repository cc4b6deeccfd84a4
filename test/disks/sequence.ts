// A random sequence of a guest's requests to a disk, and what the disk may then have. Each write has a byte
// of its own, so that a sector tells which write it is from.
import type { Random } from "../support/random.ts";

export const SECTOR = 512;
const ANYTHING = -1;

export interface Step {
  readonly kind: "write" | "zero" | "discard" | "flush" | "resize";
  /** In sectors; for a resize, `length` is the new size. */
  readonly first: number;
  readonly length: number;
  readonly value: number;
  readonly mayUnmap: boolean;
  /** Runs while the one before does, which it does not touch. */
  readonly joins: boolean;
}

/** What does the requests. */
export interface Disk {
  write(offset: number, data: Uint8Array): Promise<void>;
  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void>;
  discard(offset: number, length: number): Promise<void>;
  flush(): Promise<void>;
  resize?(sizeBytes: number): Promise<void>;
}

/** The steps, and the disk's size after them. */
export function sequence(
  random: Random,
  options: {
    readonly sectors: number;
    readonly clusterSectors: number;
    readonly steps: number;
    readonly resizes: boolean;
  },
): { readonly steps: Step[]; readonly sectors: number } {
  const { clusterSectors } = options;
  let { sectors } = options;
  const steps: Step[] = [];
  let next = 0;
  for (let i = 0; i < options.steps; i++) {
    const kind = random.weighted([
      [14, "write"],
      [3, "zero"],
      [3, "discard"],
      [3, "flush"],
      [options.resizes ? 1 : 0, "resize"],
    ] as const);
    if (kind === "resize") {
      const length = Math.max(1, sectors + random.int(20 * clusterSectors) - random.int(10 * clusterSectors));
      steps.push({ kind, first: 0, length, value: 0, mayUnmap: true, joins: false });
      sectors = length;
      continue;
    }
    const joins = random.oneIn(2) && next < sectors && steps.at(-1)?.kind === kind && kind !== "flush";
    const first = joins ? next : random.int(sectors);
    const length = Math.min(sectors - first, 1 + random.int(random.pick([1, 4, 3 * clusterSectors])));
    next = first + length;
    steps.push({ kind, first, length, value: 1 + (i % 255), mayUnmap: random.oneIn(2), joins });
  }
  return { steps, sectors };
}

/** Runs the steps; `began` and `ended` are told each step's number. */
export async function play(
  disk: Disk,
  steps: readonly Step[],
  began: (step: number) => void = () => {},
  ended: (step: number) => void = () => {},
): Promise<void> {
  let running: Promise<void>[] = [];
  for (const [i, step] of steps.entries()) {
    if (!step.joins) {
      await Promise.all(running);
      running = [];
    }
    began(i);
    running.push(request(disk, step).then(() => ended(i)));
  }
  await Promise.all(running);
}

function request(disk: Disk, { kind, first, length, value, mayUnmap }: Step): Promise<void> {
  const [offset, bytes] = [first * SECTOR, length * SECTOR];
  if (kind === "write") return disk.write(offset, new Uint8Array(bytes).fill(value));
  if (kind === "zero") return disk.writeZeroes(offset, bytes, mayUnmap);
  if (kind === "discard") return disk.discard(offset, bytes);
  return kind === "flush" ? disk.flush() : (disk.resize?.(bytes) ?? Promise.resolve());
}

/**
 * The first sector that has what it must not have; undefined if there is none. `before`: the bytes of each
 * sector at the start. Steps from `begun` on had not begun, those before `flushed` are durable.
 */
export function wrongSector(
  found: Uint8Array,
  before: Uint8Array,
  steps: readonly Step[],
  { begun = steps.length, flushed = steps.length } = {},
): string | undefined {
  const sectors = found.length / SECTOR;
  // What a sector must have, or ANYTHING; and what it may have besides.
  const sure = new Int16Array(sectors);
  for (let sector = 0; sector < sectors; sector++) sure[sector] = before[sector * SECTOR] ?? 0;
  const others = new Map<number, Set<number>>();
  let size = before.length / SECTOR;
  for (const [i, { kind, first, length, value }] of steps.slice(0, begun).entries()) {
    const isSure = i < flushed;
    if (kind === "flush") continue;
    // Beyond the end: after a shrink anything, until it is there again.
    const [from, to] =
      kind === "resize" ? [Math.min(size, length), Math.max(size, length)] : [first, first + length];
    const found = kind === "write" ? value : 0;
    const isLost = kind === "discard" || (kind === "resize" && (length < size || !isSure));
    if (isLost || isSure) {
      sure.fill(isLost ? ANYTHING : found, from, to);
      if (others.size > 0) for (let sector = from; sector < to; sector++) others.delete(sector);
    } else {
      for (let sector = from; sector < Math.min(to, sectors); sector++) {
        const may = others.get(sector);
        if (may === undefined) others.set(sector, new Set([found]));
        else may.add(found);
      }
    }
    if (kind === "resize") size = length;
  }
  const words = new Uint32Array(found.buffer, found.byteOffset, found.length / 4);
  for (let sector = 0; sector < sectors; sector++) {
    const expected = sure[sector]!;
    if (expected === ANYTHING) continue;
    const value = found[sector * SECTOR]!;
    const may = others.get(sector);
    const word = (value * 0x0101_0101) >>> 0;
    let isAlike = value === expected || may?.has(value) === true;
    for (let i = 0; isAlike && i < SECTOR / 4; i++) isAlike = words[(sector * SECTOR) / 4 + i] === word;
    if (!isAlike) return `sector ${sector} has ${value}, expected ${[expected, ...(may ?? [])].join(" or ")}`;
  }
  return undefined;
}
