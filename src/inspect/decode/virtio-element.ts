// A request that a virtio device has popped from its queue and not completed, as QEMU writes it: an image of
// the former C structure VirtQueueElement, in the byte order of QEMU's host, with the padding of a 64-bit
// host and room for 1024 buffers in each direction; host pointers are zero. With packed rings it is preceded
// by 4 bytes, the number of descriptors.
import type { FieldReader } from "./fields.ts";
import type { ByteOrder } from "./field-layout.ts";

const MAX = 1024;
const HEAD = 16;
/** Per buffer: guest-physical address, host pointer and length. */
const ADDRESS = 8;
const IOVEC = 16;
const SIZE = HEAD + 2 * MAX * (ADDRESS + IOVEC);

const countAt = (bytes: Uint8Array, at: number, order: ByteOrder): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, order === "little");

/** Byte order of an element `ahead` bytes after the cursor; undefined if there is none. */
function orderAhead(reader: FieldReader, ahead: number): ByteOrder | undefined {
  const head = reader.peek(HEAD, ahead);
  if (head === undefined || head.subarray(12).some((byte) => byte !== 0)) return undefined;
  for (const order of ["little", "big"] as const) {
    const [index, out, into] = [0, 4, 8].map((at) => countAt(head, at, order));
    if (index !== undefined && index < 32768 && (out ?? MAX + 1) <= MAX && (into ?? MAX + 1) <= MAX)
      return order;
  }
  return undefined;
}

/** True if an element, or its ndescs, begins `ahead` bytes after the cursor and fits completely. */
export const elementAhead = (reader: FieldReader, ahead: number): boolean =>
  reader.remaining >= ahead + SIZE &&
  (orderAhead(reader, ahead) !== undefined || orderAhead(reader, ahead + 4) !== undefined);

/** An array of MAX elements; the unused ones are one field. */
function array(reader: FieldReader, name: string, used: number, size: number, read: (name: string) => void) {
  reader.group(name, "array", () => {
    for (let i = 0; i < used; i++) read(`[${i}]`);
    if (used < MAX) reader.bytes(`[${used}..${MAX - 1}]`, (MAX - used) * size, "not in use", "unused");
  });
}

/** Reads one element as a group `elem`. */
export function readElement(reader: FieldReader): void {
  reader.group("elem", "VirtQueueElement", () => {
    let order = orderAhead(reader, 0);
    if (order === undefined) {
      order = orderAhead(reader, 4) ?? "little";
      // Fewer bytes than an element are an error of the caller, not a packed ring.
      if (reader.remaining >= SIZE + 4) reader.u32("ndescs");
    }
    const le = order;
    reader.u32("index", undefined, le);
    const out = Math.min(reader.u32("out_num", undefined, le), MAX);
    const into = Math.min(reader.u32("in_num", undefined, le), MAX);
    reader.bytes("padding", 4);
    const address = (name: string) => reader.u64(name, undefined, le);
    const iovec = (name: string) =>
      reader.group(name, "struct", () => {
        reader.u64("iov_base", undefined, le);
        reader.u64("iov_len", undefined, le);
      });
    array(reader, "in_addr", into, ADDRESS, address);
    array(reader, "out_addr", out, ADDRESS, address);
    array(reader, "in_sg", into, IOVEC, iovec);
    array(reader, "out_sg", out, IOVEC, iovec);
  });
}
