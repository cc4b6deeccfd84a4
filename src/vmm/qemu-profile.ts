// A machine's state in QEMU's streams, by release. The board makes the profiles, since it knows the devices
// of QEMU's board of the same name; migration reads and writes by them and knows no device.
import type { Section } from "../state/section.ts";

/** A reason why this machine, in its present state, cannot be moved to that release. */
export interface Refusal {
  /** A stable code, such as `qemu.ram-size` or `qemu.device`. */
  readonly code: string;
  readonly message: string;
  /** The change that is needed, and on which side. */
  readonly cure: string;
}

/** Writes streams for one release. */
export interface QemuProfile {
  /** Such as `qemu-7.2`. */
  readonly name: string;
  /**
   * All sections except RAM and globalstate, in the order in which they are written. Migration writes
   * globalstate itself, as the last one, since it knows the run state before the stop. `encode` is called
   * while the machine is stopped.
   */
  readonly sections: readonly Section[];
  /**
   * RAM blocks in the release's order: each is one of the machine's, or has `bytes` that the profile holds.
   */
  readonly ramBlocks: readonly {
    readonly name: string;
    readonly size: number;
    readonly bytes?: Uint8Array<ArrayBuffer>;
  }[];
  /** False if the release does not know the command SWITCHOVER_START (before 10.x): then it is not sent. */
  readonly switchoverStart: boolean;
  /** Empty if the machine can go. May fetch vCPU state; the machine keeps running. */
  refusals(): Promise<readonly Refusal[]>;
  /** Command lines of equal machines for QEMU there and Wherry here. */
  commandLines(): { readonly qemu: readonly string[]; readonly wherry: readonly string[] };
}

/** Reads the streams of all releases and detects the release from the contents. */
export interface QemuStreamLoader {
  /** The release that wrote the stream, as far as the sections decoded so far tell. */
  readonly release: string | undefined;
  /** Sections that set devices, by `idstr/instance`. Each accepts the versions of all releases. */
  readonly sections: readonly Section[];
  /** The reason to drop a section (`slirp`: connections end); undefined if the section is unknown. */
  dropped(idstr: string): string | undefined;
  /**
   * The reason to read and drop a RAM block that this board lacks (`/rom@etc/acpi/tables`: rebuilt at each
   * start); undefined if the block is unknown.
   */
  droppedBlock(name: string): string | undefined;
  /**
   * Called after all sections were applied, before vCPUs are written back: rebuilds what the release does not
   * write.
   */
  rebuild(): void;
}

export interface QemuStreams {
  /** Newest last. */
  readonly names: readonly string[];
  /** Throws WherryError for a name that is not in `names`. */
  profile(name: string): QemuProfile;
  loader(): QemuStreamLoader;
}
