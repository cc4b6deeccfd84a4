// A profiling report: the hypervisor half collects it, the VMM half shows it.

export interface ActivityPerf {
  readonly count: number;
  readonly ns: number;
}

export interface HartPerf {
  /** Instructions executed in all, and by translated code. */
  readonly instructions: number;
  readonly translated: number;
  /** Page table walks that filled a TLB entry. */
  readonly refills: number;
  /** Time in which the thread could run but had no core; undefined if the host does not report it. */
  readonly stealNs: number | undefined;
  /** Addresses at which slices of instructions ended, most frequent first. */
  readonly hot: readonly { readonly address: bigint; readonly count: number }[];
  /** Activities by name. Their times add up to the thread's total time. */
  readonly activities: Readonly<Record<string, ActivityPerf>>;
}

export interface PerfReport {
  /** Time since counting began. */
  readonly elapsedNs: number;
  readonly harts: readonly HartPerf[];
  /** Counters of the translation thread by name, since the VM was created. */
  readonly translation: Readonly<Record<string, number>>;
}

export interface PerfControl {
  readonly counting: boolean;
  /** Starts counting from zero. */
  start(): void;
  stop(): void;
  read(): PerfReport;
}
