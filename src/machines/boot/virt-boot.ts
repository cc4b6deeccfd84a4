// Memory contents of the virt board after reset, and the start addresses of its harts: firmware, kernel,
// initial ramdisk, device tree and reset vector, at QEMU 7.2's addresses. The plan is made once; each reset
// writes it again, with a new seed for the guest's random number generator.
import { hex } from "../../base/hex.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { writeFdt } from "./fdt.ts";
import type { BootImages } from "./boot-block.ts";
import { BootError, type LoadedImage, loadFirmware, loadKernel, type Segment } from "./boot-image.ts";
import { virtFdt, type VirtFdtOptions } from "./virt-fdt.ts";
import { MIB, VIRT_MEMMAP } from "./virt-map.ts";

export interface BootOptions {
  /**
   * A firmware image that runs in M-mode, or the built-in firmware of the hypervisor half. Default: built-in,
   * or the firmware that an arriving machine brings.
   */
  readonly firmware?: "builtin" | Uint8Array;
  readonly kernel?: Uint8Array;
  readonly initrd?: Uint8Array;
  /** Kernel command line. */
  readonly append?: string;
  /** Memory contents arrive by migration: a missing kernel and firmware is not an error. */
  readonly incoming?: boolean;
}

export interface BootPlan {
  readonly segments: readonly Segment[];
  /** The bytes of the device tree with this seed. */
  deviceTree(rngSeed: Uint8Array): Segment;
  readonly fdtAddress: number;
  /** The address at which hart 0 starts with the built-in firmware (S-mode, a0 = hart, a1 = fdtAddress). */
  readonly kernelEntry: number;
}

const ALIGNMENT = 2 * MIB;
/** The device tree must be in reach of 32-bit systems. */
const FDT_CEILING = 3072 * MIB;
const INITRD_DISTANCE = 128 * MIB;
const SEED_SIZE = 32;

const FW_DYNAMIC_INFO_MAGIC = 0x4942534fn;
const FW_DYNAMIC_INFO_VERSION = 2n;
const FW_DYNAMIC_NEXT_MODE_S = 1n;
/** The address in a2, from the reset vector's start, and next_addr in it. */
const FW_DYNAMIC_INFO_OFFSET = 40;
const FW_DYNAMIC_INFO_NEXT = 16;

type HardwareOptions = Omit<VirtFdtOptions, "bootargs" | "initrd" | "rngSeed">;

/** Reads and places the images. Throws BootError if one is unusable or missing. */
export function placeImages(boot: BootOptions, memorySize: number): BootImages {
  const ram = VIRT_MEMMAP.dram.base;
  const firmware = boot.firmware instanceof Uint8Array ? loadFirmware(boot.firmware, ram) : undefined;
  const { append = "", incoming = false } = boot;
  if (firmware === undefined && boot.kernel === undefined && !incoming) {
    throw new BootError("boot.kernel", "nothing to run: give a kernel, or a firmware file");
  }
  if (incoming && boot.kernel === undefined && append !== "") {
    throw new BootError(
      "boot.append",
      "a command line for a machine that arrives needs a kernel: give one as well, or no command line to keep " +
        "the one that it was started with",
    );
  }
  const kernelAt = alignUp(Math.max(firmware?.end ?? 0, ram + 1), ALIGNMENT);
  const kernel = boot.kernel === undefined ? undefined : loadKernel(boot.kernel, kernelAt);
  const initrd = boot.initrd === undefined ? undefined : placeInitrd(boot.initrd, kernel, memorySize);
  return { firmware, kernel, initrd, append };
}

/** Throws BootError if the images do not fit. */
export function planBoot(images: BootImages, hardware: HardwareOptions): BootPlan {
  const { firmware, kernel, initrd, append } = images;
  const ram = VIRT_MEMMAP.dram.base;
  const ramEnd = ram + hardware.memorySize;
  const tree = (rngSeed: Uint8Array): Uint8Array<ArrayBuffer> =>
    writeFdt(
      virtFdt({
        ...hardware,
        bootargs: append,
        ...(initrd === undefined
          ? {}
          : { initrd: { start: initrd.guestPhys, end: initrd.guestPhys + initrd.bytes.length } }),
        rngSeed,
      }),
    );
  const fdtSize = tree(new Uint8Array(SEED_SIZE)).length;
  const fdtAddress = alignDown(Math.min(ramEnd, FDT_CEILING) - fdtSize, ALIGNMENT);

  const kernelEntry = kernel?.entry ?? 0;
  const segments = [
    ...(firmware?.segments ?? []),
    ...(kernel?.segments ?? []),
    ...(initrd === undefined ? [] : [initrd]),
  ];
  checkFit(segments, ram, fdtAddress, hardware.memorySize);
  segments.push(resetVector(firmware?.entry ?? ram, fdtAddress, kernelEntry));
  const deviceTree = (rngSeed: Uint8Array): Segment => {
    const bytes = tree(rngSeed);
    return { guestPhys: fdtAddress, bytes, memorySize: bytes.length };
  };
  return { segments, deviceTree, fdtAddress, kernelEntry };
}

/** Leaves room after the kernel, so that a kernel that unpacks itself does not overwrite it. */
function placeInitrd(bytes: Uint8Array, kernel: LoadedImage | undefined, memorySize: number): Segment {
  if (kernel === undefined) {
    throw new BootError("boot.initrd", "an initial ramdisk needs a kernel: give one as well");
  }
  const guestPhys = Math.max(
    kernel.entry + Math.min(memorySize / 2, INITRD_DISTANCE),
    alignUp(kernel.end, ALIGNMENT),
  );
  return { guestPhys, bytes, memorySize: bytes.length };
}

/** QEMU's ROM at 0x1000: jump to `start` with a0 = hart id, a1 = device tree, a2 = fw_dynamic_info. */
function resetVector(start: number, fdtAddress: number, kernelEntry: number): Segment {
  const words = [
    0x00000297, // auipc t0, 0
    0x02828613, // addi a2, t0, 40
    0xf1402573, // csrr a0, mhartid
    0x0202b583, // ld a1, 32(t0)
    0x0182b283, // ld t0, 24(t0)
    0x00028067, // jr t0
  ];
  const info = [
    BigInt(start),
    BigInt(fdtAddress),
    FW_DYNAMIC_INFO_MAGIC,
    FW_DYNAMIC_INFO_VERSION,
    BigInt(kernelEntry),
    FW_DYNAMIC_NEXT_MODE_S,
    0n, // options
    0n, // boot hart
  ];
  const bytes = new Uint8Array(4 * words.length + 8 * info.length);
  const view = new DataView(bytes.buffer);
  for (const [i, word] of words.entries()) view.setUint32(4 * i, word, true);
  for (const [i, value] of info.entries()) view.setBigUint64(4 * words.length + 8 * i, value, true);
  return { guestPhys: VIRT_MEMMAP.mrom.base, bytes, memorySize: bytes.length };
}

/**
 * The kernel that firmware in M-mode was told to start, according to the reset vector, which QEMU writes
 * alike; undefined if it was told of none.
 */
export function nextStage(memory: GuestMemory): bigint | undefined {
  const info = VIRT_MEMMAP.mrom.base + FW_DYNAMIC_INFO_OFFSET;
  const isOurs = memory.readU64(info) === FW_DYNAMIC_INFO_MAGIC;
  return (isOurs ? memory.readU64(info + FW_DYNAMIC_INFO_NEXT) : undefined) || undefined;
}

function checkFit(segments: readonly Segment[], ram: number, fdtAddress: number, memorySize: number): void {
  const advice = `the machine has ${memorySize / MIB} MiB; give it more memory`;
  if (fdtAddress < ram) throw new BootError("boot.memory", `no room for a device tree: ${advice}`);
  const sorted = segments.filter((s) => s.guestPhys >= ram).sort((a, b) => a.guestPhys - b.guestPhys);
  for (const [i, s] of sorted.entries()) {
    const end = s.guestPhys + s.memorySize;
    const limit = sorted[i + 1]?.guestPhys ?? fdtAddress;
    if (end > limit) {
      throw new BootError(
        "boot.memory",
        `an image of ${s.memorySize} bytes at ${hex(s.guestPhys)} ends at ${hex(end)}, expected at most ${hex(limit)}: ${advice}`,
      );
    }
  }
  const stray = segments.find((s) => s.guestPhys < ram);
  if (stray !== undefined) {
    throw new BootError(
      "boot.memory",
      `an image wants to be at ${hex(stray.guestPhys)}, expected an address in RAM (${hex(ram)} and up)`,
    );
  }
}

function alignUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
function alignDown(value: number, to: number): number {
  return Math.floor(value / to) * to;
}
