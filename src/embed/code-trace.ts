// Shows the translation of the code at a guest address (`wherry trace`, x-wherry-trace-region): finds the
// code through the hart's current page tables (privileged specification §4.3 to 4.5) and traces its
// translation.
import { WherryError } from "../base/errors.ts";
import { hex } from "../base/hex.ts";
import { pageOf, traceRegion } from "../hypervisor/translator/trace-region.ts";
import { reachProfile } from "../hypervisor/translator/translations.ts";
import { levelsOf, PPN_MASK, PTE, PTE_PPN, satpModeOf } from "../riscv/paging.ts";
import { PRIV } from "../riscv/privilege.ts";
import type { Platform } from "./platform.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";

const LEAF = BigInt(PTE.R | PTE.X);

/** The guest-physical address of a virtual one; undefined if it is not mapped. */
export function walk(memory: GuestMemory, satp: bigint, address: bigint): number | undefined {
  const levels = levelsOf(satpModeOf(satp));
  if (levels === 0) return Number(address);
  let table = Number((satp & PPN_MASK) << 12n);
  for (let level = levels - 1; level >= 0; level--) {
    const shift = BigInt(12 + 9 * level);
    const entry = memory.readU64(table + Number((address >> shift) & 0x1ffn) * 8);
    if (entry === undefined || (entry & BigInt(PTE.V)) === 0n) return undefined;
    const page = Number(((entry >> BigInt(PTE_PPN)) & PPN_MASK) << 12n);
    if ((entry & LEAF) !== 0n) return page + Number(address & ((1n << shift) - 1n));
    table = page;
  }
  return undefined;
}

/**
 * Guest memory from an address on, a virtual one with the registers of a translation. Undefined if a byte is
 * not mapped or not in RAM.
 */
export function readGuestMemory(
  memory: GuestMemory,
  translation: { readonly satp: bigint; readonly priv: number } | undefined,
  address: bigint,
  length: number,
): Uint8Array | undefined {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const from = address + BigInt(at);
    const guestPhys =
      translation === undefined || translation.priv === PRIV.M
        ? Number(from)
        : walk(memory, translation.satp, from);
    const size = Math.min(length - at, 4096 - Number(from & 0xfffn));
    if (guestPhys === undefined || !memory.read(guestPhys, bytes.subarray(at, at + size))) return undefined;
    at += size;
  }
  return bytes;
}

/**
 * The listing for an address in the translation of these registers. Throws WherryError if there is no memory.
 */
export function traceCode(
  memory: GuestMemory,
  { satp, priv }: { readonly satp: bigint; readonly priv: number },
  address: bigint,
  { hasTotalStoreOrder }: Pick<Platform, "hasTotalStoreOrder">,
): string {
  const refuse = (why: string): never => {
    throw new WherryError("trace.address", `${hex(address)}, in the hart's present address space, ${why}`);
  };
  const code = address & ~1n;
  const guestPhys = priv === PRIV.M ? Number(code) : walk(memory, satp, code);
  if (guestPhys === undefined) return refuse("is not mapped");
  const block = memory.blockAt(guestPhys, 2);
  if (block === undefined) return refuse(`is guest-physical ${hex(guestPhys)}, where there is no memory`);
  const { page, offset } = pageOf(block.hostOffset + guestPhys - block.guestPhys);
  const buffer = memory.bytes.buffer;
  return traceRegion(new DataView(buffer), page, offset, address & ~0xfffn, {
    profile: reachProfile(buffer, page),
    hasTotalStoreOrder: hasTotalStoreOrder ?? false,
  });
}
