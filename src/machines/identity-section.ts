// Start options that both ends of a move must share and that no device's section carries: the number of harts
// and the owner of machine mode, decoded before any vCPU, so that the error names the wrong option; and the
// images that a reset boots (boot-block.ts); the options that its guest has
// seen (start-options.ts); and the time of the save.
import { bool, defineState, subsection, u32, u64 } from "../state/schema.ts";
import { MIG_PRI, type Section, sectionOf } from "../state/section.ts";
import { type BootBlock, type BootState, bootSubsection } from "./boot/boot-block.ts";
import { IdentityError, type OptionsState, optionsSubsection } from "./start-options.ts";
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
    bootSubsection,
    optionsSubsection,
  ],
);

export interface IdentityParts<P> {
  /** The options of this machine. */
  readonly own: { readonly harts: number; readonly builtinFirmware: boolean };
  readonly saveTime: SaveTime;
  /** What is sent. */
  boot(): BootBlock;
  options(): OptionsState;
  /** What a machine that came with this becomes here. Throws WherryError; changes nothing. */
  plan(came: BootState & OptionsState): P;
  /** The machine is here. */
  take(planned: P): void;
}

export function identitySection<P>({ own, saveTime, boot, options, plan, take }: IdentityParts<P>): Section {
  let planned: P | undefined;
  return sectionOf({
    definition: machineIdentity,
    get: () => ({ ...options(), ...own, savedAt: saveTime.nowNs(), ...boot().state }),
    check({ harts, builtinFirmware, ...came }) {
      if (harts !== own.harts) {
        throw new IdentityError(
          "machine.harts",
          `the machine has ${harts} harts, this one was started with ${own.harts}: start it with ${harts} harts`,
        );
      }
      if (builtinFirmware !== own.builtinFirmware) {
        const [theirs, ours] = builtinFirmware
          ? ["the built-in firmware", "a firmware file"]
          : ["a firmware file in machine mode", "the built-in firmware"];
        const advice = builtinFirmware ? "start it without one" : "start it with the same firmware file";
        throw new IdentityError(
          "machine.firmware",
          `the machine runs on ${theirs}, this one was started with ${ours}: ${advice}`,
        );
      }
      planned = plan(came);
    },
    apply: ({ savedAt }) => {
      saveTime.loadedNs = savedAt;
      if (planned !== undefined) take(planned);
    },
  });
}
