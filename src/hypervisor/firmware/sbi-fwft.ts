// SBI's Firmware Features extension (SBI 3.0, chapter 18): the delegation of misaligned accesses, and
// hardware updating of A and D bits (menvcfg.ADUE). Landing pads, shadow stacks, double traps and pointer
// masking need extensions that harts here lack. All features are local: their values and locks are registers
// of the hart, which a reset of the hart clears and a non-retentive suspend keeps.
import type { HartImage } from "../hart/hart-image.ts";
import { FEATURE, FWFT_LOCKS, FWFT_MISALIGNED_HANDLED } from "../../riscv/firmware-features.ts";
import { fail, ok, SBI_ERR, type SbiReturn } from "./sbi-return.ts";

const LOCK = 1n;

interface Feature {
  get(hart: HartImage): bigint;
  set(hart: HartImage, value: bigint): void;
}

const FEATURES: ReadonlyMap<number, Feature> = new Map<number, Feature>([
  [
    FEATURE.MISALIGNED_EXC_DELEG,
    {
      // Harts do misaligned loads and stores themselves. What is left, misaligned atomics, cannot be
      // emulated: with either value the trap is the supervisor's, delegated or redirected.
      get: (hart) => ((hart.get("fwft") & FWFT_MISALIGNED_HANDLED) === 0n ? 1n : 0n),
      set: (hart, value) => {
        const others = hart.get("fwft") & ~FWFT_MISALIGNED_HANDLED;
        hart.set("fwft", value === 0n ? others | FWFT_MISALIGNED_HANDLED : others);
      },
    },
  ],
  [
    FEATURE.PTE_AD_HW_UPDATING,
    {
      get: (hart) => hart.get("svade") ^ 1n,
      set: (hart, value) => {
        hart.set("svade", value ^ 1n);
      },
    },
  ],
]);

/** `feature` has 32 bits, `value` and `flags` have 64. */
export function fwftSet(hart: HartImage, feature: number, value: bigint, flags: bigint): SbiReturn {
  const known = FEATURES.get(feature);
  if (known === undefined) return fail(refusal(feature));
  const lock = FWFT_LOCKS & (1n << BigInt(feature));
  if ((hart.get("fwft") & lock) !== 0n) return fail(SBI_ERR.DENIED_LOCKED);
  if (value > 1n || (flags & ~LOCK) !== 0n) return fail(SBI_ERR.INVALID_PARAM);
  known.set(hart, value);
  if (flags === LOCK) hart.set("fwft", hart.get("fwft") | lock);
  return ok();
}

export function fwftGet(hart: HartImage, feature: number): SbiReturn {
  const known = FEATURES.get(feature);
  return known === undefined ? fail(refusal(feature)) : ok(known.get(hart));
}

/** Features with a name are not supported; reserved and platform-specific ones are denied. */
const refusal = (feature: number): typeof SBI_ERR.NOT_SUPPORTED | typeof SBI_ERR.DENIED =>
  Object.values<number>(FEATURE).includes(feature) ? SBI_ERR.NOT_SUPPORTED : SBI_ERR.DENIED;
