// The contract for every virtio device over mmio, modern and legacy, at work: features negotiated, queues set
// up, one request served or in flight.
import { contractSuite } from "./contract.ts";
import { drive, VIRTIO_DEVICES, virtioSubject } from "../support/virtio-devices.ts";
import { copyGuestMemory } from "../support/guest-memory.ts";

/** VIRTIO_BLK_T_IN of sector 0, a Tversion; the other devices do not read the first queue's request. */
const HEADERS: Readonly<Record<string, Uint8Array>> = {
  "virtio-blk": new Uint8Array(16),
  "virtio-blk-in-flight": new Uint8Array(16),
  "virtio-9p": Uint8Array.of(13, 0, 0, 0, 100, 255, 255, 0, 32, 0, 0, 0, 0),
};

for (const [name, make] of Object.entries(VIRTIO_DEVICES)) {
  // A description numbers the elements of an array only if there are several.
  const firstQueue = ["virtio-rng", "virtio-blk", "virtio-9p"].includes(name) ? "vq" : "vq[0]";
  for (const legacy of [false, true]) {
    contractSuite(
      `${name}${legacy ? "-legacy" : ""}`,
      () => {
        const subject = virtioSubject(make, legacy);
        return { ...subject, sections: [subject.transport.section] };
      },
      {
        arrange: async (subject) => {
          drive(subject, HEADERS[name] ?? new Uint8Array(0));
          if (name !== "virtio-blk-in-flight") await subject.device.quiesce();
        },
        prepareLoad: (target, source) => copyGuestMemory(target.memory, source.memory),
        wiring: [
          "kind",
          "legacy",
          "stateDefinition",
          "queues",
          "offeredFeatures",
          "board",
          "interruptStatus",
          "generation",
        ],
        refuses: [
          "host_features_sel",
          "guest_features_sel",
          "guest_page_shift",
          "queue_sel",
          `${firstQueue}.num`,
          // Nobody serves the queues of port 0, which is a console's.
          ...(name === "virtio-serial" ? [] : [`${firstQueue}.last_avail_idx`]),
        ],
      },
    );
  }
}
