// The images that travel with a machine: packed, unpacked, and streams that no honest source writes.
import { expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { BootBlock, type BootImages, type BootState } from "./boot-block.ts";
import { identitySection, machineIdentity } from "../identity-section.ts";
import { SaveTime } from "../save-time.ts";

const LIMIT = 64 << 20;
const PAGE = 4096;
const filled = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte);
const images: BootImages = {
  firmware: {
    segments: [{ guestPhys: 0x80000000, bytes: filled(100, 1), memorySize: 100 }],
    entry: 0x80000000,
    end: 0x80000064,
  },
  kernel: {
    segments: [
      { guestPhys: 0x80200000, bytes: filled(2 * PAGE, 2), memorySize: 5 * PAGE },
      { guestPhys: 0x80210010, bytes: filled(10, 3), memorySize: 10 },
    ],
    entry: 0x80200040,
    end: 0x8021001a,
  },
  initrd: { guestPhys: 0x81000000, bytes: filled(PAGE + 1, 4), memorySize: PAGE + 1 },
  append: "quiet höflich",
};
const noGuestPage = () => false;

/** Sends `from` as a stream does, except the pages at `missing`, into a machine that has none. */
function sent(
  from: BootBlock,
  missing: readonly number[] = [],
  change: (state: BootState) => void = () => {},
) {
  const writer = new ByteWriter();
  const own = { harts: 1, builtinFirmware: false };
  identitySection({
    own: () => own,
    insistsOnBuiltin: false,
    saveTime: new SaveTime(undefined),
    boot: () => from,
    options: () => machineIdentity.create(),
    plan: () => {},
    take: () => {},
  }).encode(writer);
  const state = machineIdentity.decode(new ByteReader(writer.finish()), 1);
  change(state);
  const to = new BootBlock({ firmware: undefined, kernel: undefined, initrd: undefined, append: "" }, LIMIT);
  const { memory } = to.receive(from.bytes.length);
  const target = memory.bytes;
  for (let at = 0; at < target.length; at += PAGE) {
    if (!missing.includes(at)) target.set(from.bytes.subarray(at, at + PAGE), at);
  }
  // A second connection that announces its block does not get in the way.
  to.receive(from.bytes.length);
  to.received(memory, missing);
  return { to, state };
}

test("images arrive as they were sent, and are sent on", () => {
  const block = new BootBlock(images, LIMIT);
  const { to, state } = sent(block);
  const came = to.imagesIn(state, noGuestPage);
  expect(came).toEqual(block.images);
  expect(came).toEqual(images);
  expect(new BootBlock(came, LIMIT).state).toEqual(block.state);
});

test("without images there is no block, and an unused buffer of the caller is not kept", () => {
  const none = new BootBlock(
    { firmware: undefined, kernel: undefined, initrd: undefined, append: "" },
    LIMIT,
  );
  expect([none.bytes.length, none.state.hasBoot]).toEqual([0, 0]);
  const block = new BootBlock(images, LIMIT);
  const [kept, given] = [block.images, images].map(({ kernel }) => kernel?.segments[0]?.bytes.buffer);
  expect(kept === given).toBe(false);
});

test("a missing page is the guest's page at the image's place; where there is none, it is damage", () => {
  const block = new BootBlock(images, LIMIT);
  const at = [...Array(block.bytes.length / PAGE).keys()].map((page) => page * PAGE);
  const kernelPage = at.find((offset) => block.guestPage(offset) === 0x80201000) ?? -1;
  expect(at.map((offset) => block.guestPage(offset)?.toString(16))).toEqual([
    ...["80000000", "80200000", "80201000", undefined, "81000000", "81001000"],
  ]);
  const { to, state } = sent(block, [kernelPage]);
  const read = (guestPhys: number, target: Uint8Array) => {
    expect(guestPhys).toBe(0x80201000);
    target.fill(2);
    return true;
  };
  expect(to.imagesIn(state, read)).toEqual(images);
  const unaligned = sent(block, [3 * PAGE]);
  expect(() => unaligned.to.imagesIn(unaligned.state, read)).toThrow(
    "page 3 of RAM block wherry/boot is missing",
  );
});

test("contents that no honest source sends are refused", () => {
  const block = new BootBlock(images, LIMIT);
  const refused = (change: (state: BootState) => void) => () => {
    const { to, state } = sent(block, [], change);
    to.imagesIn(state, noGuestPage);
  };
  const first = (state: BootState) => state.segments[0]!;
  expect(refused((s) => (first(s).blockOffset = 1n << 63n))).toThrow("of RAM block wherry/boot");
  expect(refused((s) => (first(s).fileSize = 0x7fff_ffff_ffffn))).toThrow("of RAM block wherry/boot");
  expect(refused((s) => (first(s).memorySize = 1n))).toThrow("of RAM block wherry/boot");
  expect(refused((s) => (s.kernelEntry = (1n << 64n) - 1n))).toThrow("the kernel starts at 0x");
  expect(refused((s) => (s.firmwareEntry = 0n))).toThrow("the firmware starts at 0x0, which is outside");
  expect(() => block.receive(LIMIT + PAGE)).toThrow(`whole pages, at most ${LIMIT} bytes`);
  expect(() => block.receive(100)).toThrow("has 100 bytes");
});
