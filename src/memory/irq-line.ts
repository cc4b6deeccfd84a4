// An interrupt line: a device drives it, an interrupt controller sees it. Level-triggered.

export interface IrqLine {
  /** true raises, false lowers; driving the level it already has is harmless. */
  set(level: boolean): void;
}
