// What a reset boots (firmware, kernel, ramdisk, command line), as it travels with a machine: the images'
// bytes in the RAM block "wherry/boot", which is outside the guest's address space, and their places in a
// subsection of wherry/machine. Only Wherry's own streams have them; one without is loaded, and the machine
// can be reset only if this side was given a kernel.
import { hex } from "../../base/hex.ts";
import { decodeUtf8, encodeUtf8 } from "../../base/text.ts";
import { GuestMemory, PAGE_SIZE, type RamBlock } from "../../memory/guest-memory.ts";
import { defineState, subsection, u8, u32, u64, varBuffer, varStructArray } from "../../state/schema.ts";
import type { CarriedBlock } from "../../vmm/machine.ts";
import { BootError, type LoadedImage, type Segment } from "./boot-image.ts";

/** What a reset writes to memory, and where harts start. */
export interface BootImages {
  readonly firmware: LoadedImage | undefined;
  readonly kernel: LoadedImage | undefined;
  readonly initrd: Segment | undefined;
  /** Kernel command line. */
  readonly append: string;
}

const MAX_SEGMENTS = 1024;
const MAX_APPEND = 1 << 20;
const KINDS = ["firmware", "kernel", "initrd"] as const;

const bootSegment = defineState(
  "wherry/machine/boot-segment",
  { version: 1 },
  {
    /** Index in KINDS. */
    image: u8.range(0, KINDS.length - 1),
    /** Where the segment's bytes are in the block. */
    blockOffset: u64,
    guestPhys: u64,
    fileSize: u64,
    memorySize: u64,
  },
);

/** Belongs to wherry/machine: see identity-section.ts. */
export const bootSubsection = subsection(
  "wherry/machine/boot",
  { version: 1, needed: ({ hasBoot }) => hasBoot === 1 },
  {
    hasBoot: u8.range(0, 1),
    firmwareEntry: u64,
    kernelEntry: u64,
    appendLength: u32,
    append: varBuffer("appendLength", MAX_APPEND),
    segmentCount: u32,
    segments: varStructArray(bootSegment, "segmentCount", MAX_SEGMENTS),
  },
);
/** What the subsection adds to the state. */
export type BootState = (typeof bootSubsection)["adds"];

/** The machine brings the firmware that it has in machine mode. */
export function bringsFirmware({ segments }: BootState): boolean {
  return segments.some(({ image }) => KINDS[image] === "firmware");
}

interface Placed {
  readonly kind: (typeof KINDS)[number];
  readonly offset: number;
  readonly segment: Segment;
}

export class BootBlock implements CarriedBlock {
  readonly name = "wherry/boot";
  readonly images: BootImages;
  readonly size: number;
  readonly #placed: readonly Placed[];
  readonly #maxSize: number;
  /** The block of the stream, until the machine takes its images. */
  #arrived: Uint8Array | undefined;
  #missing: readonly number[] = [];

  /**
   * `maxSize`: no block with more bytes is accepted. The images' bytes are copied, unless nobody else has
   * them (`areOwn`). Throws BootError if there is too much to send.
   */
  constructor(images: BootImages, maxSize: number, areOwn = false) {
    this.#maxSize = maxSize;
    const placed: Placed[] = [];
    let end = 0;
    for (const kind of KINDS) {
      const segments = kind === "initrd" ? [images.initrd] : images[kind]?.segments;
      for (const segment of segments ?? []) {
        if (segment === undefined) continue;
        // A page of the block is a page of guest memory.
        if (segment.guestPhys % PAGE_SIZE === 0) end = wholePages(end);
        const own = areOwn ? segment : { ...segment, bytes: segment.bytes.slice() };
        placed.push({ kind, offset: end, segment: own });
        end += segment.bytes.length;
      }
    }
    if (placed.length > MAX_SEGMENTS) {
      throw new BootError(
        "boot.elf",
        `the images have ${placed.length} segments, at most ${MAX_SEGMENTS} fit`,
      );
    }
    const { length } = encodeUtf8(images.append);
    if (length > MAX_APPEND) {
      throw new BootError("boot.append", `a command line of ${length} bytes, at most ${MAX_APPEND} fit`);
    }
    this.size = wholePages(end);
    this.#placed = placed;
    this.images = imagesOf(placed, images);
  }

  /** Made for each save: a machine does not hold its images twice. */
  get bytes(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.size);
    for (const { offset, segment } of this.#placed) bytes.set(segment.bytes, offset);
    return bytes;
  }

  guestPage(offset: number): number | undefined {
    return guestPage(this.#placed, offset);
  }

  receive(size: number): { memory: GuestMemory; block: RamBlock } {
    if (size > this.#maxSize || size % PAGE_SIZE !== 0) {
      const expected = `whole pages, at most ${this.#maxSize} bytes`;
      throw new BootError("boot.block", `RAM block ${this.name} has ${size} bytes, expected ${expected}`);
    }
    const dirty = new Int32Array(new SharedArrayBuffer(4 * Math.ceil(size / PAGE_SIZE / 32)));
    const block = { name: this.name, guestPhys: 0, size, hostOffset: 0, readonly: true, dirty };
    return { memory: new GuestMemory(new SharedArrayBuffer(size), [block]), block };
  }
  received(memory: GuestMemory, missing: readonly number[]): void {
    this.#arrived = memory.bytes;
    this.#missing = missing;
  }

  /** The state to be sent. */
  get state(): BootState {
    const { firmware, kernel, append } = this.images;
    const appendBytes = encodeUtf8(append);
    return {
      hasBoot: this.size === 0 ? 0 : 1,
      firmwareEntry: BigInt(firmware?.entry ?? 0),
      kernelEntry: BigInt(kernel?.entry ?? 0),
      appendLength: appendBytes.length,
      append: appendBytes,
      segmentCount: this.#placed.length,
      segments: this.#placed.map(({ kind, offset, segment }) => ({
        image: KINDS.indexOf(kind),
        blockOffset: BigInt(offset),
        guestPhys: BigInt(segment.guestPhys),
        fileSize: BigInt(segment.bytes.length),
        memorySize: BigInt(segment.memorySize),
      })),
    };
  }

  /**
   * The images that `state` describes, in the block that has arrived. `readPage` copies a page of guest
   * memory. Throws BootError if they contradict each other.
   */
  imagesIn(state: BootState, readPage: (guestPhys: number, target: Uint8Array) => boolean): BootImages {
    const bytes = this.#arrived ?? new Uint8Array(0);
    const placed = state.segments.map((segment): Placed => {
      const [offset, length] = [Number(segment.blockOffset), Number(segment.fileSize)];
      const memorySize = Number(segment.memorySize);
      if (offset + length > bytes.length || memorySize < length) {
        throw new BootError(
          "boot.block",
          `${length} bytes at ${offset} of RAM block ${this.name}, which has ${bytes.length} bytes, for ${memorySize}`,
        );
      }
      return {
        kind: KINDS[segment.image] ?? "kernel",
        offset,
        segment: {
          guestPhys: Number(segment.guestPhys),
          bytes: bytes.subarray(offset, offset + length),
          memorySize,
        },
      };
    });
    for (const offset of this.#missing) {
      const page = bytes.subarray(offset, offset + PAGE_SIZE);
      const from = guestPage(placed, offset);
      if (from === undefined || !readPage(from, page)) {
        throw new BootError("boot.block", `page ${offset / PAGE_SIZE} of RAM block ${this.name} is missing`);
      }
    }
    const images = imagesOf(placed, {
      firmware: { entry: Number(state.firmwareEntry) },
      kernel: { entry: Number(state.kernelEntry) },
      append: decodeUtf8(state.append),
    });
    for (const kind of ["firmware", "kernel"] as const) {
      const { entry, segments = [] } = images[kind] ?? {};
      if (
        entry === undefined ||
        segments.some((s) => entry >= s.guestPhys && entry < s.guestPhys + s.memorySize)
      )
        continue;
      throw new BootError("boot.block", `the ${kind} starts at ${hex(entry)}, which is outside of it`);
    }
    return images;
  }
}

function wholePages(size: number): number {
  return Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
}

function guestPage(placed: readonly Placed[], offset: number): number | undefined {
  for (const { offset: start, segment } of placed) {
    if (segment.guestPhys % PAGE_SIZE !== 0 || start % PAGE_SIZE !== 0) continue;
    if (offset >= start && offset < start + segment.bytes.length) return segment.guestPhys + offset - start;
  }
  return undefined;
}

function imagesOf(
  placed: readonly Placed[],
  of: {
    readonly firmware: { readonly entry: number } | undefined;
    readonly kernel: { readonly entry: number } | undefined;
    readonly append: string;
  },
): BootImages {
  const image = (kind: "firmware" | "kernel"): LoadedImage | undefined => {
    const segments = placed.filter((one) => one.kind === kind).map(({ segment }) => segment);
    if (segments.length === 0) return undefined;
    const end = Math.max(...segments.map(({ guestPhys, memorySize }) => guestPhys + memorySize));
    return { segments, entry: of[kind]?.entry ?? 0, end };
  };
  return {
    firmware: image("firmware"),
    kernel: image("kernel"),
    initrd: placed.find(({ kind }) => kind === "initrd")?.segment,
    append: of.append,
  };
}
