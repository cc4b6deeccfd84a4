// Machine CSRs by number, as ONE_REG's raw subtype names them: their field in the hart's schema, and which
// element of it. PMP configuration is one register an entry here, whatever its packing in the CSR file is.
import type { HartField } from "./hart-schema.ts";

interface RawCsr {
  readonly field: HartField;
  readonly element: number;
}
/** Machine CSRs by number: their field in the hart's schema, and which element of it. */
export const RAW_CSRS: ReadonlyMap<number, RawCsr> = new Map<number, RawCsr>([
  ...Object.entries({
    mstatus: 0x300,
    medeleg: 0x302,
    mideleg: 0x303,
    mie: 0x304,
    mtvec: 0x305,
    mcounteren: 0x306,
    menvcfg: 0x30a,
    mcountinhibit: 0x320,
    mscratch: 0x340,
    mepc: 0x341,
    mcause: 0x342,
    mtval: 0x343,
    mcycle: 0xb00,
    minstret: 0xb02,
    mhartid: 0xf14,
  } satisfies Partial<Record<HartField, number>>).map(
    ([field, csr]) => [csr, { field: field as HartField, element: 0 }] as [number, RawCsr],
  ),
  ...Array.from({ length: 16 }, (_, i) => [0x3a0 + i, { field: "pmpcfg", element: i }] as [number, RawCsr]),
  ...Array.from({ length: 16 }, (_, i) => [0x3b0 + i, { field: "pmpaddr", element: i }] as [number, RawCsr]),
]);
