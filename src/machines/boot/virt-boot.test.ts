// Memory contents after reset, and the errors of unusable images.
import { expect, it } from "vitest";
import { BootError, loadKernel } from "./boot-image.ts";
import { type BootOptions, type BootPlan, placeImages, planBoot } from "./virt-boot.ts";
import { MIB } from "./virt-map.ts";
import { readFdt } from "../../../test/support/read-fdt.ts";

/** A Linux Image of `size` bytes whose header says `imageSize`. */
function image(size: number, imageSize = size): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(8, 0x200000n, true);
  view.setBigUint64(16, BigInt(imageSize), true);
  view.setUint32(56, 0x05435352, true);
  return bytes;
}

/** `nop`, then zeros. */
function code(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes[0] = 0x13;
  return bytes;
}

function elf(
  segments: { at: number; bytes: number[]; memorySize: number }[],
  entry: number,
  machine = 243,
): Uint8Array {
  const bytes = new Uint8Array(64 + 56 * segments.length + segments.reduce((n, s) => n + s.bytes.length, 0));
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(18, machine, true);
  view.setBigUint64(24, BigInt(entry), true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(56, segments.length, true);
  let data = 64 + 56 * segments.length;
  for (const [i, s] of segments.entries()) {
    const at = 64 + 56 * i;
    view.setUint32(at, 1, true);
    view.setBigUint64(at + 8, BigInt(data), true);
    view.setBigUint64(at + 24, BigInt(s.at), true);
    view.setBigUint64(at + 32, BigInt(s.bytes.length), true);
    view.setBigUint64(at + 40, BigInt(s.memorySize), true);
    bytes.set(s.bytes, data);
    data += s.bytes.length;
  }
  return bytes;
}

function plan(boot: BootOptions, memorySize = 256 * MIB): BootPlan {
  return planBoot(placeImages(boot, memorySize), {
    harts: 2,
    memorySize,
    isaExtensions: ["i", "m", "zicsr"],
    mmuType: "riscv,sv57",
    timebaseHz: 10_000_000,
    builtinFirmware: boot.firmware === "builtin",
  });
}
const at = (p: BootPlan): number[] => p.segments.map((s) => s.guestPhys);

it("puts kernel, ramdisk and device tree where QEMU 7.2 does", () => {
  const kernel = image(20 * MIB, 21 * MIB);
  const p = plan({ firmware: "builtin", kernel, initrd: new Uint8Array(5 * MIB), append: "quiet" });
  expect(at(p)).toEqual([0x80200000, 0x88200000, 0x1000]);
  expect(p.kernelEntry).toBe(0x80200000);
  expect(p.fdtAddress).toBe(0x8fe00000);
  const chosen = readFdt(p.deviceTree(new Uint8Array(32)).bytes).find("/chosen");
  expect(chosen?.cells("linux,initrd-start")).toEqual([0x88200000]);
  expect(chosen?.cells("linux,initrd-end")).toEqual([0x88200000 + 5 * MIB]);
  expect(chosen?.string("bootargs")).toBe("quiet");
  expect(at(plan({ firmware: "builtin", kernel, initrd: new Uint8Array(1) }, 128 * MIB))[1]).toBe(0x84200000);
  expect(plan({ firmware: "builtin", kernel }, 3072 * MIB).fdtAddress).toBe(0xbfe00000);
});

it("loads a firmware file below the kernel and passes it the kernel's address", () => {
  const p = plan({ firmware: code(3 * MIB), kernel: image(MIB) });
  expect(at(p)).toEqual([0x80000000, 0x80400000, 0x1000]);
  const vector = p.segments[2]?.bytes as Uint8Array;
  const view = new DataView(vector.buffer, vector.byteOffset);
  // QEMU 7.2's words at 0x1000.
  expect(Buffer.from(vector.subarray(0, 24)).toString("hex")).toBe(
    "9702000013868202732540f183b5020283b2820167800200",
  );
  expect(view.getBigUint64(24, true)).toBe(0x80000000n);
  expect(view.getBigUint64(32, true)).toBe(BigInt(p.fdtAddress));
  expect(Array.from({ length: 6 }, (_, i) => view.getBigUint64(40 + 8 * i, true))).toEqual([
    0x4942534fn,
    2n,
    0x80400000n,
    1n,
    0n,
    0n,
  ]);
});

it("loads an ELF kernel by its program headers", () => {
  const kernel = elf([{ at: 0x80200000, bytes: [1, 2, 3, 4], memorySize: 0x100 }], 0x80200010);
  expect(plan({ firmware: "builtin", kernel }).kernelEntry).toBe(0x80200010);
  const virtual = elf([{ at: 0x80200000, bytes: [1], memorySize: 1 }], 0xffffffff80000000);
  expect(loadKernel(virtual, 0).entry).toBe(0x80200000);
});

it("accepts a missing image only for an incoming machine", () => {
  expect(() => plan({ firmware: "builtin" })).toThrow("give a kernel");
  expect(plan({ firmware: "builtin", incoming: true }).kernelEntry).toBe(0);
  expect(() => plan({ firmware: "builtin", incoming: true, append: "quiet" })).toThrow(
    "needs a kernel: give one as well, or no command line",
  );
});

it("reports what is wrong with an image", () => {
  const kernel = (bytes: Uint8Array) => () => plan({ firmware: "builtin", kernel: bytes });
  expect(kernel(new Uint8Array(0))).toThrow("an empty file");
  expect(kernel(Uint8Array.of(0x1f, 0x8b, 8, 0))).toThrow("gzip-compressed (unpack it first: gzip -dc F)");
  expect(() => plan({ firmware: Uint8Array.of(0x1f, 0x8b, 8, 0) })).toThrow(
    "the firmware is gzip-compressed",
  );
  expect(kernel(elf([], 0, 62))).toThrow("expected machine 243 (RISC-V), found machine 62");
  expect(kernel(elf([], 0))).toThrow("expected a loadable segment, found none");
  const cut = elf([{ at: 0x80200000, bytes: [1, 2, 3, 4], memorySize: 4 }], 0).subarray(0, 121);
  expect(kernel(cut)).toThrow("a file of 121 bytes");
  expect(kernel(elf([{ at: 0x1000_0000, bytes: [1], memorySize: 1 }], 0))).toThrow(
    "expected an address in RAM",
  );
  expect(kernel(image(64, 300 * MIB))).toThrow("the machine has 256 MiB; give it more memory");
  const initrd = new Uint8Array(200 * MIB);
  expect(() => plan({ firmware: "builtin", kernel: image(64), initrd })).toThrow(BootError);
  expect(() => plan({ firmware: "builtin", kernel: image(64) }, 2 * MIB)).toThrow(BootError);
});
