// Memory-mapped I/O: the interface that devices implement. The VMM thread calls it, one access at a time.

/**
 * A device's register window. `offset` is in bytes from the window's start, `size` is 1, 2, 4 or 8. Values
 * are unsigned. An 8-byte access to a window without `wide` arrives as two 4-byte accesses, low half first. A
 * read of an offset without a register returns 0 and a write there is ignored: a guest's mistake never
 * throws.
 */
export interface MmioDevice {
  read(offset: number, size: 1 | 2 | 4): number;
  write(offset: number, size: 1 | 2 | 4, value: number): void;
}
