// The migrated state of virtio-blk in addition to the core's: the requests in flight in QEMU's format (for
// each a byte 1, the queue number if there are several queues, and the element; finally a byte 0).
import { type Codec, type DescribedField, Field } from "../../state/field.ts";
import { elementCodec, ELEMENT_SIZE } from "./virtqueue-element.ts";
import { VIRTQUEUE_MAX_SIZE } from "./virtio-feature-bits.ts";
import type { Chain } from "./virtqueue.ts";

/** A request that the driver made available and the device has not returned yet. */
export interface BlkRequest extends Chain {
  readonly queue: number;
}

/** `queues` is the number of request queues. */
export function blkFields(queues: number): { requests: Field<BlkRequest[]> } {
  return { requests: new Field(requestsCodec(queues)) };
}

function requestsCodec(queues: number): Codec<BlkRequest[]> {
  const type = "virtio_blk_requests";
  return {
    type: "struct",
    width: 0,
    uniform: false,
    schema: { type, size: 0 },
    create: () => [],
    validate(value, place, state) {
      for (const request of value) {
        if (!(request.queue < queues)) place.fail("virtio.queue", `below ${queues}`, `${request.queue}`);
        elementCodec.validate(request, place, state);
      }
    },
    write(writer, value) {
      for (const request of value) {
        writer.u8(1);
        if (queues > 1) writer.u32(request.queue);
        elementCodec.write(writer, request);
      }
      writer.u8(0);
    },
    read(reader, place, state) {
      const value: BlkRequest[] = [];
      for (let more = reader.u8(); more !== 0; more = reader.u8()) {
        if (more !== 1 || value.length >= queues * VIRTQUEUE_MAX_SIZE) {
          place.fail("virtio.requests", "1 before a request or 0 after the last", `${more}`);
        }
        const queue = queues > 1 ? reader.u32() : 0;
        value.push({ queue, ...elementCodec.read(reader, place, state) });
      }
      return value;
    },
    assign(target, source) {
      target.splice(0, target.length, ...source);
      return target;
    },
    scalars: () => [],
    describe(value) {
      const fields: DescribedField[] = value.flatMap((_, index) => [
        { name: "more", index, type: "uint8", size: 1 },
        ...(queues > 1 ? [{ name: "queue", index, type: "uint32", size: 4 }] : []),
        { name: "element", index, type: elementCodec.type, size: ELEMENT_SIZE },
      ]);
      fields.push({ name: "more", index: value.length, type: "uint8", size: 1 });
      const size = fields.reduce((sum, field) => sum + field.size, 0);
      return [{ size, struct: { vmsd_name: type, version: 1, fields } }];
    },
  };
}
