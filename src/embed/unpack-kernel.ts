// A kernel as distributions ship it, to the kernel that can be loaded: the platform decompresses.
import { messageOf } from "../base/errors.ts";
import { BootError } from "../machines/boot/boot-image.ts";
import { packedKernel } from "../machines/boot/packed-kernel.ts";
import type { Platform } from "./platform.ts";

/** Such as a zboot image in a gzip file. */
const MAX_LAYERS = 4;

/**
 * Takes the compression off. Rejects with BootError if the platform does not have that format, the file is
 * damaged, or the kernel is larger than `maxBytes`.
 */
export async function unpackKernel(
  bytes: Uint8Array,
  maxBytes: number,
  { unpack }: Pick<Platform, "unpack">,
): Promise<Uint8Array> {
  let kernel = bytes;
  for (let layer = 0; layer < MAX_LAYERS; layer++) {
    const packed = packedKernel(kernel);
    if (packed === undefined) return kernel;
    const { format, what, command } = packed;
    const unpacked = await unpack?.(format, packed.payload, maxBytes).catch((cause: unknown) => {
      const message = `the kernel is ${what} and cannot be unpacked: ${messageOf(cause)}`;
      throw new BootError("boot.unpack", message, { cause });
    });
    if (unpacked === undefined) {
      throw new BootError(
        "boot.unpack",
        `the kernel is ${what}, which this platform does not unpack: give it unpacked (${command} > Image)`,
      );
    }
    kernel = packed.wrap(unpacked);
  }
  throw new BootError("boot.unpack", `the kernel is compressed more than ${MAX_LAYERS} times`);
}
