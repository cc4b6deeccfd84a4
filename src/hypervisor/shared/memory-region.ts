// Places named items in a range of the shared memory, so that no two overlap and none exceeds the range. All
// offsets are known when modules are loaded: generated code has them as constants.

interface Item {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

export class MemoryRegion {
  readonly name: string;
  readonly #items: Item[] = [];
  readonly #end: number;
  #next: number;

  /** The range from `start` to before `end`, in bytes. */
  constructor(name: string, start: number, end: number) {
    this.name = name;
    this.#next = start;
    this.#end = end;
  }

  /** The offset of the first byte after the last item. */
  get used(): number {
    return this.#next;
  }

  /**
   * Allocate `size` bytes after all items so far, at a multiple of `alignment`, a power of two; returns the
   * offset.
   */
  take(name: string, size: number, alignment = 8): number {
    return this.at(name, Math.ceil(this.#next / alignment) * alignment, size);
  }

  /**
   * Allocate `size` bytes at a given offset. Throws RangeError if they overlap an item or exceed the region.
   */
  at(name: string, start: number, size: number): number {
    const end = start + size;
    const other = this.#items.find((item) => start < item.end && item.start < end);
    if (other !== undefined) throw new RangeError(`${this.name}: ${name} overlaps ${other.name}`);
    if (start < 0 || end > this.#end) {
      throw new RangeError(
        `${this.name}: ${name} ends at 0x${end.toString(16)}, the region at 0x${this.#end.toString(16)}`,
      );
    }
    this.#items.push({ name, start, end });
    this.#next = Math.max(this.#next, end);
    return start;
  }

  u32(name: string): number {
    return this.take(name, 4, 4);
  }

  u64(name: string): number {
    return this.take(name, 8, 8);
  }
}
