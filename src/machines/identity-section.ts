// Start options that both ends of a move must share and that no device's section carries: the number of harts
// and the owner of machine mode. Decoded before any vCPU, so that the error names the wrong option. And the
// time of the save.
import { WherryError } from "../base/errors.ts";
import { bool, defineState, type StateOf, subsection, u32, u64 } from "../state/schema.ts";
import { MIG_PRI, type Section, sectionOf } from "../state/section.ts";
import type { SaveTime } from "./save-time.ts";

export const machineIdentity = defineState(
  "wherry/machine",
  { version: 1, minimumVersion: 1, priority: MIG_PRI.GICV3 },
  { harts: u32, builtinFirmware: bool },
  [
    subsection(
      "wherry/machine/save",
      { version: 1, needed: (s) => s.savedAt !== 0n },
      {
        /** Wall-clock time, ns since 1970. */
        savedAt: u64,
      },
    ),
  ],
);

export class IdentityError extends WherryError {}

/** `own` holds the options of this machine. */
export function identitySection(
  own: Omit<StateOf<typeof machineIdentity>, "savedAt">,
  saveTime: SaveTime,
): Section {
  return sectionOf({
    definition: machineIdentity,
    get: () => ({ ...own, savedAt: saveTime.nowNs() }),
    check({ harts, builtinFirmware }) {
      if (harts !== own.harts) {
        throw new IdentityError(
          "machine.harts",
          `the machine has ${harts} harts, this one was started with ${own.harts}: give --smp ${harts}`,
        );
      }
      if (builtinFirmware !== own.builtinFirmware) {
        const [theirs, ours] = builtinFirmware
          ? ["the built-in firmware", "a firmware file"]
          : ["a firmware file in machine mode", "the built-in firmware"];
        const advice = builtinFirmware ? "leave --firmware out" : "give the same --firmware FILE";
        throw new IdentityError(
          "machine.firmware",
          `the machine runs on ${theirs}, this one was started with ${ours}: ${advice}`,
        );
      }
    },
    apply({ savedAt }) {
      saveTime.loadedNs = savedAt;
    },
  });
}
