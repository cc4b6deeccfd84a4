// The offset of each field of a hart's state (src/riscv/hart-state.ts) in the hart's area of the shared
// memory, for interpreter, translator, ONE_REG and firmware. Reservation, TLBs and other caches are not
// state: they are in the scratch area and are rebuilt.
import { type HartField, hartState } from "../../riscv/hart-state.ts";
import { HART_STATE_OFFSET, HART_STATE_SIZE } from "../shared/memory-map.ts";
import { MemoryRegion } from "../shared/memory-region.ts";

const region = new MemoryRegion("hart state", HART_STATE_OFFSET, HART_STATE_OFFSET + HART_STATE_SIZE);
const offsets = new Map<HartField, number>();
// Every scalar has 8 bytes; arrays start at multiples of 8.
for (const [key, value] of Object.entries(hartState.create())) {
  offsets.set(
    key as HartField,
    region.take(key, typeof value === "object" ? (value.byteLength + 7) & ~7 : 8),
  );
}

/** The offset of a field, in bytes from the start of the hart's area. */
export const hartLayout = {
  offsetOf: (field: HartField): number => offsets.get(field) as number,
  /** The offset of the first byte after the state. */
  end: region.used,
};
