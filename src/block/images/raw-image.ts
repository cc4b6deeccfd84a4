// A raw image: the file is the disk.
import { BlockError, type BlockFile } from "../block-file.ts";
import type { BlockImage, Extent } from "../block-image.ts";
import { isQcow2 } from "../qcow2/qcow2-header.ts";

const ZERO_PIECE = 1 << 20;
/** A write of fewer zeros costs less than a call of the process that makes system calls. */
const FEW_ZEROES = 1 << 16;

export class RawImage implements BlockImage {
  readonly format = "raw";
  readonly backing = undefined;
  readonly file: BlockFile;
  /** The format was guessed: a guest that wrote another format's header would have it opened as that. */
  readonly #isProbed: boolean;
  #sizeBytes: number;

  constructor(file: BlockFile, isProbed: boolean) {
    this.file = file;
    this.#isProbed = isProbed;
    this.#sizeBytes = file.size;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }
  get readonly(): boolean {
    return this.file.readonly;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    await this.file.read(offset, target);
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    if (offset === 0 && this.#isProbed && isQcow2(data)) {
      throw new BlockError(
        "block.probed",
        `${this.file.name}: a write of a qcow2 header to sector 0 of a raw image whose format was guessed; ` +
          "format=raw allows it",
      );
    }
    await this.file.write(offset, data);
  }

  readNow(offset: number, target: Uint8Array): boolean {
    return this.file.readNow?.(offset, target) ?? false;
  }

  writeNow(offset: number, data: Uint8Array): boolean {
    if (offset === 0 && this.#isProbed) return false;
    return this.file.writeNow?.(offset, data) ?? false;
  }

  /** Where the file system has to be written to, zeros that exist already are not, so that holes are kept. */
  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    if (mayUnmap && (await this.file.punch?.(offset, length)) === true) return;
    if (!mayUnmap && length >= FEW_ZEROES && (await this.file.zero?.(offset, length)) === true) return;
    const piece = new Uint8Array(Math.min(ZERO_PIECE, length));
    for (let done = 0; done < length; done += piece.length) {
      const part = piece.subarray(0, length - done);
      await this.file.read(offset + done, part);
      if (part.every((byte) => byte === 0)) continue;
      await this.file.write(offset + done, part.fill(0));
    }
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.file.punch?.(offset, length);
  }

  async flush(): Promise<void> {
    await this.file.flush();
  }

  async resize(sizeBytes: number): Promise<void> {
    await this.file.truncate(sizeBytes);
    this.#sizeBytes = sizeBytes;
  }

  extent(offset: number, length: number): Promise<Extent> {
    const { file } = this;
    return Promise.resolve({ length, kind: "data", depth: 0, isCompressed: false, host: offset, file });
  }

  async settle(): Promise<void> {
    if (!this.readonly) await this.file.flush();
  }

  async close(): Promise<void> {
    try {
      await this.settle();
    } finally {
      await this.file.close();
    }
  }
}
