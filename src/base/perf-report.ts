// What counting where time goes results in: made by the hypervisor half, shown by the VMM half.

export interface ActivityPerf {
  readonly count: number;
  readonly ns: number;
}

export interface HartPerf {
  /** Instructions executed, and those of them that translated code executed. */
  readonly instructions: number;
  readonly translated: number;
  /** Walks that filled a TLB entry. */
  readonly refills: number;
  /** Time that the thread wanted a core and had none; undefined where the host cannot tell. */
  readonly stealNs: number | undefined;
  /** Where slices of instructions ended, the most frequent first. */
  readonly hot: readonly { readonly address: bigint; readonly count: number }[];
  /** By name; their times have all of the thread's time between them. */
  readonly activities: Readonly<Record<string, ActivityPerf>>;
}

export interface PerfReport {
  /** Since counting began. */
  readonly elapsedNs: number;
  readonly harts: readonly HartPerf[];
  /** Counters of the translation thread by name, since the VM was made. */
  readonly translation: Readonly<Record<string, number>>;
}

export interface PerfControl {
  readonly counting: boolean;
  /** From zero. */
  start(): void;
  stop(): void;
  read(): PerfReport;
}
