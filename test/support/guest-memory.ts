// A small guest memory for tests of devices.
import { GuestMemory, PAGE_SIZE } from "../../src/memory/guest-memory.ts";

export const RAM_BASE = 0x8000_0000;
const RAM_SIZE = 0x10_0000;

/** 1 MiB of RAM at RAM_BASE. */
export function guestMemory(): GuestMemory {
  const dirty = new Int32Array(new SharedArrayBuffer(RAM_SIZE / PAGE_SIZE / 8));
  const block = { name: "ram", guestPhys: RAM_BASE, size: RAM_SIZE, hostOffset: 0, readonly: false, dirty };
  return new GuestMemory(new SharedArrayBuffer(RAM_SIZE), [block]);
}

/** Copies all of the contents of `source` to `target`. */
export function copyGuestMemory(target: GuestMemory, source: GuestMemory): void {
  target.bytes.set(source.bytes);
}
