// A level-triggered interrupt line, driven by a device and read by an interrupt controller.

export interface IrqLine {
  /** true raises the line, false lowers it. Driving its present level has no effect. */
  set(level: boolean): void;
}

/** A register with the reasons of an interrupt: the line is high while a bit is set. */
export interface InterruptStatus {
  read(): number;
  /** Sets bits: the device has something to say. */
  raise(bits: number): void;
  /** Clears bits: the driver has taken notice. */
  acknowledge(bits: number): void;
}

/** The register in a device that the VMM serves. */
export class LineStatus implements InterruptStatus {
  readonly #irq: IrqLine;
  #bits = 0;

  constructor(irq: IrqLine) {
    this.#irq = irq;
  }
  read(): number {
    return this.#bits;
  }
  raise(bits: number): void {
    this.#set(this.#bits | bits);
  }
  acknowledge(bits: number): void {
    this.#set(this.#bits & ~bits);
  }
  #set(bits: number): void {
    this.#bits = bits;
    this.#irq.set(bits !== 0);
  }
}
