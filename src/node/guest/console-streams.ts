// The guest's serial console as web streams: output at the pace of its reader, input as it is written.
import type { ByteReadable, ByteWritable } from "./web-streams.ts";

/** The console's two directions. */
export interface ConsoleStreams {
  /** Output from the first use of `console` on. While it is not read, the guest's transmitter is busy. */
  readonly readable: ByteReadable;
  /** Bytes, or text. */
  readonly writable: ByteWritable;
}

const HIGH_WATER_BYTES = 64 * 1024;

/** Joins a listener for output and, once they are asked for, streams. */
export class ConsoleTap {
  #streams: ConsoleStreams | undefined;
  #controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>> | undefined;
  #goOn: (() => void) | undefined;

  /** Returns a promise while the reader is behind. */
  push(bytes: Uint8Array<ArrayBuffer>): Promise<void> | undefined {
    const controller = this.#controller;
    if (controller === undefined) return undefined;
    controller.enqueue(bytes);
    if ((controller.desiredSize ?? 1) > 0) return undefined;
    return new Promise((resolve) => {
      const before = this.#goOn;
      this.#goOn = () => {
        before?.();
        resolve();
      };
    });
  }

  streams(write: (input: string | Uint8Array) => void): ConsoleStreams {
    const isRead = (): void => {
      const goOn = this.#goOn;
      this.#goOn = undefined;
      goOn?.();
    };
    this.#streams ??= {
      readable: new ReadableStream<Uint8Array<ArrayBuffer>>(
        {
          start: (controller) => void (this.#controller = controller),
          pull: isRead,
          cancel: () => {
            this.#controller = undefined;
            isRead();
          },
        },
        { highWaterMark: HIGH_WATER_BYTES, size: (bytes) => bytes.length },
      ),
      writable: new WritableStream({ write }),
    };
    return this.#streams;
  }

  /** The machine is closed: the end of output. */
  close(): void {
    this.#controller?.close();
    this.#controller = undefined;
    this.#goOn?.();
  }
}
