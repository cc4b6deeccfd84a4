import { expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { BootBlock } from "./boot/boot-block.ts";
import { identitySection } from "./identity-section.ts";
import { SaveTime } from "./save-time.ts";

interface Side {
  harts: number;
  builtinFirmware: boolean;
  saveTime?: SaveTime;
  boot?: BootBlock;
  insistsOnBuiltin?: boolean;
}
const noOptions = {
  isa: new Uint8Array(0),
  rtcFollowsGuest: false,
  hasMac: false,
  mac: new Uint8Array(6),
};
const none = { firmware: undefined, kernel: undefined, initrd: undefined, append: "" };
const sectionOf = ({
  saveTime = new SaveTime(undefined),
  boot = new BootBlock(none, 0),
  insistsOnBuiltin = false,
  ...own
}: Side) =>
  identitySection({
    own: () => own,
    insistsOnBuiltin,
    saveTime,
    boot: () => boot,
    options: () => ({ ...noOptions, isaLength: 0 }),
    plan: () => {},
    take: () => {},
  });

/** Returns the stream's bytes. */
function load(from: Side, into: Side): Uint8Array {
  const writer = new ByteWriter();
  sectionOf(from).encode(writer);
  const bytes = writer.finish();
  sectionOf(into).decode(new ByteReader(bytes), 1)();
  return bytes;
}

const four = { harts: 4, builtinFirmware: true };

test("a machine loads into one started with equal options, otherwise the error names the option", () => {
  const opensbi = { harts: 4, builtinFirmware: false };
  load(four, { ...four });
  expect(() => load(four, { ...four, harts: 2 })).toThrow("start it with 4 harts");
  expect(() => load(four, opensbi)).toThrow("start it without one");
  expect(() => load(opensbi, four)).toThrow("start it with the same firmware file");
});

test("a machine that brings its firmware needs no option; one that says that it has the built-in one is damaged", () => {
  const firmware = { segments: [{ guestPhys: 0x80000000, bytes: new Uint8Array(8), memorySize: 8 }] };
  const boot = new BootBlock(
    { ...none, firmware: { ...firmware, entry: 0x80000000, end: 0x80000008 } },
    4096,
  );
  const opensbi = { harts: 4, builtinFirmware: false, boot };
  load(opensbi, four);
  expect(() => load(opensbi, { ...four, insistsOnBuiltin: true })).toThrow("leave the firmware out");
  expect(() => load({ ...four, boot }, four)).toThrow("brings a firmware file: the stream is damaged");
});

test("the time of the save comes along; a stream of an older Wherry does not tell it", () => {
  const saveTime = new SaveTime(() => 7n);
  load({ ...four, saveTime: new SaveTime(() => 1_700_000_000_123_456_789n) }, { ...four, saveTime });
  expect(saveTime.loadedNs).toBe(1_700_000_000_123_456_789n);
  // Without the subsection, as before it existed.
  expect(load(four, { ...four, saveTime })).toEqual(Uint8Array.of(0, 0, 0, 4, 1));
  expect(saveTime.loadedNs).toBe(0n);
});
