// mtime in a QEMU's stream: the virtual clock plus an offset, which is nonzero once the guest was reset, and
// which version 1 of mtimer omits. It is computed from the harts' comparators: closely if supervisor timers
// are in the stream, otherwise from comparators that are long past and have raised no interrupt. The guest's
// clock may jump ahead by a little, but never back.
import { TIMER_OFF } from "../../devices/device-clock.ts";
import { NEVER } from "../../riscv/bits.ts";
import { MIP } from "../../riscv/causes.ts";
import { MENVCFG_STCE } from "../../riscv/envcfg.ts";
import type { MtimerState } from "./board-state.ts";
import type { QemuHart } from "./qemu-hart-state.ts";

export const NS_PER_TICK = 100n;
const INT64_MAX = (1n << 63n) - 1n;
/** QEMU arms and handles timers with less delay than this; no guest is reset so soon after its start. */
const LATE = 10_000_000n;
/** A QEMU that is not preempted arms a timer in less time. */
const ARMING = 10_000n;

/** mtime − virtual clock, in ticks. `clock` is the virtual clock in ns. */
export function timeOffset(
  version: number,
  clock: bigint,
  mtimer: MtimerState,
  harts: readonly QemuHart[],
): bigint {
  if (version >= 3) return BigInt.asIntN(64, mtimer.delta);
  const now = clock / NS_PER_TICK;
  const armed = harts
    .filter(({ stimer, stimecmp }) => isArmed(stimer) && stimecmp !== NEVER)
    .map(({ stimer, stimecmp }) => stimecmp - stimer / NS_PER_TICK);
  const latest = armed.sort(byValue).at(-1);
  if (latest !== undefined) return latest < -LATE ? latest + ARMING : 0n;
  const past = harts.flatMap((hart, id) => unraised(hart, mtimer.timecmp[id] ?? NEVER)).sort(byValue)[0];
  // The nearest comparator is due now: the guest's clock is ahead by the time that remained, not by the time
  // before the reset.
  return past !== undefined && past + LATE < now ? past - now : 0n;
}

const isArmed = (timer: bigint): boolean => timer !== TIMER_OFF && timer < INT64_MAX;
const byValue = (a: bigint, b: bigint): number => (a < b ? -1 : 1);

/** Comparators that would have raised their interrupt if mtime had reached them. */
function unraised({ mip, mie, menvcfg, stimecmp }: QemuHart, timecmp: bigint): bigint[] {
  const supervisor = (menvcfg & MENVCFG_STCE) !== 0n && (mip & MIP.STIP) === 0n ? [stimecmp] : [];
  const machine = (mie & MIP.MTIP) !== 0n && (mip & MIP.MTIP) === 0n ? [timecmp] : [];
  return [...supervisor, ...machine].filter((ticks) => ticks !== NEVER);
}
