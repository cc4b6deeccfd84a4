// Names that stand for numbers in operands: registers, rounding modes, CSRs (privileged ISA, table of CSRs; Sstc).
const INTEGER_NAMES =
  "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6";
const FLOAT_NAMES =
  "ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5 fa6 fa7 fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 ft8 ft9 ft10 ft11";

function registerMap(prefix: string, names: string): ReadonlyMap<string, number> {
  const map = new Map<string, number>();
  for (const [n, name] of names.split(" ").entries()) map.set(name, n).set(`${prefix}${n}`, n);
  return map;
}

export const INTEGER_REGISTERS: ReadonlyMap<string, number> = new Map(registerMap("x", INTEGER_NAMES)).set(
  "fp",
  8,
);
export const FLOAT_REGISTERS: ReadonlyMap<string, number> = registerMap("f", FLOAT_NAMES);

export const ROUNDING_MODES: ReadonlyMap<string, number> = new Map([
  ["rne", 0],
  ["rtz", 1],
  ["rdn", 2],
  ["rup", 3],
  ["rmm", 4],
  ["dyn", 7],
]);

/** CSR numbers by name (privileged ISA, table of CSRs; Sstc's stimecmp). Any number may be used as well. */
export const CSRS: ReadonlyMap<string, number> = new Map([
  ["fflags", 0x001],
  ["frm", 0x002],
  ["fcsr", 0x003],
  ["cycle", 0xc00],
  ["time", 0xc01],
  ["instret", 0xc02],
  ["sstatus", 0x100],
  ["sie", 0x104],
  ["stvec", 0x105],
  ["scounteren", 0x106],
  ["senvcfg", 0x10a],
  ["sscratch", 0x140],
  ["sepc", 0x141],
  ["scause", 0x142],
  ["stval", 0x143],
  ["sip", 0x144],
  ["stimecmp", 0x14d],
  ["satp", 0x180],
  ["mstatus", 0x300],
  ["misa", 0x301],
  ["medeleg", 0x302],
  ["mideleg", 0x303],
  ["mie", 0x304],
  ["mtvec", 0x305],
  ["mcounteren", 0x306],
  ["menvcfg", 0x30a],
  ["mscratch", 0x340],
  ["mepc", 0x341],
  ["mcause", 0x342],
  ["mtval", 0x343],
  ["mip", 0x344],
  ["pmpcfg0", 0x3a0],
  ["pmpaddr0", 0x3b0],
  ["mvendorid", 0xf11],
  ["marchid", 0xf12],
  ["mimpid", 0xf13],
  ["mhartid", 0xf14],
]);
