// A BlockBackend in memory for tests: records operations, and can be made to wait or to fail.
import type { BlockBackend } from "../../src/devices/virtio/block-backend.ts";

export class MemoryBlock implements BlockBackend {
  readonly bytes: Uint8Array;
  readonly readonly: boolean;
  readonly log: string[] = [];
  /** The error of the next operations. */
  failure: Error | undefined;
  /** While set, operations wait for it. */
  gate: Promise<void> = Promise.resolve();

  constructor(sizeBytes: number, readonly = false) {
    this.bytes = new Uint8Array(sizeBytes);
    this.readonly = readonly;
  }
  get sizeBytes(): number {
    return this.bytes.length;
  }
  async #enter(what: string): Promise<void> {
    this.log.push(what);
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
  }
  async read(offset: number, target: Uint8Array): Promise<void> {
    await this.#enter(`read ${offset} ${target.length}`);
    target.set(this.bytes.subarray(offset, offset + target.length));
  }
  async write(offset: number, data: Uint8Array): Promise<void> {
    const copy = data.slice();
    await this.#enter(`write ${offset} ${data.length}`);
    this.bytes.set(copy, offset);
  }
  flush(): Promise<void> {
    return this.#enter("flush");
  }
  discard(offset: number, length: number): Promise<void> {
    return this.#enter(`discard ${offset} ${length}`);
  }
  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    await this.#enter(`zero ${offset} ${length} ${mayUnmap}`);
    this.bytes.fill(0, offset, offset + length);
  }
  inactivate(): Promise<void> {
    return this.#enter("inactivate");
  }
  activate(): Promise<void> {
    return this.#enter("activate");
  }
}

/** One that the host's page cache serves, but for every `slowEach`th request. */
export class QuickBlock extends MemoryBlock {
  readonly #slowEach: number;
  #count = 0;

  constructor(sizeBytes: number, slowEach = Number.POSITIVE_INFINITY, readonly = false) {
    super(sizeBytes, readonly);
    this.#slowEach = slowEach;
  }
  #isSlow(): boolean {
    return this.failure !== undefined || ++this.#count % this.#slowEach === 0;
  }
  readNow(offset: number, target: Uint8Array): boolean {
    if (this.#isSlow()) return false;
    this.log.push(`read now ${offset} ${target.length}`);
    target.set(this.bytes.subarray(offset, offset + target.length));
    return true;
  }
  writeNow(offset: number, data: Uint8Array): boolean {
    if (this.#isSlow()) return false;
    this.log.push(`write now ${offset} ${data.length}`);
    this.bytes.set(data, offset);
    return true;
  }
}
