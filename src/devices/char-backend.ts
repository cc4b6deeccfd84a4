// The backend of a serial port or console. Both directions have back-pressure: input that the guest has not
// read stays with the host, and output that the host's reader has not taken stays with the guest.

/**
 * What a serial port or console is connected to. The device asks for input when its guest has room for it,
 * and keeps its output while the reader is behind.
 */
export interface CharBackend {
  /** Output of the guest, in order. The bytes are valid only during the call. */
  write(bytes: Uint8Array): void;
  /**
   * False while the reader is behind: the guest sees a busy transmitter. A few hundred bytes may still be
   * written, which were on their way. Default: true.
   */
  readonly writable?: boolean;
  /** Calls `listener` each time `writable` has become true. */
  onWritable?(listener: () => void): void;
  /** Returns up to `max` bytes of input; empty if there is none. */
  read(max: number): Uint8Array;
  /** Calls `listener` each time input arrives after there was none. */
  onReadable(listener: () => void): void;
  /** False while nobody is there: output is dropped, a named port's guest is told. Default: true. */
  readonly connected?: boolean;
  /** Calls `listener` each time `connected` has changed. */
  onConnected?(listener: () => void): void;
  /** The guest has opened or closed the port; a console's is open while it has a driver. */
  guestConnected?(isOpen: boolean): void;
}

/** Unread output that makes a console's transmitter busy: about what the kernel keeps in a pipe. */
export const MAX_UNREAD_OUTPUT = 64 * 1024;

/** A backend between a host that pushes input and a sink for output. */
export class CharPipe implements CharBackend {
  readonly #sink: (bytes: Uint8Array) => void;
  readonly #readable: (() => void)[] = [];
  readonly #drained: (() => void)[] = [];
  readonly #roomy: (() => void)[] = [];
  #input: Uint8Array[] = [];
  #pending = 0;
  #writable = true;

  constructor(sink: (bytes: Uint8Array) => void) {
    this.#sink = sink;
  }

  /** Bytes of input that the guest has not read. A host stops reading its source above some limit. */
  get pending(): number {
    return this.#pending;
  }

  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#input.push(bytes);
    this.#pending += bytes.length;
    if (this.#pending === bytes.length) for (const listener of this.#readable) listener();
  }

  /** Calls `listener` each time the guest has read the last byte of input. */
  onDrained(listener: () => void): void {
    this.#drained.push(listener);
  }

  write(bytes: Uint8Array): void {
    this.#sink(bytes);
  }

  get writable(): boolean {
    return this.#writable;
  }
  /** Set by the host: whether its reader keeps up. */
  set writable(keepsUp: boolean) {
    if (keepsUp === this.#writable) return;
    this.#writable = keepsUp;
    if (keepsUp) for (const listener of this.#roomy) listener();
  }
  onWritable(listener: () => void): void {
    this.#roomy.push(listener);
  }

  read(max: number): Uint8Array {
    const taken = new Uint8Array(Math.min(max, this.#pending));
    for (let done = 0; done < taken.length; ) {
      const [piece = taken] = this.#input;
      const part = piece.subarray(0, taken.length - done);
      taken.set(part, done);
      done += part.length;
      if (part.length === piece.length) this.#input.shift();
      else this.#input[0] = piece.subarray(part.length);
    }
    this.#pending -= taken.length;
    if (taken.length > 0 && this.#pending === 0) for (const listener of this.#drained) listener();
    return taken;
  }

  onReadable(listener: () => void): void {
    this.#readable.push(listener);
  }
}
