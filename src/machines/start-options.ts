// Start options that a guest has seen, and that no device's section carries: the extensions of its harts, the
// clocks, the network card's address. A machine that arrives keeps them. What was given to this side must
// agree, or is refused; what was not given is taken over.
import { WherryError } from "../base/errors.ts";
import { decodeUtf8, encodeUtf8 } from "../base/text.ts";
import { macText, type VirtioNet } from "../devices/virtio/virtio-net.ts";
import { EXTENSION_NAMES } from "../riscv/extensions.ts";
import { bool, subsection, u8Array, u32, varBuffer } from "../state/schema.ts";
import { isaString } from "./boot/virt-fdt.ts";

export class IdentityError extends WherryError {}

/** Belongs to wherry/machine: see identity-section.ts. */
export const optionsSubsection = subsection(
  "wherry/machine/options",
  { version: 1, needed: ({ isaLength }) => isaLength !== 0 },
  {
    /** Such as `rv64imac_zicsr`. */
    isaLength: u32,
    isa: varBuffer("isaLength", 4096),
    rtcFollowsGuest: bool,
    hasMac: bool,
    /** The card's own address, which a driver's reset restores. */
    mac: u8Array(6),
  },
);
export type OptionsState = (typeof optionsSubsection)["adds"];

export interface StartOptions {
  /** Extensions in the device tree, in canonical order; `isGiven`: chosen by the user. */
  readonly isa: { readonly names: readonly string[]; readonly isGiven: boolean };
  /** What advances the real-time clock; `isGiven`: chosen by the user. */
  readonly rtc: { readonly clock: "host" | "vm"; readonly isGiven: boolean };
  readonly net: VirtioNet | undefined;
}

export function optionsState({ isa, rtc, net }: StartOptions): OptionsState {
  const text = encodeUtf8(isaString(isa.names));
  return {
    isaLength: text.length,
    isa: text,
    rtcFollowsGuest: rtc.clock === "vm",
    hasMac: net !== undefined,
    mac: net?.address ?? new Uint8Array(6),
  };
}

/** Throws IdentityError if an option of this side contradicts the machine that comes. Changes nothing. */
export function checkOptions(came: OptionsState, own: StartOptions): void {
  const refuse = (code: string, message: string): never => {
    throw new IdentityError(code, message);
  };
  const names = extensionsIn(came);
  const unknown = names.filter((name) => !EXTENSION_NAMES.includes(name));
  if (unknown.length > 0) {
    refuse(
      "machine.isa",
      `the guest was told of ${unknown.join(", ")}, which harts here lack: use a newer Wherry`,
    );
  }
  if (own.isa.isGiven && isaString(names) !== isaString(own.isa.names)) {
    refuse(
      "machine.isa",
      `the guest was told of ${isaString(names)}, this machine was started with ${isaString(own.isa.names)}: leave --isa out`,
    );
  }
  if (own.rtc.isGiven && came.rtcFollowsGuest !== (own.rtc.clock === "vm")) {
    const [theirs, ours] = came.rtcFollowsGuest ? ["vm", "host"] : ["host", "vm"];
    refuse(
      "machine.rtc",
      `the machine's real-time clock has clock=${theirs}, this one was started with clock=${ours}: leave it out`,
    );
  }
  if (came.hasMac && own.net?.isAddressGiven === true && macText(came.mac) !== macText(own.net.address)) {
    refuse(
      "machine.mac",
      `the machine's network card has the address ${macText(came.mac)}, this one was started with ` +
        `${macText(own.net.address)}: leave mac= out`,
    );
  }
}

export function extensionsIn({ isa }: OptionsState): string[] {
  const [letters = "", ...names] = decodeUtf8(isa).replace(/^rv64/, "").split("_");
  return [...letters, ...names];
}
