// What boots Debian in a program's machine: the quick guest in a ramdisk, or an image of packages, from the
// cache or built. Loaded only for `Machine.debian`: OpenPGP, tar and xz are optional peer dependencies.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { Signal } from "../../base/abort.ts";
import { GuestError } from "../../guest/guest-error.ts";

/** Which Debian. */
export interface DebianChoice {
  /**
   * `ramdisk`: Debian's kernel with busybox and the guest agent in memory, which boots in seconds and keeps
   * nothing. `disk` (default): a Debian of packages.
   */
  readonly root?: "disk" | "ramdisk" | undefined;
  /** `disk`: packages in addition to the default ones and `qemu-guest-agent`. */
  readonly include?: readonly string[] | undefined;
  /**
   * `disk`: the path of the machine's own disk, made if it does not exist; one that exists is taken as it is,
   * without `include`, `diskBytes` and `suite`. Default: none, what the guest writes is forgotten.
   */
  readonly disk?: string | undefined;
  /** `disk`: bytes of a disk that is made. Default: 4 GiB. */
  readonly diskBytes?: number | undefined;
  /** Debian release. Default: trixie. */
  readonly suite?: string | undefined;
  /** URL of a Debian mirror. Default: that of this machine's apt. */
  readonly mirror?: string | undefined;
  /** Where packages and images are kept. Default: wherry in the user's cache directory. */
  readonly cache?: string | undefined;
  /** Hears of downloads and of the building of an image. */
  readonly onProgress?: ((progress: DebianProgress) => void) | undefined;
}

/** A step on the way to a Debian. */
export interface DebianProgress {
  readonly step: "index" | "download" | "unpack" | "configure";
  /** A file or package. */
  readonly what: string;
  /** In bytes; for `configure`, packages. */
  readonly done: number;
  readonly total: number;
}

export interface DebianParts {
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
  readonly append: string;
  readonly disk?: { readonly file: string; readonly snapshot: boolean } | undefined;
}

/** Boots the image at `disk` with these parts until it has powered off. Returns what its console said. */
export type BootOnce = (parts: DebianParts) => Promise<string>;

/** Rejects with GuestError. */
export async function debianParts(
  choice: DebianChoice,
  boot: BootOnce,
  signal?: Signal,
): Promise<DebianParts> {
  const { fetchDebianGuest, debianBase, copyBase, DEFAULT_SIZE, agentRamdisk, rootInitrd } = await loaded();
  const { root = "disk", include = [], disk, diskBytes = DEFAULT_SIZE, mirror, cache, onProgress } = choice;
  const options = {
    ...{ mirror, cache, signal: signal as AbortSignal | undefined },
    ...(onProgress === undefined ? {} : { onProgress }),
  };
  // The kernel of the default suite boots any suite's user space.
  const guest = await fetchDebianGuest(options);
  const kernel = await readFile(guest.kernel);
  if (root === "ramdisk") {
    const initrd = await readFile(await agentRamdisk(guest, options));
    return { kernel, initrd, append: "console=ttyS0 quiet" };
  }
  const path = await rootInitrd(guest.kernel);
  if (path === undefined) throw new GuestError("guest.modules", `${guest.kernel} has no modules beside it`);
  const initrd = await readFile(path);
  const append = "root=/dev/vda rw console=ttyS0 quiet";
  if (disk !== undefined && existsSync(disk)) {
    const ofAnother = (["include", "diskBytes", "suite"] as const).find((name) => choice[name] !== undefined);
    if (ofAnother !== undefined) {
      const cure = `leave ${ofAnother} out, or remove the disk to make it anew`;
      throw new GuestError("guest.image", `${disk} is made already, without regard to ${ofAnother}: ${cure}`);
    }
    return { kernel, initrd, append, disk: { file: disk, snapshot: false } };
  }
  const base = await debianBase({
    ...{ ...options, suite: choice.suite, include: ["qemu-guest-agent", ...include] },
    async configure(file, packages) {
      const step = (done: number): void =>
        onProgress?.({ step: "configure", what: "packages", done, total: packages });
      step(0);
      const once = `${append} wherry.configure panic=-1 random.trust_bootloader=on`;
      const said = await boot({ kernel, initrd, append: once, disk: { file, snapshot: false } });
      if (!/^wherry-configure: done /m.test(said) || !said.includes("wherry-configure: unmounted")) {
        const last = said.trimEnd().split("\n").slice(-15).join("\n  ");
        throw new GuestError(
          "guest.configure",
          `the packages could not be configured; the guest's last lines:\n  ${last}`,
        );
      }
      step(packages);
    },
  });
  if (disk === undefined) return { kernel, initrd, append, disk: { file: base.path, snapshot: true } };
  await copyBase(base, disk, diskBytes);
  return { kernel, initrd, append, disk: { file: disk, snapshot: false } };
}

async function loaded() {
  try {
    return {
      ...(await import("../../guest/debian-guest.ts")),
      ...(await import("../../guest/debian-image.ts")),
      ...(await import("../../guest/agent-ramdisk.ts")),
      ...(await import("../../guest/unpacked-guest.ts")),
    };
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw cause;
    throw new GuestError(
      "guest.packages",
      "packages that fetch Debian are not installed: npm install openpgp tar-stream xz-decompress",
      { cause },
    );
  }
}
