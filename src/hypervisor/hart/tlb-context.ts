// The layout of a hart's contexts: its direct-mapped TLBs and jump caches in the shared memory, one context for each
// privilege and for the last address spaces of U-mode. hart-tlb.ts fills, switches and drops them.

/**
 * Contexts: what memory accesses and jumps look up, one pointer. From it, at constant offsets, direct-mapped tables for
 * reads, writes and fetches (entries of 16 bytes {page i64, host address − guest-virtual address i32, LEAF_* u32}, see
 * tlbEntry), and the jump cache (entries of 16 bytes {virtual pc i64, value i32} at index pc >> 1). An empty entry's
 * first word is all ones. A jump may be entered only while the fetch table has its page; hart-tlb.ts drops it when it drops that.
 */
export const TLB_ENTRIES = 4096;
export const TLB_TABLE_SIZE = TLB_ENTRIES * 16;
export const JUMP_ENTRIES = 4096;
export const CTX_READ = 0;
export const CTX_WRITE = TLB_TABLE_SIZE;
export const CTX_FETCH = TLB_TABLE_SIZE * 2;
export const CTX_JUMPS = TLB_TABLE_SIZE * 3;
/** CTX_HAS_* bits. */
export const CTX_USED = CTX_JUMPS + JUMP_ENTRIES * 16;
/** Of a U-mode context: SCRATCH.spaceClock when it was last switched to, and the satp it is for, or SPACE_FREE. */
export const CTX_STAMP = CTX_USED + 0x04;
export const CTX_SATP = CTX_USED + 0x08;
/** How many entries were made from pages that are not global, whether to fetch from one, where the first entries are. */
export const CTX_LOCAL_COUNT = CTX_USED + 0x10;
export const CTX_LOCAL_FETCHED = CTX_USED + 0x14;
export const CTX_LOCAL_ENTRIES = CTX_USED + 0x800;
export const MAX_LOCAL_ENTRIES = 512;
/** Pages that entries made from superpages may have: first and last, lower and upper half, data and then fetches. */
export const CTX_SUPERPAGES = CTX_USED + 0x40;
/** A bit for each page, modulo the map's size, that the fetch table has had an entry for: it may have jumps. */
export const CTX_JUMP_PAGES = CTX_USED + 0x400;
export const JUMP_PAGES_SIZE = 512;
export const CONTEXT_SIZE = CTX_USED + 0x1000;
/** What a context may have: entries of each table (fetches: jumps too), of global pages, of superpages beyond 2 MiB. */
export const CTX_HAS_READ = 1;
export const CTX_HAS_WRITE = 2;
export const CTX_HAS_FETCH = 4;
export const CTX_HAS_GLOBAL = 8;
export const CTX_HAS_HUGE = 16;
/** Of a U-mode context that is not in use: what is to be dropped before it is used again. */
export const CTX_STALE_WRITES = 32;
export const CTX_STALE_JUMPS = 64;
/** U-mode has a context for each of the last address spaces; S-mode has one without and one with SUM. */
export const USER_CONTEXTS = 8;
export const CONTEXT = {
  USER: 0,
  SUPERVISOR: USER_CONTEXTS,
  SUM: USER_CONTEXTS + 1,
  MACHINE: USER_CONTEXTS + 2,
} as const;
export const CONTEXT_COUNT = USER_CONTEXTS + 3;
export const CONTEXTS_OFFSET = 0x100000;
/** What no satp can be. */
export const SPACE_FREE = -1n;

/** What is kept of a leaf page-table entry: its size (log2 of bytes) in the low bits, whether it is global. */
export const LEAF_SHIFT = 0xff;
export const LEAF_GLOBAL = 0x100;
