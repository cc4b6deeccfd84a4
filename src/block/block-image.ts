// A disk as its guest sees it: the contents of an image, whatever its format and whatever it is based on.
import type { BlockFile } from "./block-file.ts";

/** How an image's file stores its disk. */
export type ImageFormat = "raw" | "qcow2";

/** A range whose blocks are alike. */
export interface Extent {
  readonly length: number;
  /** `data`: stored somewhere; `zero`: reads as zeros; `absent`: neither here nor in a backing image. */
  readonly kind: "data" | "zero" | "absent";
  /** In which image of the chain it was found: 0 is the image itself, 1 its backing image. */
  readonly depth: number;
  readonly isCompressed: boolean;
  /** Where `file` has it, if it is stored there as it is. */
  readonly host: number | undefined;
  readonly file: BlockFile;
}

/** Offsets and lengths are in bytes, multiples of 512, within `sizeBytes`. */
export interface BlockImage {
  readonly format: ImageFormat;
  readonly file: BlockFile;
  readonly sizeBytes: number;
  readonly readonly: boolean;
  /** What is read where nothing is stored here. */
  readonly backing: BlockImage | undefined;
  read(offset: number, target: Uint8Array): Promise<void>;
  write(offset: number, data: Uint8Array): Promise<void>;
  /** As `read`, before it returns. False if that might take long, or fails: then `read` does it. */
  readNow(offset: number, target: Uint8Array): boolean;
  /** As `write`, before it returns. False if that might take long, or fails: then `write` does all of it. */
  writeNow(offset: number, data: Uint8Array): boolean;
  /** The range reads as zeros afterwards. `mayUnmap`: its space may be released. */
  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void>;
  /** The contents of the range no longer matter. */
  discard(offset: number, length: number): Promise<void>;
  flush(): Promise<void>;
  /** A part that is new reads as zeros. */
  resize(sizeBytes: number): Promise<void>;
  /** What is at `offset`, for at most `length` bytes. */
  extent(offset: number, length: number): Promise<Extent>;
  /** Writes all that is pending: the files are then as after `close`. */
  settle(): Promise<void>;
  /** Settles and closes the files of the whole chain. */
  close(): Promise<void>;
}

/** Beyond the end of `image` are zeros. */
export async function readWithin(image: BlockImage, offset: number, target: Uint8Array): Promise<void> {
  const inside = Math.max(0, Math.min(target.length, image.sizeBytes - offset));
  target.fill(0, inside);
  if (inside > 0) await image.read(offset, target.subarray(0, inside));
}
