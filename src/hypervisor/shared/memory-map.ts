// Where things are in the one shared WebAssembly memory that harts, vCPU threads and the VMM thread
// share. All little-endian. Offsets are bytes. What a hart's architectural state looks like inside
// its area is the hart schema's business (../riscv/hart-state.ts); this file owns the words around it.
//
//   0x00000  VM area: memory-slot banks, clock, ioeventfds, PLIC, ACLINT, coalesced writes
//   0x10000  hart 0, 4 MiB each: control block, hart state (+0x400), engine scratch (+0x10000), contexts (+0x100000)
//   …        engine tables: decode tables (1 MiB), code cache; dirty bitmaps and code pages, RAM blocks

export const VM_SLOT_BANK_0 = 0x1000;
export const VM_SLOT_BANK_1 = 0x1800;
/** A bank: u32 count, then from +0x10 entries of 32 bytes. */
export const SLOT_ENTRIES = 0x10;
export const SLOT_ENTRY_SIZE = 32;
export const SLOT_GPA = 0;
export const SLOT_SIZE = 8;
export const SLOT_HOST_OFFSET = 16;
export const SLOT_FLAGS = 20;
export const SLOT_DIRTY_OFFSET = 24;
/** The slot's code pages (a bit a page, as in the dirty log), 0: none; their stale pages follow at codeBitmapSize. */
export const SLOT_CODE_OFFSET = 28;
export const SLOT_FLAG_READONLY = 1;
export const SLOT_FLAG_LOG_DIRTY = 2;
export const MAX_SLOTS = 32;

/** i64 ticks: guest mtime = host ticks + delta. */
export const VM_CLOCK_DELTA = 0x2000;
/** u32: VmPerf's generation, 0 while nobody counts. */
export const VM_PERF = 0x2008;
/** u32: 0, or how instructions make time (InstructionClock). */
export const VM_ICOUNT = 0x200c;
/** f64: under --icount, ns of idle time; and the host's ns when the hart fell asleep. */
export const VM_ICOUNT_WARP = 0x2030;
export const VM_ICOUNT_IDLE_SINCE = 0x2038;
/** u32: the VM is dead (VM_DEAD was made); later runs fail. */
export const VM_DEAD_WORD = 0x2010;
/** u32: number of vCPUs. */
export const VM_VCPU_COUNT = 0x2014;
/** u32: 1 if the built-in firmware answers S-mode ecalls. */
export const VM_BUILTIN_FIRMWARE = 0x2018;

/** u32: byte offset of the memory-slot bank that is current. */
export const VM_CURRENT_BANK = 0x201c;

/** u32: counts the code pages that were written to (CodePages). */
export const VM_CODE_STALE = 0x2020;

/** u32: TRANSLATOR_RUN. */
export const VM_TRANSLATOR_RUN = 0x2024;
/** What the VMM wants of the translation thread, and the thread's answer to END. */
export const TRANSLATOR_RUN = { GO: 0, END: 1, ENDED: 2 } as const;

/** u32: byte offset of the code cache (code-cache.ts). */
export const VM_CODE_CACHE = 0x2028;

/** Counters that the translation thread keeps, u64 each: TRANSLATION_STATS are their offsets from here. */
export const VM_TRANSLATION_STATS = 0x2040;
export const TRANSLATION_STATS = {
  /** Regions and modules made so far, and their bytes of WebAssembly. */
  regions: 0x00,
  modules: 0x08,
  bytes: 0x10,
  /** Time spent translating and compiling, in ns. */
  translateNs: 0x18,
  compileNs: 0x20,
  /** Regions that made room for others, and those whose guest code has changed. */
  evictions: 0x28,
  staleDrops: 0x30,
  /** What is kept now: regions, and bytes of WebAssembly. */
  liveRegions: 0x38,
  liveBytes: 0x40,
  /** Guest instructions that the regions made so far stand for. */
  guestInstructions: 0x48,
} as const;

/** ioeventfds: u32 count, entries of 16 bytes from +0x10 {gpa u32 low, gpa u32 high, datamatch u32, armed u32}; fired bits at +0x800. */
export const VM_IOEVENTFD = 0x3000;
export const IOEVENTFD_ENTRIES = 0x10;
export const IOEVENTFD_ENTRY_SIZE = 16;
export const IOEVENTFD_FIRED = 0x800;
export const MAX_IOEVENTFDS = 96;

export const VM_PLIC = 0x4000;
export const VM_ACLINT = 0x8000;

/** Coalesced writes: u32 lock, head, tail, zone count; zones {gpa u32 low, gpa u32 high, size u32, 0}; the ring's entries {gpa u32 low, gpa u32 high, size u32, data u32}. */
export const VM_COALESCED = 0xa000;
export const COALESCED_ZONES = 0x10;
export const COALESCED_ZONE_SIZE = 16;
export const MAX_COALESCED_ZONES = 8;
export const COALESCED_ENTRIES = 0x100;
export const COALESCED_ENTRY_SIZE = 16;
/** A power of two. */
export const COALESCED_CAPACITY = 128;

/** Registers of known value: u32 count, then entries {gpa u32 low, gpa u32 high, value | 0x100 or 0, 0} (mmio-shadow.ts). */
export const VM_MMIO_SHADOWS = 0xb000;
export const MMIO_SHADOW_SIZE = 16;
export const MAX_MMIO_SHADOWS = 8;

export const HART_AREA_BASE = 0x10000;
export const HART_AREA_SIZE = 0x400000;
export const HART_STATE_OFFSET = 0x400;
/** Under --perf: the rows of HotCode, of 16 bytes; what VcpuPerf counts. */
export const HART_HOT = 0xd000;
export const HOT_ROWS = 512;
export const HART_PERF = 0xf000;
/** The engine's tables: what the interpreter decodes with, then the code cache (code-cache.ts). */
export const DECODE_TABLES_SIZE = 0x100000;
export const CODE_CACHE_SIZE = 0x4240000;
export const ENGINE_TABLES_SIZE = DECODE_TABLES_SIZE + CODE_CACHE_SIZE;
export const MAX_VCPUS = 32;

/** Bytes of a bitmap of code pages or of stale pages for a memory slot of `size` bytes. */
export function codeBitmapSize(size: number): number {
  return (Math.ceil(size / 4096 / 8) + 63) & ~63;
}

export function hartBase(hart: number): number {
  return HART_AREA_BASE + hart * HART_AREA_SIZE;
}

// The control block at the start of each hart's area.
/** VcpuMode. */
export const CTL_MODE = 0x00;
/** Bitmap of requests. */
export const CTL_REQUESTS = 0x04;
/** Non-zero: the engine leaves run() at its next poll. */
export const CTL_KICK = 0x08;
/** Interrupt lines as mip bits, OR-ed with the hart's own mip. */
export const CTL_LINES = 0x0c;
export const CTL_MMIO_DATA = 0x10;
/** The memory-slot bank that this hart translates through (UPDATE_HGATP switches it). */
export const CTL_SLOT_BANK = 0x28;

export const CTL_MP_STATE = 0x40;
/** 1 while waiting in WFI for an interrupt (QEMU's cpu_common.halted). */
export const CTL_HALTED = 0x44;
/** 1 while the vCPU thread sleeps in block(). */
export const CTL_SLEEPING = 0x48;
/** Wake counter: block() waits on it. */
export const CTL_WAKE = 0x4c;
/** Counts exits from guest mode; WAIT requesters wait on it. */
export const CTL_EXITS = 0x50;
/** Number of threads that wait for an exit. */
export const CTL_EXIT_WAITERS = 0x54;
/** RUN: what the VMM wants of the thread, and whether it is parked. */
export const CTL_RUN = 0x58;
/** 1 once the thread has ended. */
export const CTL_ENDED = 0x64;

// The run page (KVM's kvm_run).
/** 0 none, 1 posted by the vCPU, 2 answered by the VMM. */
export const RUN_STATUS = 0x80;
export const RUN_EXIT_REASON = 0x84;
export const RUN_GPA_LOW = 0x88;
export const RUN_GPA_HIGH = 0x8c;
export const RUN_SIZE = 0x90;
/** 1 if something answered at that address. */
export const RUN_OK = 0x94;
export const RUN_DATA = 0x98;

// SBI state of the hart (saved and restored through ONE_REG).
export const SBI_START_ADDRESS = 0xc0;
export const SBI_START_ARGUMENT = 0xc8;
export const SBI_SUSPEND_TYPE = 0xd0;
export const SBI_STA_SHMEM = 0xd8;
/** Steal time in ns accumulated for this hart. */
export const SBI_STEAL_NS = 0xe0;

// HFENCE queue: a lock, head and tail, then entries of 32 bytes {type u32, asid u32, start u64, size u64}.
export const HFENCE_LOCK = 0x100;
export const HFENCE_HEAD = 0x104;
export const HFENCE_TAIL = 0x108;
export const HFENCE_ENTRIES = 0x110;
export const HFENCE_ENTRY_SIZE = 32;
export const HFENCE_CAPACITY = 16;

/** Console bytes of an SBI call on their way to or from the VMM. */
export const RUN_CONSOLE = 0x320;
export const RUN_CONSOLE_SIZE = 0xc0;
