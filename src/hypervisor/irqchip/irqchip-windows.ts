// The windows of the PLIC's and the ACLINT's registers in guest-physical memory. The board chooses them (KVM
// has a device attribute for that); vCPU threads read them from the shared memory when they start to run.
// Before that, and for a window that the board does not place, an access goes to the devices of the VMM.
import type { IrqchipWindows, MmioWindow } from "../../accelerator/accelerator.ts";
import { VM_IRQCHIP, VM_IRQCHIP_WINDOWS } from "../shared/memory-map.ts";

const cells = (buffer: SharedArrayBuffer): Float64Array<SharedArrayBuffer> =>
  new Float64Array(buffer, VM_IRQCHIP, 2 * VM_IRQCHIP_WINDOWS);

/** VMM thread, before any vCPU runs. */
export function placeIrqchip(buffer: SharedArrayBuffer, { plic, clint, sswi }: IrqchipWindows): void {
  cells(buffer).set([plic, clint, sswi].flatMap(({ base, size }) => [base, size]));
}

export function irqchipWindows(buffer: SharedArrayBuffer): IrqchipWindows {
  const at = cells(buffer);
  const window = (i: number): MmioWindow => ({ base: at[2 * i] as number, size: at[2 * i + 1] as number });
  return { plic: window(0), clint: window(1), sswi: window(2) };
}

export function isIn({ base, size }: MmioWindow, guestPhys: number): boolean {
  return guestPhys >= base && guestPhys < base + size;
}
