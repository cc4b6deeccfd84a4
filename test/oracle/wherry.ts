// One hart of Wherry's engine with RAM at 0x8000_0000 and only the test device's power-off: Wherry's side of
// the oracle tests. The hypervisor around the engine (vcpu-thread.ts) is not included.
import type { HartImage } from "../../src/hypervisor/hart/hart-image.ts";
import { type HarnessOptions, HartHarness } from "../support/hart-harness.ts";
import { RAM_BASE } from "../support/programs/layout.ts";
import { EXIT } from "../../src/hypervisor/hart/engine-interface.ts";

const TEST_DEVICE = 0x100000n;
const TEST_DEVICE_PASS = 0x5555n;
const ACLINT = 0x2000000n;
const ACLINT_END = 0x2010000n;
const PAGE = 65536;

export type OracleEngine = Pick<HarnessOptions, "engine" | "threshold">;

export interface OracleHart {
  readonly ram: Uint8Array<SharedArrayBuffer>;
  readonly state: HartImage;
  /** Runs until power-off or until `done`, which is called regularly. Throws after `limit` instructions. */
  run(limit: number, done?: () => boolean): void;
}

/** A hart that starts in M-mode at the start of RAM. */
export function createHart(ramBytes: number, engine: OracleEngine = {}): OracleHart {
  let isOff = false;
  const harness: HartHarness = new HartHarness({
    ...engine,
    ramSize: Math.ceil(ramBytes / PAGE) * PAGE,
    imports: {
      mmioRead: () => 0,
      mmioWrite: (guestPhys, size, value) => {
        if (guestPhys === TEST_DEVICE && size === 4 && (value & 0xffffn) === TEST_DEVICE_PASS) {
          isOff = true;
          harness.kick = 1;
          return 1;
        }
        return guestPhys >= ACLINT && guestPhys < ACLINT_END ? 1 : 0;
      },
    },
  });
  const state = harness.hart;
  state.reset(RAM_BASE);
  return {
    ram: new Uint8Array(harness.buffer, harness.offset(RAM_BASE), ramBytes),
    state,
    run: (limit, done = () => false) => {
      const slice = 100_000;
      for (let executed = 0; executed < limit; executed += slice) {
        const reason = harness.run(slice);
        if (isOff || done()) return;
        if (reason !== EXIT.SLICE && reason !== EXIT.KICK) {
          throw new Error(`the hart left run() with exit ${reason} at pc ${state.get("pc").toString(16)}`);
        }
      }
      throw new Error(`still running after ${limit} instructions, pc ${state.get("pc").toString(16)}`);
    },
  };
}

/** Like runInQemu: runs an image of RAM until power-off and returns RAM. */
export function runInWherry(image: Uint8Array, engine: OracleEngine = {}): Uint8Array {
  const hart = createHart(image.length, engine);
  hart.ram.set(image);
  hart.run(image.length * 4);
  return hart.ram;
}
