// The three releases of QEMU that machines move to and from (Debian 12, 13 and 13's backports), as far as the
// streams of their RISC-V `virt` boards differ. Facts of the VMDESCRIPTIONs that they print with their own
// streams.
import { WherryError } from "../../base/errors.ts";

/** A stream of QEMU's that cannot become this machine, or a machine that cannot become such a stream. */
export class QemuStreamError extends WherryError {}

export interface Release {
  /** `qemu-7.2`. */
  readonly name: string;
  /** Versions of the `cpu` section and of its subsections. */
  readonly cpu: number;
  readonly pmp: number;
  readonly hyper: number;
  readonly envcfg: number;
  readonly debug: number;
  /** PMP entries in the stream, however many the hart has. */
  readonly pmpEntries: 16 | 64;
  /** env.priv_ver of its `rv64` (2: privileged specification 1.12, 3: 1.13). */
  readonly privVersion: bigint;
  /** 1: `timecmp` alone, which arms no timer when it is loaded. 3: the time offset and the timers too. */
  readonly mtimer: 1 | 3;
  /** It has `cpu/timer`; without it a loaded supervisor timer (Sstc) is never armed. */
  readonly supervisorTimers: boolean;
  /** Its fw_cfg comes right behind the interrupt controller, otherwise as the last device. */
  readonly fwCfgEarly: boolean;
  /** It has menvcfg.ADUE; the harts of one that has not always update A and D bits. */
  readonly adue: boolean;
  /** It takes no queue larger than its device's own; the others take 1024, whatever the device's own is. */
  readonly ownQueueSizes: boolean;
  readonly switchoverStart: boolean;
  /** Guests of its `rv64` were told of no more than those of any release of the same generation. */
  readonly generation: number;
  /**
   * What this board tells its guests of and the release's `-cpu rv64` has not: the option that adds it, or
   * undefined.
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
      svadu: undefined,
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
    extensions: { zfh: "zfh=on", zfhmin: "zfhmin=on", zicond: "zicond=on" },
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
    extensions: { zfh: "zfh=on", zfhmin: "zfhmin=on", zicond: "zicond=on" },
  },
];

/** Throws QemuStreamError for a name that is none of theirs. */
export function releaseNamed(name: string): Release {
  const release = RELEASES.find((r) => r.name === name);
  if (release !== undefined) return release;
  const names = RELEASES.map((r) => r.name).join(", ");
  throw new QemuStreamError("qemu.profile", `profile ${JSON.stringify(name)}: expected one of ${names}`);
}
