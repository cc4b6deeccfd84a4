// QMP commands for disks. Shapes as in qapi/block-core.json of QEMU 10.0. Left out: all jobs, and nodes: a
// disk has its device's name only.
import { int, optional, QmpError, str } from "./qapi.ts";
import { action, type QmpCommand } from "./qmp-command.ts";

/** A disk that the monitor can change. */
export interface MonitoredDisk {
  /** `virtio0` is the first. */
  readonly name: string;
  /** Rejects with WherryError. */
  resize(sizeBytes: number): Promise<void>;
}

export function blockCommands(disks: readonly MonitoredDisk[]): QmpCommand[] {
  return [
    action(
      "block_resize",
      { device: optional(str), "node-name": optional(str), size: int },
      async ({ device = "", "node-name": node = "", size }) => {
        const disk = disks.find(({ name }) => name === (device || node));
        if (disk === undefined)
          throw new QmpError(`Cannot find device='${device}' nor node-name='${node}'`, "GenericError");
        if (size <= 0) throw new QmpError("Parameter 'size' expects a >0 size");
        await disk.resize(size);
      },
    ),
  ];
}
