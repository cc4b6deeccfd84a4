// The three releases of QEMU that machines move to and from (Debian 12, 13 and 13's backports): the
// differences in the streams of their RISC-V `virt` boards. Facts are from the VMDESCRIPTIONs in their
// streams.
import { WherryError } from "../../base/errors.ts";

/** A stream from QEMU that cannot become this machine, or a machine that cannot become a stream for QEMU. */
export class QemuStreamError extends WherryError {}

export interface Release {
  /** Such as `qemu-7.2`. */
  readonly name: string;
  /** Versions of the `cpu` section and of its subsections. */
  readonly cpu: number;
  readonly pmp: number;
  readonly hyper: number;
  readonly envcfg: number;
  readonly debug: number;
  /** PMP entries in the stream, independent of the hart's number. */
  readonly pmpEntries: 16 | 64;
  /** env.priv_ver of the release's `rv64` (2: privileged specification 1.12, 3: 1.13). */
  readonly privVersion: bigint;
  /** 1: only `timecmp`, and loading arms no timer. 3: also the time offset and the timers. */
  readonly mtimer: 1 | 3;
  /** The release sends `cpu/timer`. Without it, a loaded supervisor timer (Sstc) is never armed. */
  readonly supervisorTimers: boolean;
  /** fw_cfg follows the interrupt controller directly; otherwise it is the last device. */
  readonly fwCfgEarly: boolean;
  /** The release has menvcfg.ADUE. Without it, its harts always update A and D bits. */
  readonly adue: boolean;
  /** The release limits a queue to its device's own size; the others accept 1024 for any device. */
  readonly ownQueueSizes: boolean;
  readonly switchoverStart: boolean;
  /** Guests of its `rv64` were told of the same extensions as those of any release of this generation. */
  readonly generation: number;
  /**
   * Extensions that this board tells its guests of and the release's `-cpu rv64` lacks, with the option that
   * adds each, or undefined.
   */
  readonly extensions: Readonly<Record<string, string | undefined>>;
}

export const RELEASES: readonly Release[] = [
  {
    name: "qemu-7.2",
    cpu: 5,
    pmp: 1,
    hyper: 2,
    envcfg: 1,
    debug: 2,
    pmpEntries: 16,
    privVersion: 2n,
    mtimer: 1,
    supervisorTimers: false,
    fwCfgEarly: false,
    adue: false,
    ownQueueSizes: false,
    switchoverStart: false,
    generation: 7,
    extensions: {
      ...{ zfh: "Zfh=on", zfhmin: "Zfhmin=on" },
      ...{ zicbom: undefined, zicboz: undefined, zicond: undefined, zawrs: undefined, zfa: undefined },
      ...{ svade: undefined, svadu: undefined },
    },
  },
  {
    name: "qemu-10.0",
    cpu: 10,
    pmp: 1,
    hyper: 4,
    envcfg: 1,
    debug: 2,
    pmpEntries: 16,
    privVersion: 3n,
    mtimer: 1,
    supervisorTimers: true,
    fwCfgEarly: true,
    adue: true,
    ownQueueSizes: false,
    switchoverStart: true,
    generation: 10,
    extensions: { zfh: "zfh=on", zfhmin: "zfhmin=on", zicond: "zicond=on", svade: "svade=on" },
  },
  {
    name: "qemu-11.1",
    cpu: 12,
    pmp: 2,
    hyper: 5,
    envcfg: 2,
    debug: 4,
    pmpEntries: 64,
    privVersion: 3n,
    mtimer: 3,
    supervisorTimers: true,
    fwCfgEarly: true,
    adue: true,
    ownQueueSizes: true,
    switchoverStart: true,
    generation: 10,
    extensions: { zfh: "zfh=on", zfhmin: "zfhmin=on", zicond: "zicond=on", svade: "svade=on" },
  },
];

/** Throws QemuStreamError for an unknown name. */
export function releaseNamed(name: string): Release {
  const release = RELEASES.find((r) => r.name === name);
  if (release !== undefined) return release;
  const names = RELEASES.map((r) => r.name).join(", ");
  throw new QemuStreamError("qemu.profile", `profile ${JSON.stringify(name)}: expected one of ${names}`);
}
