// The map of the shared WebAssembly memory that harts, vCPU threads, translation thread and VMM thread use.
// All values are little-endian, offsets are in bytes. hart/hart-layout.ts has the layout of a hart's
// architectural state inside its area, hart-scratch.ts that of the engine's words; this file has everything
// else.
//
//   0x00000    VM area: memory-slot banks, clock, ioeventfds, PLIC, ACLINT, coalesced writes
//   0x10000    engine tables: decode tables (1 MiB), code cache; the engine's module has their addresses
//   0x8350000  hart 0, 4 MiB each: control block, hart state (+0x400), scratch (+0x10000), contexts
//              (+0x100000)
//   …          dirty bitmaps and code pages, RAM blocks
import { MemoryRegion } from "./memory-region.ts";
import { ACTIVITIES } from "./vcpu-activities.ts";

export const MAX_VCPUS = 32;
const VM_AREA_SIZE = 0x10000;
/** The interpreter's decode tables (instruction-decoder.ts), then the code cache (code-cache.ts). */
export const DECODE_TABLES = VM_AREA_SIZE;
export const DECODE_TABLES_SIZE = 0x100000;
export const CODE_CACHE = DECODE_TABLES + DECODE_TABLES_SIZE;
export const CODE_CACHE_SIZE = 0x8240000;
export const HART_AREA_BASE = CODE_CACHE + CODE_CACHE_SIZE;
export const HART_AREA_SIZE = 0x400000;
/** Items that different threads write should not share a cache line. */
const CACHE_LINE = 64;

// ---- the VM area ----

// Offset 0 stays unused: it means "none" wherever an offset is stored.
const vm = new MemoryRegion("VM area", 0x1000, VM_AREA_SIZE);

/** A bank: u32 count, then from +0x10 entries of 32 bytes. */
export const SLOT_ENTRIES = 0x10;
const slot = new MemoryRegion("slot entry", 0, 32);
export const SLOT_GPA = slot.u64("guest-physical address");
export const SLOT_SIZE = slot.u64("size");
export const SLOT_HOST_OFFSET = slot.u32("host offset");
export const SLOT_FLAGS = slot.u32("flags");
export const SLOT_DIRTY_OFFSET = slot.u32("dirty bitmap");
/**
 * The slot's code pages (one bit a page, as in the dirty log), 0: none; their stale pages follow at
 * codeBitmapSize.
 */
export const SLOT_CODE_OFFSET = slot.u32("code pages");
export const SLOT_ENTRY_SIZE = slot.used;
export const SLOT_FLAG_READONLY = 1;
export const MAX_SLOTS = 32;
const BANK_SIZE = SLOT_ENTRIES + MAX_SLOTS * SLOT_ENTRY_SIZE;
export const VM_SLOT_BANK_0 = vm.take("slot bank 0", BANK_SIZE, CACHE_LINE);
export const VM_SLOT_BANK_1 = vm.take("slot bank 1", BANK_SIZE, CACHE_LINE);

/** i64 ticks: guest mtime = host ticks + delta. */
export const VM_CLOCK_DELTA = vm.take("clock delta", 8, CACHE_LINE);
/** u32: VmPerf's generation, 0 while counting is off. */
export const VM_PERF = vm.u32("perf generation");
/** u32: 0, or the parameters of the instruction clock (InstructionClock). */
export const VM_ICOUNT = vm.u32("icount");
/** u32: the VM is dead (VM_DEAD was made); later runs fail. */
export const VM_DEAD_WORD = vm.u32("dead");
/** u32: number of vCPUs. */
export const VM_VCPU_COUNT = vm.u32("vCPU count");
/** u32: 1 if the built-in firmware answers S-mode ecalls. */
export const VM_BUILTIN_FIRMWARE = vm.u32("built-in firmware");
/** u32: byte offset of the current memory-slot bank. */
export const VM_CURRENT_BANK = vm.u32("current bank");
/** u32: counts code pages that have been written to (CodePages). */
export const VM_CODE_STALE = vm.u32("stale code pages");
/** u32: TRANSLATOR_RUN. */
export const VM_TRANSLATOR_RUN = vm.u32("translator run");
/** The VMM's command to the translation thread, and the thread's answer to END. */
export const TRANSLATOR_RUN = { GO: 0, END: 1, ENDED: 2 } as const;
/** u32: 1 while the VMM thread looks for exits and doorbells by itself (ExitPoll). */
export const VM_EXIT_POLL = vm.u32("exit poll");
/** f64: under --icount, ns of idle time; and the host's time in ns when the hart began to sleep. */
export const VM_ICOUNT_WARP = vm.u64("icount warp");
export const VM_ICOUNT_IDLE_SINCE = vm.u64("icount idle since");

/**
 * Counters that the translation thread maintains, u64 each: TRANSLATION_STATS are their offsets from here.
 */
const stats = new MemoryRegion("translation statistics", 0, 0x100);
export const TRANSLATION_STATS = {
  /** Regions and modules generated so far, and their bytes of WebAssembly. */
  regions: stats.u64("regions"),
  modules: stats.u64("modules"),
  bytes: stats.u64("bytes"),
  /** Time spent translating and compiling, in ns. */
  translateNs: stats.u64("translateNs"),
  compileNs: stats.u64("compileNs"),
  /** Regions evicted to make room, and regions dropped because their guest code changed. */
  evictions: stats.u64("evictions"),
  staleDrops: stats.u64("staleDrops"),
  /** Live regions, and their bytes of WebAssembly. */
  liveRegions: stats.u64("liveRegions"),
  liveBytes: stats.u64("liveBytes"),
  /** Guest instructions in the regions generated so far. */
  guestInstructions: stats.u64("guestInstructions"),
} as const;
export const VM_TRANSLATION_STATS = vm.take("translation statistics", stats.used, CACHE_LINE);

/**
 * ioeventfds: u32 count, entries of 16 bytes {gpa u32 low, gpa u32 high, datamatch u32, armed u32}; fired
 * bits. Offsets are from VM_IOEVENTFD.
 */
export const MAX_IOEVENTFDS = 96;
export const IOEVENTFD_ENTRY_SIZE = 16;
const ioeventfds = new MemoryRegion("ioeventfds", 4, 0x1000);
export const IOEVENTFD_ENTRIES = ioeventfds.take("entries", MAX_IOEVENTFDS * IOEVENTFD_ENTRY_SIZE, 16);
export const IOEVENTFD_FIRED = ioeventfds.take("fired", MAX_IOEVENTFDS / 8, CACHE_LINE);
export const VM_IOEVENTFD = vm.take("ioeventfds", ioeventfds.used, CACHE_LINE);

/** f64 base and size of each window: PLIC, CLINT, SSWI (irqchip-windows.ts). */
export const VM_IRQCHIP_WINDOWS = 3;
export const VM_IRQCHIP = vm.take("irqchip windows", VM_IRQCHIP_WINDOWS * 16, CACHE_LINE);

/** State of plic.ts and aclint.ts. */
export const PLIC_AREA_SIZE = 0xc00;
export const VM_PLIC = vm.take("PLIC", PLIC_AREA_SIZE, CACHE_LINE);
export const VM_ACLINT = vm.take("ACLINT", MAX_VCPUS * 8, CACHE_LINE);

/**
 * Coalesced writes: u32 lock, head, tail, zone count; zones {gpa u32 low, gpa u32 high, size u32, 0}; the
 * ring's entries {gpa u32 low, gpa u32 high, size u32, data u32}. Offsets are from VM_COALESCED.
 */
export const COALESCED_ZONE_SIZE = 16;
export const MAX_COALESCED_ZONES = 8;
export const COALESCED_ENTRY_SIZE = 16;
/** A power of two. */
export const COALESCED_CAPACITY = 128;
const coalesced = new MemoryRegion("coalesced writes", 0x10, 0x1000);
export const COALESCED_ZONES = coalesced.take("zones", MAX_COALESCED_ZONES * COALESCED_ZONE_SIZE, 16);
export const COALESCED_ENTRIES = coalesced.take(
  "entries",
  COALESCED_CAPACITY * COALESCED_ENTRY_SIZE,
  CACHE_LINE,
);
export const VM_COALESCED = vm.take("coalesced writes", coalesced.used, CACHE_LINE);

/**
 * Registers with known values: u32 count, then entries of 16 bytes from +16 {gpa u32 low, gpa u32 high, value
 * | 0x100 or 0, 0} (mmio-shadow.ts).
 */
export const MMIO_SHADOW_SIZE = 16;
export const MAX_MMIO_SHADOWS = 8;
export const VM_MMIO_SHADOWS = vm.take("MMIO shadows", (MAX_MMIO_SHADOWS + 1) * MMIO_SHADOW_SIZE, CACHE_LINE);

/**
 * Interrupt status registers: u32 count, then entries of 16 bytes from +16 {gpa u32 low, gpa u32 high,
 * status, source} (interrupt-statuses.ts).
 */
export const INTERRUPT_STATUS_SIZE = 16;
export const MAX_INTERRUPT_STATUSES = 8;
export const VM_INTERRUPT_STATUSES = vm.take(
  "interrupt statuses",
  (MAX_INTERRUPT_STATUSES + 1) * INTERRUPT_STATUS_SIZE,
  CACHE_LINE,
);

// ---- a hart's area: offsets from hartBase ----

export function hartBase(hart: number): number {
  return HART_AREA_BASE + hart * HART_AREA_SIZE;
}

const area = new MemoryRegion("hart area", 0, HART_AREA_SIZE);
const CONTROL_SIZE = 0x400;
const control = new MemoryRegion("control block", area.at("control block", 0, CONTROL_SIZE), CONTROL_SIZE);

/** VcpuMode. */
export const CTL_MODE = control.u32("mode");
/** Bitmap of requests. */
export const CTL_REQUESTS = control.u32("requests");
/** Non-zero: the engine leaves run() at its next poll. */
export const CTL_KICK = control.u32("kick");
/** Interrupt lines as mip bits, OR-ed with the hart's own mip. */
export const CTL_LINES = control.u32("lines");
export const CTL_MMIO_DATA = control.u64("MMIO data");
/** The memory-slot bank that this hart uses (UPDATE_HGATP switches it). */
export const CTL_SLOT_BANK = control.u32("slot bank");

export const CTL_MP_STATE = control.take("MP state", 4, CACHE_LINE);
/** 1 while waiting in WFI for an interrupt (QEMU's cpu_common.halted). */
export const CTL_HALTED = control.u32("halted");
/** 1 while the vCPU thread sleeps in block(). */
export const CTL_SLEEPING = control.u32("sleeping");
/** Wake-up counter: block() waits on it. */
export const CTL_WAKE = control.u32("wake");
/** Counts exits from guest mode; WAIT requesters wait on it. */
export const CTL_EXITS = control.u32("exits");
/** Number of threads that wait for an exit. */
export const CTL_EXIT_WAITERS = control.u32("exit waiters");
/** RUN: the VMM's command to the thread, and whether the thread is parked. */
export const CTL_RUN = control.u32("run");
/** 1 once the thread has terminated. */
export const CTL_ENDED = control.u32("ended");

// The run page (KVM's kvm_run).
/** 0 none, 1 posted by the vCPU, 2 answered by the VMM. */
export const RUN_STATUS = control.take("run status", 4, CACHE_LINE);
export const RUN_EXIT_REASON = control.u32("exit reason");
export const RUN_GPA_LOW = control.u32("exit address, low");
export const RUN_GPA_HIGH = control.u32("exit address, high");
export const RUN_SIZE = control.u32("exit size");
/** 1 if a device answered at that address. */
export const RUN_OK = control.u32("exit ok");
export const RUN_DATA = control.u64("exit data");
/** u32: from the answer to the vCPU's exit before to this one, in ns, at most 0x7fffffff. */
export const RUN_GAP_NS = control.u32("exit gap");

// SBI state of the hart (saved and restored through ONE_REG).
export const SBI_START_ADDRESS = control.take("start address", 8, CACHE_LINE);
export const SBI_START_ARGUMENT = control.u64("start argument");
export const SBI_SUSPEND_TYPE = control.u64("suspend type");
export const SBI_STA_SHMEM = control.u64("steal-time shared memory");
/** Steal time in ns accumulated for this hart. */
export const SBI_STEAL_NS = control.u64("steal ns");

// HFENCE queue: a lock, head and tail, then entries of 32 bytes {type u32, asid u32, start u64, size u64}.
export const HFENCE_LOCK = control.take("fence lock", 4, CACHE_LINE);
export const HFENCE_HEAD = control.u32("fence head");
export const HFENCE_TAIL = control.u32("fence tail");
export const HFENCE_ENTRY_SIZE = 32;
export const HFENCE_CAPACITY = 16;
export const HFENCE_ENTRIES = control.take("fence entries", HFENCE_CAPACITY * HFENCE_ENTRY_SIZE, 16);

/** Console bytes of an SBI call, to or from the VMM. */
export const RUN_CONSOLE_SIZE = 0xc0;
export const RUN_CONSOLE = control.take("console", RUN_CONSOLE_SIZE, 16);

/** The hart's state, in the layout of its schema. */
export const HART_STATE_SIZE = 0xc00;
export const HART_STATE_OFFSET = area.at("hart state", CONTROL_SIZE, HART_STATE_SIZE);

/**
 * Under --perf: the rows of HotCode, of 16 bytes; and VcpuPerf's counters: its own cells, and two for each
 * activity.
 */
export const HOT_ROWS = 512;
export const HART_HOT = area.take("hot code", HOT_ROWS * 16, 4096);
export const PERF_OWN_CELLS = 16;
export const HART_PERF = area.take("perf cells", (PERF_OWN_CELLS + 2 * ACTIVITIES.length) * 8, 4096);

/** The words of hart-scratch.ts. */
export const SCRATCH_SIZE = 0x1000;
export const SCRATCH_OFFSET = area.at("scratch", 0x10000, SCRATCH_SIZE);
/** How many more executions of an address make it hot: a byte each, indexed by bits of the host address. */
export const HEAT_ENTRIES = 0x10000;
export const HEAT_OFFSET = area.at("heat", 0xe0000, HEAT_ENTRIES);
/**
 * How many samples fell into a page's translated code: a byte each, indexed by bits of the virtual page
 * number.
 */
export const SAMPLES_ENTRIES = 0x1000;
export const SAMPLES_OFFSET = area.take("samples", SAMPLES_ENTRIES);
/** TLBs and jump caches, in the layout of hart/tlb-context.ts. */
export const CONTEXTS_SIZE = 0x300000;
export const CONTEXTS_OFFSET = area.at("contexts", 0x100000, CONTEXTS_SIZE);

// ---- the area after the last hart ----

/** Bytes of the bitmap of code pages, or of stale pages, of a memory slot of `size` bytes. */
export function codeBitmapSize(size: number): number {
  return (Math.ceil(size / 4096 / 8) + 63) & ~63;
}
