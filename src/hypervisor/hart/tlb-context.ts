// The layout of a hart's contexts: its direct-mapped TLBs and jump caches in the shared memory, one context
// for each privilege and for the most recent address spaces of U-mode. hart-tlb.ts fills, switches and
// flushes them.
import { CONTEXTS_SIZE } from "../shared/memory-map.ts";
import { MemoryRegion } from "../shared/memory-region.ts";

/**
 * A context: the tables in which memory accesses and jumps are looked up, addressed by one pointer. At
 * constant offsets it has direct-mapped tables for reads, writes and fetches (entries of 16 bytes {page i64,
 * host address − guest-virtual address i32, LEAF_* u32}, see tlbEntry), and the jump cache (entries of 16
 * bytes {virtual pc i64, value i32} at index pc >> 1). The first word of an empty entry is all ones. A jump
 * may be entered only while the fetch table has its page; hart-tlb.ts drops both together.
 */
export const TLB_ENTRIES = 4096;
export const TLB_TABLE_SIZE = TLB_ENTRIES * 16;
export const JUMP_ENTRIES = 4096;
const context = new MemoryRegion("context", 0, CONTEXTS_SIZE);
export const CTX_READ = context.take("reads", TLB_TABLE_SIZE);
export const CTX_WRITE = context.take("writes", TLB_TABLE_SIZE);
export const CTX_FETCH = context.take("fetches", TLB_TABLE_SIZE);
export const CTX_JUMPS = context.take("jumps", JUMP_ENTRIES * 16);
/** CTX_HAS_* bits. */
export const CTX_USED = context.u32("used");
/**
 * In a U-mode context: SCRATCH.spaceClock when it was last switched to, and the satp it is for, or
 * SPACE_FREE.
 */
export const CTX_STAMP = context.u32("stamp");
export const CTX_SATP = context.u64("satp");
/**
 * Number of entries from pages that are not global, whether one is for fetches, and where the first entries
 * are.
 */
export const CTX_LOCAL_COUNT = context.u32("local count");
export const CTX_LOCAL_FETCHED = context.u32("local fetched");
/**
 * Pages that entries from superpages may have: first and last, lower and upper half, data and then fetches.
 */
export const CTX_SUPERPAGES = context.take("superpages", 8 * 8, 64);
/**
 * A bit for each page, modulo the map's size, that has had an entry in the fetch table: it may have jumps.
 */
export const JUMP_PAGES_SIZE = 512;
export const CTX_JUMP_PAGES = context.take("jump pages", JUMP_PAGES_SIZE, 1024);
export const MAX_LOCAL_ENTRIES = 512;
export const CTX_LOCAL_ENTRIES = context.take("local entries", MAX_LOCAL_ENTRIES * 4, 2048);
/** Whole pages. */
export const CONTEXT_SIZE = Math.ceil(context.used / 4096) * 4096;
/**
 * What a context may have: entries of each table (for fetches, jumps too), of global pages, of superpages
 * above 2 MiB.
 */
export const CTX_HAS_READ = 1;
export const CTX_HAS_WRITE = 2;
export const CTX_HAS_FETCH = 4;
export const CTX_HAS_GLOBAL = 8;
export const CTX_HAS_HUGE = 16;
/** In a U-mode context that is not in use: the part to flush before it is used again. */
export const CTX_STALE_WRITES = 32;
export const CTX_STALE_JUMPS = 64;
/**
 * U-mode has a context for each of the most recent address spaces; S-mode has one without and one with SUM.
 */
export const USER_CONTEXTS = 8;
export const CONTEXT = {
  USER: 0,
  SUPERVISOR: USER_CONTEXTS,
  SUM: USER_CONTEXTS + 1,
  MACHINE: USER_CONTEXTS + 2,
} as const;
export const CONTEXT_COUNT = USER_CONTEXTS + 3;
new MemoryRegion("contexts", 0, CONTEXTS_SIZE).take("all contexts", CONTEXT_COUNT * CONTEXT_SIZE);
/** Not a possible value of satp. */
export const SPACE_FREE = -1n;

/**
 * Cached parts of a leaf page-table entry: its size (log2 of bytes) in the low bits, and whether it is
 * global.
 */
export const LEAF_SHIFT = 0xff;
export const LEAF_GLOBAL = 0x100;
