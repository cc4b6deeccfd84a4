// Web streams in the types of the API, which must not depend on the libraries of a program's compiler: the
// part of ReadableStream and WritableStream that every one has. The values are the platform's own streams.

/** A ReadableStream of bytes. */
export interface ByteReadable extends AsyncIterable<Uint8Array<ArrayBuffer>> {
  getReader(): {
    read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array<ArrayBuffer> | undefined }>;
    cancel(reason?: unknown): Promise<void>;
    releaseLock(): void;
  };
  cancel(reason?: unknown): Promise<void>;
}

/** A WritableStream of bytes. */
export interface ByteWritable {
  getWriter(): {
    write(piece: Uint8Array): Promise<void>;
    close(): Promise<void>;
    abort(reason?: unknown): Promise<void>;
    releaseLock(): void;
  };
  close(): Promise<void>;
  abort(reason?: unknown): Promise<void>;
}
