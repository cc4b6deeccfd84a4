// The names of a vCPU thread's activities, in the order of their cells in the hart's area
// (vcpu/vcpu-perf.ts).

/** The first six, together with the exits, account for all of a thread's time. */
export const ACTIVITIES = [
  "engine",
  "adopt",
  "blocked",
  "parked",
  "requests",
  "other",
  "slice",
  "kick",
  "wfi",
  "spin",
  "sbi-base",
  "sbi-time",
  "sbi-ipi",
  "sbi-rfence",
  "sbi-hsm",
  "sbi-srst",
  "sbi-dbcn",
  "sbi-susp",
  "sbi-sta",
  "sbi-pmu",
  "sbi-fwft",
  "sbi-legacy",
  "sbi-unknown",
  "plic-read",
  "plic-write",
  "aclint-read",
  "aclint-write",
  "doorbell",
  "coalesced-write",
  "shadow-read",
  "mmio-read",
  "mmio-write",
] as const;
export type Activity = (typeof ACTIVITIES)[number];
