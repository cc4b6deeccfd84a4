// How a machine's state looks in somebody else's stream: QEMU's, release by release. The machine's board makes the
// profiles (it knows what QEMU's board of that name has); migration writes and reads by them and knows no device.
import type { Section } from "../state/section.ts";

/** Why this machine, as it is, cannot go there. */
export interface Refusal {
  /** Stable, such as `trade.ram-size`, `trade.device`. */
  readonly code: string;
  readonly message: string;
  /** What to change on which side. */
  readonly cure: string;
}

/** For writing: one release. */
export interface StreamProfile {
  /** `qemu-7.2`. */
  readonly name: string;
  /**
   * Everything but RAM and globalstate (which migration writes, as the last one, since it knows what the machine did
   * before), in the order in which it is written. `encode` is called while the machine stands still.
   */
  readonly sections: readonly Section[];
  /** RAM blocks in the release's order: each is one of the machine's own, or has `bytes` that the profile holds. */
  readonly ramBlocks: readonly {
    readonly name: string;
    readonly size: number;
    readonly bytes?: Uint8Array<ArrayBuffer>;
  }[];
  /** Commands that the release does not understand are left out: SWITCHOVER_START before 10.x. */
  readonly switchoverStart: boolean;
  /** Empty if the machine can go. May fetch vCPU state; the machine goes on running. */
  refusals(): Promise<readonly Refusal[]>;
  /** The command lines that fit each other: QEMU's there and Wherry's here. */
  commandLines(): { readonly qemu: readonly string[]; readonly wherry: readonly string[] };
}

/** For reading: any release's stream, told apart by what is in it. */
export interface ForeignLoader {
  /** Which release the stream is from, so far as the sections decoded until now tell. */
  readonly release: string | undefined;
  /** Sections that become devices, by `idstr/instance`. Each accepts all versions that the releases write. */
  readonly sections: readonly Section[];
  /** Why a section is dropped (`slirp`: connections end), or undefined if it is not known at all. */
  dropped(idstr: string): string | undefined;
  /**
   * Why a RAM block that this board does not have is read and dropped (`/rom@etc/acpi/tables`: made anew at each start),
   * or undefined if it is not known at all.
   */
  droppedBlock(name: string): string | undefined;
  /** After all sections were applied and before vCPUs are written back: what the release did not say is rebuilt. */
  rebuild(): void;
}

export interface ForeignProfiles {
  /** Newest last. */
  readonly names: readonly string[];
  /** Throws WherryError for a name that is not in `names`. */
  profile(name: string): StreamProfile;
  loader(): ForeignLoader;
}
