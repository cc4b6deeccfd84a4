// The memory layout of a batch of programs, the same in QEMU and in Wherry. test/oracle/runner.s has its own
// copies of the first group, and its own data from its label `slots` on.

export const RAM_BASE = 0x8000_0000n;
/** Slot n is at RAM_BASE + SLOTS + n × SLOT_SIZE. Offsets below are from the slot's start. */
export const SLOTS = 0x100000;
export const SLOT_SIZE = 0x20000;
export const DUMP = 0x1000;
export const LOG = DUMP + 0x400;
export const LOG_RECORD = 64;
/** Maximum number of traps that the runner logs; the dump page has no room for more. */
export const MAX_TRAPS = 40;

/** Header of a slot: a u64 each. */
export const HEADER = {
  entry: 0x00,
  end: 0x08,
  maxTraps: 0x10,
  mstatus: 0x18,
  satp: 0x20,
  medeleg: 0x28,
  mideleg: 0x30,
  /** Offset from the S-mode handler's address to stvec. */
  stvecOffset: 0x38,
  fcsr: 0x40,
  counteren: 0x48,
  menvcfg: 0x50,
  pmpcfg0: 0x58,
  /** pmpaddr0 to 3. */
  pmpaddr: 0x60,
  x: 0x100,
  f: 0x200,
} as const;

/** Dump of a slot. */
export const DUMP_X = DUMP;
export const DUMP_F = DUMP + 0x100;
export const DUMP_CSRS = DUMP + 0x200;
/** CSRs in the order of the dump, a u64 each. */
export const DUMPED_CSRS = [
  "mstatus",
  "sstatus",
  "medeleg",
  "mideleg",
  "mie",
  "mip",
  "mcounteren",
  "menvcfg",
  "pmpcfg0",
  "pmpaddr1",
  "stvec",
  "sscratch",
  "sepc",
  "scause",
  "stval",
  "satp",
  "scounteren",
  "senvcfg",
  "misa",
  "mtval",
  "mepc",
  "mcause",
  "fcsr",
] as const;

export const CODE = 0x3000;
export const CODE_SIZE = 0x3000;
export const TABLES = 0x6000;
export const TABLE_PAGES = 10;
/** Scratch memory: 16 pages that the program reads and writes. */
export const SCRATCH = 0x10000;
export const SCRATCH_SIZE = 0x10000;

/** Virtual addresses of scratch memory and of RAM for the S-mode handler; code is identity-mapped. */
export const SCRATCH_VIRT = 0x4000_0000n;
export const HANDLER_ALIAS = 0x4000_0000n;
