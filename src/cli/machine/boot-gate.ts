// The console of a machine whose initial ramdisk stops before it touches the disk (guests/debian/root-init,
// with wherry.gate on the kernel's command line): it prints a mark, and goes on when it has read a line with
// words for this boot. Until then, nothing of a user's input reaches the guest.
import type { CharBackend } from "../../devices/char-backend.ts";
import { decodeUtf8, encodeUtf8 } from "../../base/text.ts";

/** An operating system command that no terminal has: it would be ignored if it were shown. */
const MARK = encodeUtf8("\u001b]wherry;gate\u0007");

const MAX_LINE = 1024;

export interface BootGateOptions {
  /** The line, without its end. */
  readonly line: string;
  /** The guest waits, from a state that was saved there: the line is there at once. */
  readonly isWaiting: boolean;
  /** The guest has left the gate behind; `shown` is its unfinished line. */
  readonly isOpen: boolean;
  readonly shown?: string | undefined;
  /** The guest has come to the gate; it gets the line afterwards. */
  readonly onMark: () => Promise<void>;
}

export class BootGate implements CharBackend {
  readonly #backend: CharBackend;
  readonly #options: BootGateOptions;
  readonly #readable: (() => void)[] = [];
  #isOpen: boolean;
  /** What is left of the line. */
  #line: Uint8Array = new Uint8Array(0);
  /** Bytes of the mark that have come. */
  #matched = 0;
  #lastLine: Uint8Array = new Uint8Array(0);

  constructor(backend: CharBackend, options: BootGateOptions) {
    this.#backend = backend;
    this.#options = options;
    this.#isOpen = options.isOpen;
    if (options.isWaiting) this.#open();
    if (options.shown !== undefined) this.#show(encodeUtf8(options.shown));
  }

  get writable(): boolean {
    return this.#backend.writable ?? true;
  }
  onWritable(listener: () => void): void {
    this.#backend.onWritable?.(listener);
  }

  /** The machine starts anew. */
  close(): void {
    this.#isOpen = false;
    this.#line = new Uint8Array(0);
    this.#matched = 0;
  }

  /** The guest's output since the last end of a line: a shell's prompt, perhaps. */
  get lastLine(): string {
    return decodeUtf8(this.#lastLine);
  }

  #show(bytes: Uint8Array): void {
    const end = bytes.lastIndexOf(10);
    const line = end < 0 ? [...this.#lastLine, ...bytes] : bytes.slice(end + 1);
    this.#lastLine = Uint8Array.from(line.slice(-MAX_LINE));
    this.#backend.write(bytes);
  }

  write(bytes: Uint8Array): void {
    if (this.#isOpen) return this.#show(bytes);
    const shown: number[] = [];
    for (const byte of bytes) {
      if (byte !== MARK[this.#matched]) {
        shown.push(...MARK.subarray(0, this.#matched));
        this.#matched = 0;
      }
      if (byte === MARK[this.#matched]) this.#matched++;
      else shown.push(byte);
      if (this.#matched < MARK.length) continue;
      this.#matched = 0;
      void this.#options.onMark().finally(() => this.#open());
    }
    if (shown.length > 0) this.#show(Uint8Array.from(shown));
  }

  #open(): void {
    this.#line = encodeUtf8(`${this.#options.line}\n`);
    this.#isOpen = true;
    for (const listener of this.#readable) listener();
  }

  read(max: number): Uint8Array {
    if (!this.#isOpen) return new Uint8Array(0);
    if (this.#line.length === 0) return this.#backend.read(max);
    const part = this.#line.slice(0, max);
    this.#line = this.#line.subarray(part.length);
    // What was typed meanwhile follows.
    if (this.#line.length === 0) for (const listener of this.#readable) queueMicrotask(listener);
    return part;
  }

  onReadable(listener: () => void): void {
    this.#readable.push(listener);
    this.#backend.onReadable(listener);
  }
}
