// A split virtqueue (virtio 1.3 §2.7), the device side: takes chains from the available ring, writes lengths
// to the used ring, decides when to interrupt. Running harts write the rings, and drivers may be broken or
// hostile: every index and address is checked, every descriptor is read once, walks are bounded, and a
// mistake puts the device into DEVICE_NEEDS_RESET. Left out: the packed ring.
import { hex } from "../../base/hex.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import {
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTQUEUE_MAX_SIZE,
} from "./virtio-feature-bits.ts";

const VIRTQ_DESC_F_NEXT = 1;
const VIRTQ_DESC_F_WRITE = 2;
const VIRTQ_DESC_F_INDIRECT = 4;
const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
const DESC_SIZE = 16;
const USED_ELEM_SIZE = 8;

/** A piece of guest RAM: not empty, inside one RAM block. */
export interface Segment {
  readonly guestPhys: number;
  readonly length: number;
}

/** A request: the driver's data (`readable`) and the space for the answer (`writable`), in order. */
export interface Chain {
  /** The descriptor index that goes into the used ring. */
  readonly head: number;
  readonly readable: readonly Segment[];
  readonly writable: readonly Segment[];
}

/** The migrated part of a queue. Addresses are guest-physical; `desc` is 0 if the queue is not set up. */
export interface QueueState {
  num: number;
  align: number;
  desc: bigint;
  lastAvailIdx: number;
}
export interface RingState {
  avail: bigint;
  used: bigint;
}

/** What a queue needs from its device. */
export interface QueueOwner {
  /** True from a mistake until the reset: no more chains are popped. */
  readonly broken: boolean;
  has(featureBit: number): boolean;
  needsReset(reason: string): void;
}

/** The total length of the segments in bytes. */
export function segmentsLength(segments: readonly Segment[]): number {
  return segments.reduce((sum, s) => sum + s.length, 0);
}

/** The size of each ring part of a queue of `num` entries, including the event index. */
export function ringSizes(num: number): { desc: number; avail: number; used: number } {
  return { desc: DESC_SIZE * num, avail: 6 + 2 * num, used: 6 + USED_ELEM_SIZE * num };
}

/** The ring addresses of a legacy queue (§2.7.2): one area, the used ring at the next multiple of `align`. */
export function legacyRings(queue: QueueState): RingState {
  const avail = queue.desc + BigInt(DESC_SIZE * queue.num);
  const align = BigInt(queue.align);
  const used = BigInt.asUintN(64, (avail + BigInt(ringSizes(queue.num).avail) + align - 1n) & -align);
  return queue.desc === 0n ? { avail: 0n, used: 0n } : { avail: BigInt.asUintN(64, avail), used };
}

export class Virtqueue {
  readonly index: number;
  readonly state: QueueState;
  readonly rings: RingState;
  /** False until a modern driver sets QueueReady; set by the transport. */
  enabled = false;
  /** Changes when the queue is reset: chains popped before must not be pushed after. */
  epoch = 0;
  readonly #memory: GuestMemory;
  readonly #owner: QueueOwner;
  readonly #scratch = new Uint8Array(DESC_SIZE);
  readonly #descView = new DataView(this.#scratch.buffer);
  // Caches of `state` and of the last values written to guest memory; rebuilt by `attach`.
  #desc = 0;
  #avail = 0;
  #used = 0;
  #usedIdx = 0;
  #signalledUsed: number | undefined;

  constructor(index: number, memory: GuestMemory, owner: QueueOwner, state: QueueState, rings: RingState) {
    this.index = index;
    this.#memory = memory;
    this.#owner = owner;
    this.state = state;
    this.rings = rings;
  }

  get ready(): boolean {
    return this.enabled && this.#desc !== 0 && !this.#owner.broken;
  }
  /** Chains popped and not yet pushed. */
  get inUse(): number {
    return (this.state.lastAvailIdx - this.#usedIdx) & 0xffff;
  }

  /**
   * Call after the ring addresses in `state` changed. `usedIdx` is the device's position in the used ring (0
   * for a new queue).
   */
  attach(usedIdx = 0): void {
    this.#desc = Number(this.state.desc);
    this.#avail = Number(this.rings.avail);
    this.#used = Number(this.rings.used);
    this.#usedIdx = usedIdx;
    this.#signalledUsed = undefined;
  }

  /** Removes the rings and sets the size to `num`. Keeps the alignment, which legacy drivers choose first. */
  reset(num: number): void {
    Object.assign(this.state, { num, desc: 0n, lastAvailIdx: 0 });
    Object.assign(this.rings, { avail: 0n, used: 0n });
    this.enabled = false;
    this.epoch++;
    this.attach();
  }

  /** Reports what is wrong with the size or the ring addresses. */
  problem(): string | undefined {
    return queueProblem(`queue ${this.index}`, this.#memory, this.state, this.rings);
  }

  /**
   * The next request. Returns undefined if there is none; then notifications are enabled and no request was
   * added meanwhile.
   */
  pop(): Chain | undefined {
    if (!this.ready) return undefined;
    const { state } = this;
    let pending = this.#pending();
    if (pending === 0 && this.#owner.has(VIRTIO_RING_F_EVENT_IDX)) {
      // §2.7.10: publish avail_event, then check again, or a notification in between is lost.
      this.#memory.writeU16(this.#used + 4 + USED_ELEM_SIZE * state.num, state.lastAvailIdx);
      this.#memory.barrier();
      pending = this.#pending();
    }
    if (pending === 0) return undefined;
    if (pending > state.num) return this.#broken(this.#aheadBy(pending));
    if (this.inUse >= state.num) return this.#broken(`more than ${state.num} requests in flight`);
    // The index must be read before the entry that it covers.
    this.#memory.barrier();
    const head = this.#memory.readU16(this.#avail + 4 + 2 * (state.lastAvailIdx & (state.num - 1)));
    if (head === undefined || head >= state.num) return this.#broken(`descriptor ${head} of ${state.num}`);
    const chain = this.#walk(head);
    if (chain !== undefined) state.lastAvailIdx = (state.lastAvailIdx + 1) & 0xffff;
    return chain;
  }

  /** Returns the last `count` popped chains to the available ring. */
  unpop(count: number): void {
    this.state.lastAvailIdx = (this.state.lastAvailIdx - count) & 0xffff;
  }

  /** Writes the used entry `ahead` places after the published ones; the driver sees it after `publish`. */
  fill(chain: { head: number }, written: number, ahead = 0): void {
    const slot = (this.#usedIdx + ahead) & (this.state.num - 1);
    const at = this.#used + 4 + USED_ELEM_SIZE * slot;
    this.#memory.writeU32(at, chain.head);
    this.#memory.writeU32(at + 4, written);
  }

  /** Makes `count` filled entries visible to the driver. */
  publish(count: number): void {
    // The entries must be visible before the index that covers them.
    this.#memory.barrier();
    this.#usedIdx = (this.#usedIdx + count) & 0xffff;
    this.#memory.writeU16(this.#used + 2, this.#usedIdx);
    if (this.#signalledUsed !== undefined && ((this.#usedIdx - this.#signalledUsed) & 0xffff) < count) {
      this.#signalledUsed = undefined;
    }
  }

  /** Returns one request, with `written` bytes in its writable part. */
  push(chain: { head: number }, written: number): void {
    this.fill(chain, written);
    this.publish(1);
  }

  /** True if the driver wants an interrupt for the entries published since the last call. */
  shouldInterrupt(): boolean {
    // The used index must be visible before the driver's event index or flags are read (§2.7.8, §2.7.7.2).
    this.#memory.barrier();
    if (this.#owner.has(VIRTIO_F_NOTIFY_ON_EMPTY) && this.inUse === 0 && this.#pending() === 0) return true;
    if (!this.#owner.has(VIRTIO_RING_F_EVENT_IDX)) {
      return ((this.#memory.readU16(this.#avail) ?? 0) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    }
    const before = this.#signalledUsed;
    this.#signalledUsed = this.#usedIdx;
    const event = this.#memory.readU16(this.#avail + 4 + 2 * this.state.num) ?? 0;
    if (before === undefined) return true;
    return ((this.#usedIdx - event - 1) & 0xffff) < ((this.#usedIdx - before) & 0xffff);
  }

  /** Reports an impossible change of the indexes by the driver. */
  indexProblem(): string | undefined {
    if (!this.ready) return undefined;
    const pending = this.#pending();
    if (pending > this.state.num) return `queue ${this.index}: ${this.#aheadBy(pending)}`;
    const used = this.#memory.readU16(this.#used + 2) ?? 0;
    if (used === this.#usedIdx) return undefined;
    return `queue ${this.index}: the driver changed the used index from ${hex(this.#usedIdx)} to ${hex(used)}`;
  }

  #aheadBy(pending: number): string {
    const { num, lastAvailIdx } = this.state;
    const avail = (lastAvailIdx + pending) & 0xffff;
    return `avail index ${hex(avail)} is more than ${num} ahead of last_avail_idx ${hex(lastAvailIdx)}`;
  }

  #pending(): number {
    return ((this.#memory.readU16(this.#avail + 2) ?? 0) - this.state.lastAvailIdx) & 0xffff;
  }

  #broken(what: string): undefined {
    this.#owner.needsReset(`queue ${this.index}: ${what}`);
    return undefined;
  }

  /** §2.7.5: follows the chain from `head`, and an indirect table (§2.7.5.3) at its end. */
  #walk(head: number): Chain | undefined {
    const readable: Segment[] = [];
    const writable: Segment[] = [];
    let table = this.#desc;
    let count = this.state.num;
    let indirect = false;
    let left = count;
    for (let at = head; ; ) {
      if (!this.#memory.read(table + DESC_SIZE * at, this.#scratch)) {
        return this.#broken(`descriptor ${at} at ${hex(table + DESC_SIZE * at)} is not in RAM`);
      }
      const view = this.#descView;
      // Beyond 2^53 it is rounded, and in no RAM all the same.
      const guestPhys = view.getUint32(0, true) + view.getUint32(4, true) * 0x1_0000_0000;
      const length = view.getUint32(8, true);
      const flags = view.getUint16(12, true);
      const next = view.getUint16(14, true);
      if (flags & VIRTQ_DESC_F_INDIRECT) {
        if (!this.#owner.has(VIRTIO_RING_F_INDIRECT_DESC))
          return this.#broken(`descriptor ${at} is indirect`);
        if (indirect || flags & VIRTQ_DESC_F_NEXT)
          return this.#broken(`descriptor ${at} nests indirect tables`);
        count = length / DESC_SIZE;
        if (count < 1 || count > VIRTQUEUE_MAX_SIZE || !Number.isInteger(count)) {
          return this.#broken(`indirect table of ${length} bytes`);
        }
        indirect = true;
        table = guestPhys;
        left = count;
        at = 0;
        continue;
      }
      const write = (flags & VIRTQ_DESC_F_WRITE) !== 0;
      if (!write && writable.length > 0)
        return this.#broken(`readable descriptor ${at} after a writable one`);
      if (length > 0) {
        if (!this.#memory.contains(guestPhys, length, write)) {
          return this.#broken(`descriptor ${at}: ${hex(guestPhys)}+${hex(length)} is not in RAM`);
        }
        (write ? writable : readable).push({ guestPhys, length });
      }
      if (!(flags & VIRTQ_DESC_F_NEXT)) return { head, readable, writable };
      if (--left <= 0) return this.#broken(`descriptor chain from ${head} loops`);
      if (next >= count) return this.#broken(`descriptor ${at} continues at ${next}, the table has ${count}`);
      at = next;
    }
  }
}

/** Reports what is wrong with a queue that the driver or a stream set up. Sizes are powers of 2 (§2.7). */
export function queueProblem(
  name: string,
  memory: GuestMemory,
  state: QueueState,
  rings: RingState,
): string | undefined {
  const { num } = state;
  if (num < 1 || num > VIRTQUEUE_MAX_SIZE || (num & (num - 1)) !== 0) {
    return `${name}: size ${num} is not a power of two of at most ${VIRTQUEUE_MAX_SIZE}`;
  }
  const sizes = ringSizes(num);
  const parts = [
    ["descriptor table", state.desc, sizes.desc, 16n, false],
    ["available ring", rings.avail, sizes.avail, 2n, false],
    ["used ring", rings.used, sizes.used, 4n, true],
  ] as const;
  for (const [part, address, size, align, write] of parts) {
    if (address % align !== 0n) return `${name}: ${part} at ${hex(address)} is not aligned to ${align}`;
    if (!memory.contains(Number(address), size, write)) {
      return `${name}: ${part} at ${hex(address)}+${hex(size)} is not in RAM`;
    }
  }
  return undefined;
}

/** Reports what is wrong with a chain that came with a stream. */
export function chainProblem(memory: GuestMemory, chain: Chain): string | undefined {
  const bad =
    chain.readable.find((s) => !memory.contains(s.guestPhys, s.length)) ??
    chain.writable.find((s) => !memory.contains(s.guestPhys, s.length, true));
  if (bad === undefined) return undefined;
  return `request ${chain.head}: ${hex(bad.guestPhys)}+${hex(bad.length)} is not in RAM`;
}

/**
 * Copies from `segments`, starting at byte `offset`. Returns the bytes copied: fewer than requested at the
 * end.
 */
export function readSegments(
  memory: GuestMemory,
  segments: readonly Segment[],
  target: Uint8Array,
  offset = 0,
): number {
  return eachPiece(segments, offset, target.length, (at, from, to) =>
    memory.read(at, target.subarray(from, to)),
  );
}

/** Copies `source` to `segments`, starting at byte `offset`. Returns the bytes copied. */
export function writeSegments(
  memory: GuestMemory,
  segments: readonly Segment[],
  source: Uint8Array,
  offset = 0,
): number {
  return eachPiece(segments, offset, source.length, (at, from, to) =>
    memory.write(at, source.subarray(from, to)),
  );
}

function eachPiece(
  segments: readonly Segment[],
  offset: number,
  length: number,
  copy: (guestPhys: number, from: number, to: number) => void,
): number {
  let skip = offset;
  let done = 0;
  for (const { guestPhys, length: size } of segments) {
    if (done >= length) break;
    if (skip >= size) {
      skip -= size;
      continue;
    }
    const n = Math.min(size - skip, length - done);
    copy(guestPhys + skip, done, done + n);
    skip = 0;
    done += n;
  }
  return done;
}
