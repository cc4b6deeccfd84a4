// Reasons why a running machine cannot move to a release of QEMU.
import { GUEST_OFFLOADS, HOST_OFFLOADS } from "../../devices/virtio/virtio-net-control.ts";
import type { Refusal } from "../../vmm/qemu-profile.ts";
import { keptHart } from "./qemu-kept.ts";
import type { QemuParts } from "./qemu-parts.ts";
import type { Release } from "./qemu-releases.ts";

const VIRTIO_CONSOLE_F_SIZE = 1n;

export function refusals(parts: QemuParts, release: Release): readonly Refusal[] {
  const { machine, cpus, isaExtensions, rtcClock, virtio } = parts;
  const kept = cpus.all[0] && keptHart(cpus.all[0]);
  const found: Refusal[] = [];
  if (machine.vm.builtinFirmware) {
    found.push({
      code: "qemu.firmware",
      message: "Wherry's built-in firmware owns machine mode: QEMU's harts would have none",
      cure: "start the guest with --firmware FILE (OpenSBI)",
    });
  }
  if (kept === undefined) {
    const missing = isaExtensions.filter(
      (e) => e in release.extensions && release.extensions[e] === undefined,
    );
    if (missing.length > 0) {
      found.push({
        code: "qemu.extensions",
        message: `the guest was told of ${missing.join(", ")}, which harts of ${release.name} lack`,
        cure: `start the guest with fewer extensions (--isa ${release.name}), or move it to a newer QEMU`,
      });
    }
  } else if (kept.release.generation > release.generation) {
    found.push({
      code: "qemu.extensions",
      message: `the guest started on ${kept.release.name} and was told of its harts' extensions, some of which ${release.name} lacks`,
      cure: `move it to ${kept.release.name} or newer`,
    });
  }
  if (rtcClock === "vm") {
    found.push({
      code: "qemu.rtc",
      message: "the real-time clock follows the guest's time, QEMU's follows the host's: the date would jump",
      cure: "start the guest with --rtc clock=host, and without --icount",
    });
  }
  for (const tag of parts.mountedShares()) {
    found.push({
      code: "qemu.share",
      message: `the guest has the share ${tag} mounted, and QEMU moves no machine with a mounted share`,
      cure: "unmount it in the guest (umount), and mount it again there",
    });
  }
  for (const { kind, guestFeatures, queues, queueSizes } of virtio) {
    const large = queueSizes().findIndex((size, i) => size > (queues[i] ?? 0));
    if (release.ownQueueSizes && large >= 0) {
      found.push({
        code: "qemu.queue-size",
        message: `${kind}: the guest's driver chose ${queueSizes()[large]} entries for queue ${large}, ${release.name} accepts at most ${queues[large]}`,
        cure: "move it to an older release, or restart the guest there",
      });
    }
    if (kind === "virtio-net" && (guestFeatures() & (GUEST_OFFLOADS | HOST_OFFLOADS)) !== 0n) {
      found.push({
        code: "qemu.features",
        message:
          "virtio-net: the guest receives or sends large frames without checksums, which QEMU's user network and sockets do not take",
        cure: "start the guest with --net user,offload=off",
      });
    }
    if (kind === "virtio-console" && (guestFeatures() & VIRTIO_CONSOLE_F_SIZE) !== 0n) {
      found.push({
        code: "qemu.features",
        message: "virtio-console: the guest uses VIRTIO_CONSOLE_F_SIZE, which QEMU does not offer",
        cure: "start the guest with a console that has no size",
      });
    }
  }
  return found;
}

/** Extensions that a guest may be told of if it must be able to move to `release`. */
export function sharedExtensions(isaExtensions: readonly string[], release: Release): string[] {
  return isaExtensions.filter((e) => !(e in release.extensions) || release.extensions[e] !== undefined);
}
