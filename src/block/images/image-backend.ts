// An image as the backend of a virtio disk, for a platform that has no files to lock: pages, tests.
import type { BlockImage } from "../block-image.ts";

/** A disk over an image, for `drives` of VirtioParts. */
export class ImageBackend {
  readonly image: BlockImage;

  constructor(image: BlockImage) {
    this.image = image;
  }

  /** Bytes of the disk. */
  get sizeBytes(): number {
    return this.image.sizeBytes;
  }
  /** The guest cannot write to it. */
  get readonly(): boolean {
    return this.image.readonly;
  }
  read(offset: number, target: Uint8Array): Promise<void> {
    return this.image.read(offset, target);
  }
  write(offset: number, data: Uint8Array): Promise<void> {
    return this.image.write(offset, data);
  }
  flush(): Promise<void> {
    return this.image.flush();
  }
  discard(offset: number, length: number): Promise<void> {
    return this.image.discard(offset, length);
  }
  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    return this.image.writeZeroes(offset, length, mayUnmap);
  }
  resize(sizeBytes: number): Promise<void> {
    return this.image.resize(sizeBytes);
  }
  inactivate(): Promise<void> {
    return this.image.settle();
  }
  async activate(): Promise<void> {}
}
