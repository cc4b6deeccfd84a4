// State of a virtio-gpu after its virtio state: the guest's resources with their pixels (2D), or, in a
// subsection, their addresses in guest memory (blobs), and the contents of each output. QEMU 2.x to 11.x.
import type { FieldReader } from "./fields.ts";
import { readLayout } from "./field-layout.ts";

const BYTES_PER_PIXEL = 4;
const SCANOUT =
  "resource_id:4 width:4 height:4 x:4 y:4 cursor.resource_id:4 cursor.hot_x:4 cursor.hot_y:4 cursor.pos.x:4 cursor.pos.y:4";
/** Fields of an output's framebuffer, which QEMU 8.2 and later write. */
const FRAMEBUFFER = " fb.format:4 fb.bytes_pp:4 fb.width:4 fb.height:4 fb.stride:4 fb.offset:4";
const SCANOUT_SIZE = 40;
const FRAMEBUFFER_SIZE = 24;

function guestPages(reader: FieldReader, count: number): void {
  reader.group("iov", "array", () => {
    for (let i = 0; i < count; i++)
      reader.group(`[${i}]`, "struct", () => readLayout(reader, "addr:8 len:4"));
  });
}

/** A list of resources with nonzero ids, ended by a zero. */
function resources(reader: FieldReader, read: () => void): void {
  reader.group("resources", "list", () => {
    for (let i = 0; reader.peek(4)?.some((byte) => byte !== 0) === true; i++) {
      reader.group(`[${i}]`, "struct", () => {
        reader.u32("resource_id");
        read();
      });
    }
    reader.u32("end");
  });
}

export function readGpu(reader: FieldReader): void {
  resources(reader, () => {
    const { width = 0, height = 0, iov_cnt = 0 } = readLayout(reader, "width:4 height:4 format:4 iov_cnt:4");
    guestPages(reader, iov_cnt);
    reader.bytes("pixels", width * height * BYTES_PER_PIXEL);
  });
  reader.u32("enable");
  scanouts(reader, reader.u32("max_outputs"));
}

/**
 * QEMU decides for each output whether it writes the framebuffer, and tests a wrong address for all but
 * the first (seen in 10.0 and 11.1): streams of several outputs contain it for some of them, without a
 * mark for which.
 */
function scanouts(reader: FieldReader, outputs: number): void {
  const more = reader.remaining - outputs * SCANOUT_SIZE;
  if (more > 0 && more < outputs * FRAMEBUFFER_SIZE) {
    const meaning = `${outputs} outputs, ${more / FRAMEBUFFER_SIZE} of them with a framebuffer: the stream does not contain which ones`;
    reader.bytes("scanout", reader.remaining, meaning);
    return;
  }
  const layout = more > 0 ? SCANOUT + FRAMEBUFFER : SCANOUT;
  reader.group("scanout", "array", () => {
    for (let i = 0; i < outputs; i++) reader.group(`[${i}]`, "struct", () => readLayout(reader, layout));
  });
}

export function readGpuBlobs(reader: FieldReader): void {
  resources(reader, () => {
    const { iov_cnt = 0 } = readLayout(reader, "blob_size:4 iov_cnt:4");
    guestPages(reader, iov_cnt);
  });
}
