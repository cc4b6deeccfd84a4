// Start options that both ends of a move must share and that no device's section carries: the number of harts
// and the owner of machine mode, decoded before any vCPU, so that the error names the wrong option; and the
// images that a reset boots (boot-block.ts); the options that its guest has
// seen (start-options.ts); and the time of the save.
import { bool, defineState, subsection, u32, u64 } from "../state/schema.ts";
import { MIG_PRI, type Section, sectionOf } from "../state/section.ts";
import { type BootBlock, type BootState, bootSubsection, bringsFirmware } from "./boot/boot-block.ts";
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
  own(): { readonly harts: number; readonly builtinFirmware: boolean };
  /** The built-in firmware was asked for, not only left to be the default. */
  readonly insistsOnBuiltin: boolean;
  readonly saveTime: SaveTime;
  /** What is sent. */
  boot(): BootBlock;
  options(): OptionsState;
  /** What a machine that came with this becomes here. Throws WherryError; changes nothing. */
  plan(came: BootState & OptionsState): P;
  /** The machine is here. */
  take(planned: P): void;
}

export function identitySection<P>(parts: IdentityParts<P>): Section {
  const { own, insistsOnBuiltin, saveTime, boot, options, plan, take } = parts;
  let planned: P | undefined;
  return sectionOf({
    definition: machineIdentity,
    get: () => ({ ...options(), ...own(), savedAt: saveTime.nowNs(), ...boot().state }),
    check({ harts, builtinFirmware, ...came }) {
      const here = own();
      if (harts !== here.harts) {
        throw new IdentityError(
          "machine.harts",
          `the machine has ${harts} harts, this one was started with ${here.harts}: start it with ${harts} harts`,
        );
      }
      const brings = bringsFirmware(came);
      if (builtinFirmware && brings) {
        throw new IdentityError(
          "machine.firmware",
          "the machine runs on the built-in firmware and brings a firmware file: the stream is damaged",
        );
      }
      if (builtinFirmware !== here.builtinFirmware && (!brings || insistsOnBuiltin)) {
        const [theirs, ours] = builtinFirmware
          ? ["the built-in firmware", "a firmware file"]
          : ["a firmware file in machine mode", "the built-in firmware"];
        const advice = builtinFirmware
          ? "start it without one"
          : brings
            ? "leave the firmware out, the machine brings its own"
            : "start it with the same firmware file";
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
