// The memory-slot table in shared memory (KVM's memslots). It has two banks: a change is written to the idle
// bank, then every vCPU is requested to switch (UPDATE_HGATP), so that no hart ever reads a half-written
// table.
import { CodePages, PAGE_SIZE } from "../../memory/guest-memory.ts";
import {
  codeBitmapSize,
  MAX_SLOTS,
  SLOT_CODE_OFFSET,
  SLOT_DIRTY_OFFSET,
  SLOT_ENTRIES,
  SLOT_ENTRY_SIZE,
  SLOT_FLAG_READONLY,
  SLOT_FLAGS,
  SLOT_GPA,
  SLOT_HOST_OFFSET,
  SLOT_SIZE,
  VM_CODE_STALE,
  VM_CURRENT_BANK,
  VM_SLOT_BANK_0,
  VM_SLOT_BANK_1,
} from "./memory-map.ts";

export interface Slot {
  readonly slot: number;
  readonly guestPhys: number;
  readonly size: number;
  readonly hostOffset: number;
  readonly dirtyOffset: number;
  /** 0: the slot has no code-page bitmap. */
  readonly codeOffset: number;
  readonly readonly: boolean;
}

export class SlotTable {
  readonly #view: DataView<SharedArrayBuffer>;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #slots = new Map<number, Slot>();

  constructor(buffer: SharedArrayBuffer) {
    this.#view = new DataView(buffer);
    this.#words = new Int32Array(buffer);
    Atomics.store(this.#words, VM_CURRENT_BANK >>> 2, VM_SLOT_BANK_0);
  }

  get(slot: number): Slot | undefined {
    return this.#slots.get(slot);
  }

  /** Add, change or (size 0) remove a slot and publish the new table in the other bank. */
  set(slot: Slot): void {
    if (
      slot.guestPhys % PAGE_SIZE !== 0 ||
      slot.size % PAGE_SIZE !== 0 ||
      slot.hostOffset % PAGE_SIZE !== 0
    ) {
      throw new RangeError(
        `memory slot ${slot.slot}: address, size and offset must be multiples of ${PAGE_SIZE}`,
      );
    }
    for (const other of this.#slots.values()) {
      if (
        other.slot !== slot.slot &&
        slot.guestPhys < other.guestPhys + other.size &&
        other.guestPhys < slot.guestPhys + slot.size
      ) {
        throw new RangeError(`memory slot ${slot.slot} overlaps slot ${other.slot}`);
      }
    }
    if (slot.size === 0) this.#slots.delete(slot.slot);
    else {
      const more = this.#slots.has(slot.slot) ? 0 : 1;
      if (this.#slots.size + more > MAX_SLOTS) throw new RangeError(`more than ${MAX_SLOTS} memory slots`);
      this.#slots.set(slot.slot, slot);
    }
    const current = Atomics.load(this.#words, VM_CURRENT_BANK >>> 2);
    const bank = current === VM_SLOT_BANK_0 ? VM_SLOT_BANK_1 : VM_SLOT_BANK_0;
    let entry = bank + SLOT_ENTRIES;
    for (const s of this.#slots.values()) {
      this.#view.setBigUint64(entry + SLOT_GPA, BigInt(s.guestPhys), true);
      this.#view.setBigUint64(entry + SLOT_SIZE, BigInt(s.size), true);
      this.#view.setUint32(entry + SLOT_HOST_OFFSET, s.hostOffset, true);
      this.#view.setUint32(entry + SLOT_FLAGS, s.readonly ? SLOT_FLAG_READONLY : 0, true);
      this.#view.setUint32(entry + SLOT_DIRTY_OFFSET, s.dirtyOffset, true);
      this.#view.setUint32(entry + SLOT_CODE_OFFSET, s.codeOffset, true);
      entry += SLOT_ENTRY_SIZE;
    }
    this.#view.setUint32(bank, this.#slots.size, true);
    Atomics.store(this.#words, VM_CURRENT_BANK >>> 2, bank);
  }
}

/**
 * Guest memory as a vCPU thread accesses it outside the guest, by value; writes mark pages dirty and their
 * code stale. It uses the current bank, not the hart's own: while the hart is READING_SHADOW_PAGE_TABLES,
 * either the thread that removes a slot waits, or the slot is already gone here.
 */
export class SlotMemory {
  readonly #view: DataView<SharedArrayBuffer>;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #bytes: Uint8Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer) {
    this.#view = new DataView(buffer);
    this.#words = new Int32Array(buffer);
    this.#bytes = new Uint8Array(buffer);
  }

  #entry(guestPhys: number, length: number): number | undefined {
    const bank = Atomics.load(this.#words, VM_CURRENT_BANK >>> 2);
    const count = this.#view.getUint32(bank, true);
    for (let i = 0; i < count; i++) {
      const entry = bank + SLOT_ENTRIES + i * SLOT_ENTRY_SIZE;
      const gpa = Number(this.#view.getBigUint64(entry + SLOT_GPA, true));
      const size = Number(this.#view.getBigUint64(entry + SLOT_SIZE, true));
      if (guestPhys >= gpa && guestPhys + length <= gpa + size) return entry;
    }
    return undefined;
  }

  #hostOffset(entry: number, guestPhys: number): number {
    const gpa = Number(this.#view.getBigUint64(entry + SLOT_GPA, true));
    return this.#view.getUint32(entry + SLOT_HOST_OFFSET, true) + (guestPhys - gpa);
  }

  /** Whether the range is entirely in one slot, which is writable if `write` is set. */
  has(guestPhys: number, length: number, write = false): boolean {
    const entry = this.#entry(guestPhys, length);
    return entry !== undefined && !(write && this.#isReadonly(entry));
  }

  #isReadonly(entry: number): boolean {
    return (this.#view.getUint32(entry + SLOT_FLAGS, true) & SLOT_FLAG_READONLY) !== 0;
  }

  /** A copy of guest memory, or undefined if the range is not entirely in one slot. */
  read(guestPhys: number, length: number): Uint8Array<ArrayBuffer> | undefined {
    const entry = this.#entry(guestPhys, length);
    if (entry === undefined) return undefined;
    const at = this.#hostOffset(entry, guestPhys);
    return this.#bytes.slice(at, at + length) as unknown as Uint8Array<ArrayBuffer>;
  }

  /** False (and nothing is written) if the range is not entirely in one writable slot. */
  write(guestPhys: number, source: Uint8Array): boolean {
    const entry = this.#entry(guestPhys, source.length);
    if (entry === undefined || this.#isReadonly(entry)) return false;
    this.#bytes.set(source, this.#hostOffset(entry, guestPhys));
    const gpa = Number(this.#view.getBigUint64(entry + SLOT_GPA, true));
    const bitmap = this.#view.getUint32(entry + SLOT_DIRTY_OFFSET, true) >>> 2;
    const last = Math.floor((guestPhys - gpa + source.length - 1) / PAGE_SIZE);
    for (let page = Math.floor((guestPhys - gpa) / PAGE_SIZE); page <= last; page++) {
      Atomics.or(this.#words, bitmap + (page >>> 5), 1 << (page & 31));
    }
    const code = this.#view.getUint32(entry + SLOT_CODE_OFFSET, true);
    if (code !== 0) {
      const size = codeBitmapSize(Number(this.#view.getBigUint64(entry + SLOT_SIZE, true)));
      new CodePages(this.#words.buffer, code, size, VM_CODE_STALE).written(guestPhys - gpa, source.length);
    }
    return true;
  }
}

/**
 * The code pages of all slots, by host address: which pages have translations, and which of them have been
 * written to.
 */
export class CodePageSet {
  readonly #view: DataView<SharedArrayBuffer>;
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer) {
    this.#view = new DataView(buffer);
    this.#words = new Int32Array(buffer);
  }

  /** Word index of a page's mark, and its bit. */
  #mark(page: number): { word: number; bit: number } | undefined {
    for (const { hostOffset, size, codeOffset } of this.#slots()) {
      if (page < hostOffset || page >= hostOffset + size) continue;
      const number = (page - hostOffset) / PAGE_SIZE;
      return { word: (codeOffset >>> 2) + (number >>> 5), bit: 1 << (number & 31) };
    }
    return undefined;
  }

  *#slots(): Generator<{ hostOffset: number; size: number; codeOffset: number }> {
    const bank = Atomics.load(this.#words, VM_CURRENT_BANK >>> 2);
    const count = this.#view.getUint32(bank, true);
    for (let i = 0; i < count; i++) {
      const entry = bank + SLOT_ENTRIES + i * SLOT_ENTRY_SIZE;
      const codeOffset = this.#view.getUint32(entry + SLOT_CODE_OFFSET, true);
      if (codeOffset === 0) continue;
      const hostOffset = this.#view.getUint32(entry + SLOT_HOST_OFFSET, true);
      yield { hostOffset, size: Number(this.#view.getBigUint64(entry + SLOT_SIZE, true)), codeOffset };
    }
  }

  /** Whether the page can be marked: it belongs to a slot that has marks. */
  has(page: number): boolean {
    return this.#mark(page) !== undefined;
  }
  isMarked(page: number): boolean {
    const mark = this.#mark(page);
    return mark !== undefined && (Atomics.load(this.#words, mark.word) & mark.bit) !== 0;
  }
  mark(page: number): void {
    const mark = this.#mark(page);
    if (mark !== undefined) Atomics.or(this.#words, mark.word, mark.bit);
  }

  /** Remove the marks of all pages that were written to while they were code pages. */
  takeStale(take: (page: number) => void): void {
    for (const { hostOffset, size, codeOffset } of this.#slots()) {
      const bytes = codeBitmapSize(size);
      const stale = (codeOffset + bytes) >>> 2;
      for (let i = 0; i < bytes / 4; i++) {
        if (Atomics.load(this.#words, stale + i) === 0) continue;
        const bits = Atomics.exchange(this.#words, stale + i, 0);
        for (let b = 0; b < 32; b++) {
          if ((bits & (1 << b)) !== 0) take(hostOffset + (i * 32 + b) * PAGE_SIZE);
        }
      }
    }
  }
}
