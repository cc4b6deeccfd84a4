// The backend of a serial port or console. The device reads input when its guest has room for it, so
// back-pressure reaches the host: input that the guest has not read stays with the host.

/**
 * What a serial port or console is connected to. The device asks for input when its guest has room for it.
 */
export interface CharBackend {
  /** Output of the guest, in order. The bytes are valid only during the call. */
  write(bytes: Uint8Array): void;
  /** Returns up to `max` bytes of input; empty if there is none. */
  read(max: number): Uint8Array;
  /** Calls `listener` each time input arrives after there was none. */
  onReadable(listener: () => void): void;
}

/** A backend between a caller that pushes input and a sink for output. */
export class CharPipe implements CharBackend {
  readonly #sink: (bytes: Uint8Array) => void;
  readonly #listeners: (() => void)[] = [];
  readonly #drained: (() => void)[] = [];
  #input: Uint8Array = new Uint8Array(0);

  constructor(sink: (bytes: Uint8Array) => void) {
    this.#sink = sink;
  }

  /** Bytes of input that the guest has not read. A caller stops reading its source above some limit. */
  get pending(): number {
    return this.#input.length;
  }

  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const wasEmpty = this.#input.length === 0;
    const joined = new Uint8Array(this.#input.length + bytes.length);
    joined.set(this.#input);
    joined.set(bytes, this.#input.length);
    this.#input = joined;
    if (wasEmpty) for (const listener of this.#listeners) listener();
  }

  /** Calls `listener` each time the guest has read the last byte of input. */
  onDrained(listener: () => void): void {
    this.#drained.push(listener);
  }

  write(bytes: Uint8Array): void {
    this.#sink(bytes);
  }

  read(max: number): Uint8Array {
    const taken = this.#input.subarray(0, max);
    this.#input = this.#input.subarray(taken.length);
    if (taken.length > 0 && this.#input.length === 0) for (const listener of this.#drained) listener();
    return taken;
  }

  onReadable(listener: () => void): void {
    this.#listeners.push(listener);
  }
}
