// An open file that is closed after the last request that uses it, whatever a guest clunks meanwhile.
import { FileError } from "./linux-errno.ts";
import type { OpenFile } from "./file-tree.ts";

export class FileHandle9p {
  readonly #file: OpenFile;
  readonly #onClosed: () => void;
  #uses = 0;
  #isClosing = false;
  readonly #closed: Promise<void>;
  #finish: (result: Promise<void>) => void = () => {};
  /** Called when it is to be closed. */
  onClosing: () => void = () => {};

  constructor(file: OpenFile, onClosed: () => void) {
    this.#file = file;
    this.#onClosed = onClosed;
    this.#closed = new Promise((resolve) => (this.#finish = resolve));
  }

  async use<R>(work: (file: OpenFile) => Promise<R>): Promise<R> {
    if (this.#isClosing) throw new FileError("EBADF");
    this.#uses++;
    try {
      return await work(this.#file);
    } finally {
      if (--this.#uses === 0 && this.#isClosing) this.#close();
    }
  }

  /** Resolves when it is closed; rejects with what the close reports, such as a full disk. */
  close(): Promise<void> {
    if (!this.#isClosing) {
      this.#isClosing = true;
      this.onClosing();
      if (this.#uses === 0) this.#close();
    }
    return this.#closed;
  }

  #close(): void {
    this.#onClosed();
    this.#finish(this.#file.close());
  }
}
