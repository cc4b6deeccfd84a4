// The guest-physical address space outside RAM: maps address ranges to devices. Implements the accelerator's
// MmioHandler structurally. An access that no single range contains is an access fault, as on QEMU's virt
// board; the device decides what an offset without a register does.
import { hex } from "../base/hex.ts";
import { WherryError } from "../base/errors.ts";
import type { MmioDevice } from "./mmio.ts";

export class MemoryError extends WherryError {}

/** A device's address range, in guest-physical bytes. */
export interface MmioRange {
  readonly name: string;
  readonly guestPhys: number;
  readonly size: number;
  readonly device: MmioDevice;
}

export class AddressSpace {
  /** In ascending order, without overlaps. */
  readonly #ranges: MmioRange[] = [];
  #last: MmioRange | undefined;

  get ranges(): readonly MmioRange[] {
    return this.#ranges;
  }

  /** Throws MemoryError if the range is empty or overlaps another. */
  add(name: string, guestPhys: number, size: number, device: MmioDevice): void {
    const end = guestPhys + size;
    const other = this.#ranges.find((r) => guestPhys < r.guestPhys + r.size && r.guestPhys < end);
    if (size <= 0 || other !== undefined) {
      const why =
        other === undefined ? "it is empty" : `it overlaps ${other.name} at ${hex(other.guestPhys)}`;
      throw new MemoryError("memory.range", `cannot map ${name} at ${hex(guestPhys)}+${hex(size)}: ${why}`);
    }
    this.#ranges.push({ name, guestPhys, size, device });
    this.#ranges.sort((a, b) => a.guestPhys - b.guestPhys);
  }

  /** A little-endian value of `size` bytes (1, 2, 4 or 8); undefined if no device is there. */
  read(guestPhys: number, size: number): bigint | undefined {
    const range = this.#find(guestPhys, size);
    if (range === undefined) return undefined;
    const offset = guestPhys - range.guestPhys;
    if (size !== 8) return BigInt(range.device.read(offset, size as 1 | 2 | 4) >>> 0);
    const low = range.device.read(offset, 4) >>> 0;
    const high = range.device.read(offset + 4, 4) >>> 0;
    return (BigInt(high) << 32n) | BigInt(low);
  }

  /** Returns false if no device is there. */
  write(guestPhys: number, size: number, value: bigint): boolean {
    const range = this.#find(guestPhys, size);
    if (range === undefined) return false;
    const offset = guestPhys - range.guestPhys;
    if (size !== 8) {
      range.device.write(offset, size as 1 | 2 | 4, Number(BigInt.asUintN(8 * size, value)));
    } else {
      range.device.write(offset, 4, Number(value & 0xffff_ffffn));
      range.device.write(offset + 4, 4, Number((value >> 32n) & 0xffff_ffffn));
    }
    return true;
  }

  #find(guestPhys: number, size: number): MmioRange | undefined {
    const last = this.#last;
    if (last !== undefined && contains(last, guestPhys, size)) return last;
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ranges[middle] as MmioRange).guestPhys <= guestPhys) low = middle + 1;
      else high = middle;
    }
    const range = this.#ranges[low - 1];
    if (range === undefined || !contains(range, guestPhys, size)) return undefined;
    this.#last = range;
    return range;
  }
}

function contains(range: MmioRange, guestPhys: number, size: number): boolean {
  return guestPhys >= range.guestPhys && guestPhys + size <= range.guestPhys + range.size;
}
