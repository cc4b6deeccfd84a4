// Options of the side to which a machine comes: each agrees with the machine, is taken over from it, or is
// refused with what to do.
import { expect, test } from "vitest";
import type { VirtioNet } from "../devices/virtio/virtio-net.ts";
import { EXTENSION_NAMES } from "../riscv/extensions.ts";
import { checkOptions, extensionsIn, optionsState, type StartOptions } from "./start-options.ts";

const card = (last: number, isAddressGiven: boolean): VirtioNet =>
  ({ address: Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, last), isAddressGiven }) as unknown as VirtioNet;
const few = ["i", "m", "a", "zicsr"];
const machine: StartOptions = {
  isa: { names: few, isGiven: true },
  rtc: { clock: "host", isGiven: false },
  net: card(0x57, true),
};
const asGiven = (given: Partial<StartOptions>) => () =>
  checkOptions(optionsState(machine), { ...machine, ...given });

test("what is not given is taken over", () => {
  const all = { names: EXTENSION_NAMES, isGiven: false };
  expect(asGiven({})).not.toThrow();
  expect(asGiven({ isa: all, net: card(0x56, false) })).not.toThrow();
  expect(asGiven({ net: undefined })).not.toThrow();
  expect(asGiven({ rtc: { clock: "vm", isGiven: false } })).not.toThrow();
  expect(extensionsIn(optionsState(machine))).toEqual(few);
  expect(extensionsIn(optionsState({ ...machine, isa: all }))).toEqual(EXTENSION_NAMES);
});

test("what is given and differs is refused", () => {
  expect(asGiven({ isa: { names: ["i"], isGiven: true } })).toThrow(
    "the guest was told of rv64ima_zicsr, this machine was started with rv64i: leave --isa out",
  );
  expect(asGiven({ rtc: { clock: "vm", isGiven: true } })).toThrow(
    "has clock=host, this one was started with clock=vm: leave it out",
  );
  expect(asGiven({ net: card(0x58, true) })).toThrow(
    "the address 52:54:00:12:34:57, this one was started with 52:54:00:12:34:58: leave mac= out",
  );
  const newer = optionsState({ ...machine, isa: { names: [...few, "zfuture"], isGiven: false } });
  expect(() => checkOptions(newer, machine)).toThrow("told of zfuture, which harts here lack");
});
