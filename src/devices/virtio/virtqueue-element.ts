// Requests popped and not returned, in the format of QEMU's streams: the memory image of a VirtQueueElement
// of x86-64 or another little-endian 64-bit host, with 1024 addresses and lengths each way. Host pointers in
// it are written as zero and ignored when read.
import type { ByteReader, ByteWriter } from "../../base/bytes.ts";
import type { Codec } from "../../state/field.ts";
import type { Place } from "../../state/place.ts";
import { VIRTQUEUE_MAX_SIZE } from "./virtio-feature-bits.ts";
import type { Chain, Segment } from "./virtqueue.ts";

const IN_ADDR = 16;
const OUT_ADDR = IN_ADDR + 8 * VIRTQUEUE_MAX_SIZE;
const IN_SG = OUT_ADDR + 8 * VIRTQUEUE_MAX_SIZE;
const OUT_SG = IN_SG + 16 * VIRTQUEUE_MAX_SIZE;
/** Size of one element on the wire, in bytes. */
export const ELEMENT_SIZE = OUT_SG + 16 * VIRTQUEUE_MAX_SIZE;

function writeElement(writer: ByteWriter, chain: Chain): void {
  const bytes = new Uint8Array(ELEMENT_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, chain.head, true);
  view.setUint32(4, chain.readable.length, true);
  view.setUint32(8, chain.writable.length, true);
  const put = (segments: readonly Segment[], addr: number, sg: number): void => {
    for (const [i, { guestPhys, length }] of segments.entries()) {
      view.setBigUint64(addr + 8 * i, BigInt(guestPhys), true);
      view.setBigUint64(sg + 16 * i + 8, BigInt(length), true);
    }
  };
  put(chain.writable, IN_ADDR, IN_SG);
  put(chain.readable, OUT_ADDR, OUT_SG);
  writer.bytes(bytes);
}

/** Returns undefined if the counts are impossible. Addresses are not checked against RAM. */
function readElement(reader: ByteReader): Chain | undefined {
  const bytes = reader.bytes(ELEMENT_SIZE);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const readable = view.getUint32(4, true);
  const writable = view.getUint32(8, true);
  if (readable + writable > VIRTQUEUE_MAX_SIZE) return undefined;
  const get = (count: number, addr: number, sg: number): Segment[] =>
    Array.from({ length: count }, (_, i) => ({
      guestPhys: Number(view.getBigUint64(addr + 8 * i, true)),
      length: Number(view.getBigUint64(sg + 16 * i + 8, true)),
    }));
  return {
    head: view.getUint32(0, true),
    readable: get(readable, OUT_ADDR, OUT_SG),
    writable: get(writable, IN_ADDR, IN_SG),
  };
}

function validate(chain: Chain, place: Place): void {
  const count = chain.readable.length + chain.writable.length;
  if (count > VIRTQUEUE_MAX_SIZE)
    place.fail("virtio.element", `at most ${VIRTQUEUE_MAX_SIZE} segments`, `${count}`);
  if (!(chain.head >= 0 && chain.head < VIRTQUEUE_MAX_SIZE)) {
    place.fail("virtio.element", `a descriptor below ${VIRTQUEUE_MAX_SIZE}`, `${chain.head}`);
  }
}

export const elementCodec: Codec<Chain> = {
  type: "buffer",
  width: 0,
  uniform: true,
  schema: { type: "virtqueue_element", size: ELEMENT_SIZE },
  create: () => ({ head: 0, readable: [], writable: [] }),
  validate,
  write: writeElement,
  read: (reader, place) =>
    readElement(reader) ?? place.fail("virtio.element", `at most ${VIRTQUEUE_MAX_SIZE} segments`, "more"),
  assign: (_target, source) => source,
  scalars: () => [],
  describe: () => [{ size: ELEMENT_SIZE }],
};
