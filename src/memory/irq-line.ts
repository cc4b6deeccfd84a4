// A level-triggered interrupt line, driven by a device and read by an interrupt controller.

export interface IrqLine {
  /** true raises the line, false lowers it. Driving its present level has no effect. */
  set(level: boolean): void;
}
