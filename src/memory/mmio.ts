// Memory-mapped I/O as devices implement it. The VMM thread calls it, one access at a time.

/**
 * A device's register window. `offset` is in bytes from the region's start, `size` is 1, 2, 4 or 8.
 * Values are unsigned. 8-byte accesses to a region without `wide` arrive as two 4-byte ones, low half first.
 * A read of nothing gives 0; a write to nothing is dropped: a guest's mistake never throws.
 */
export interface MmioDevice {
  read(offset: number, size: 1 | 2 | 4): number;
  write(offset: number, size: 1 | 2 | 4, value: number): void;
}
