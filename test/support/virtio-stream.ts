// A hand-built stream of a board with one virtio device on virtio-mmio: features, queue and rings in guest
// memory as a test needs them.
import { ByteWriter } from "../../src/base/bytes.ts";
import { PAGE, page, StreamBuilder } from "./stream-builder.ts";

export interface VirtioStream {
  readonly machine?: string;
  readonly features?: bigint;
  readonly queueSize?: number;
  readonly lastAvail?: number;
  /** In the rings of guest memory. */
  readonly availIndex?: number;
  readonly usedIndex?: number;
  /** Guest-physical address of the descriptors; 0: no queue. */
  readonly desc?: bigint;
  readonly bigEndian?: boolean;
  /** More sections and RAM blocks of the machine. */
  readonly more?: (stream: StreamBuilder) => void;
  readonly blocks?: Readonly<Record<string, number>>;
  readonly ramSize?: number;
}

export const VIRTIO_IDSTR = "virtio-mmio@0000000010008000/virtio-rng";
const VERSION_1 = 1n << 32n;
const RAM_BASE = 0x8000_0000n;
const QUEUES = 1024;

function device(
  wanted: Required<Pick<VirtioStream, "features" | "queueSize" | "lastAvail" | "desc">>,
): Uint8Array {
  const { features, queueSize, lastAvail, desc } = wanted;
  const out = new ByteWriter();
  out.u32(0).u32(0).u32(0); // the transport's selectors
  out
    .u8(0x0f)
    .u8(0)
    .u16(0)
    .u32(Number(features & 0xffff_ffffn))
    .u32(0)
    .u32(1);
  out.u32(queueSize).u32(4096).u64(desc).u16(lastAvail);
  if (features >= VERSION_1) {
    out.u8(5).countedString("virtio/64bit_features").u32(1).u64(features);
    out.u8(5).countedString("virtio/virtqueues").u32(1);
    for (let queue = 0; queue < QUEUES; queue++) {
      out.u64(queue === 0 ? desc + BigInt(PAGE) : 0n);
      out.u64(queue === 0 ? desc + 2n * BigInt(PAGE) : 0n);
    }
  }
  return out.finish();
}

/**
 * The stream's bytes. With `desc` 0x80001000 descriptors, available and used ring are in three pages of 4
 * KiB.
 */
export function virtioStream(wanted: VirtioStream = {}): Uint8Array<ArrayBuffer> {
  const { features = VERSION_1, queueSize = 256, lastAvail = 5, desc = RAM_BASE + BigInt(PAGE) } = wanted;
  const { availIndex = 6, usedIndex = 5, bigEndian = false, ramSize = 16 * PAGE } = wanted;
  const stream = new StreamBuilder().configuration(wanted.machine ?? "virt");
  const ram = wanted.machine?.startsWith("s390") === true ? "s390.ram" : "riscv_virt_board.ram";
  stream.ramStart({ [ram]: ramSize, ...wanted.blocks });
  stream.ramPart((out) => {
    const ring = (index: number) => {
      const bytes = new Uint8Array(PAGE);
      new DataView(bytes.buffer).setUint16(2, index, !bigEndian);
      return bytes;
    };
    // An older content of the page comes first.
    page(out, ram, 2 * PAGE, ring(0x7777));
    page(out, ram, 3 * PAGE, ring(usedIndex));
    page(out, ram, 2 * PAGE, ring(availIndex));
  }, 3);
  const bytes = device({ features, queueSize, lastAvail, desc });
  const fields = [{ name: "virtio", type: "virtio", size: bytes.length }];
  stream.device(10, VIRTIO_IDSTR, { vmsd_name: "virtio-rng", fields }, (out) => void out.bytes(bytes));
  wanted.more?.(stream);
  return stream.end();
}
