// `wherry guest fetch`: fetches the Debian guest, and prints its path and the command to start it. `wherry
// guest debian`: builds a root file system of Debian, and prints the command to start it.
import { constants } from "node:os";
import type { DebianGuest, DebianGuestOptions } from "../../guest/debian-guest.ts";
import type { DebianBase } from "../../guest/debian-image.ts";
import { GuestError } from "../../guest/guest-error.ts";
import { DEFAULT_SUITE } from "../../guest/debian-suite.ts";
import { rootInitrd } from "../../guest/unpacked-guest.ts";
import { type Options, text, type ValuesOf } from "../options/command-line.ts";
import { size } from "../options/option-values.ts";
import { configureImage } from "./configure-image.ts";
import { EXIT } from "../output/cli-error.ts";
import { bytesText, type Progress, startProgress } from "../output/progress-bar.ts";

export const fetchOptions = {
  mirror: {
    value: "URL",
    parse: text,
    help: "Debian mirror (default: the one in this machine's apt sources)",
  },
  suite: { value: "NAME", parse: text, help: `Debian suite (default ${DEFAULT_SUITE})` },
  keyring: { value: "FILE", parse: text, help: "OpenPGP keys of the archive (default: those that apt uses)" },
  cache: {
    value: "DIR",
    parse: text,
    help: "directory of the guest (default: wherry in the user's cache directory)",
  },
} satisfies Options;

const words = (list: string): readonly string[] => list.split(",").filter((word) => word !== "");

export const imageOptions = {
  ...fetchOptions,
  include: { value: "PKG,…", parse: words, many: true, help: "packages in addition to the default ones" },
  size: { value: "SIZE", parse: size("M"), help: "size of the image (default 4G); it starts sparse" },
  "kernel-suite": { value: "NAME", parse: text, help: `suite of the kernel (default ${DEFAULT_SUITE})` },
} satisfies Options;

/**
 * Loads the code that fetches Debian only when needed: OpenPGP, tar and xz take longer to load than the rest
 * of a machine, and they are optional peer dependencies of the package. Rejects with GuestError if they are
 * missing.
 */
export async function loaded<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw cause;
    const advice = "npm install openpgp tar-stream xz-decompress";
    throw new GuestError("guest.packages", `packages that fetch Debian are not installed: ${advice}`, {
      cause,
    });
  }
}

interface Report {
  readonly step: string;
  readonly what: string;
  readonly done: number;
  readonly total: number;
}

/**
 * Runs `work` with a progress bar, a new one for each step. `isSame`: whether a report goes on with the bar
 * of the one before.
 */
async function withProgress<T>(
  isSame: (report: Report, before: Report) => boolean,
  work: (onProgress: (report: Report) => void) => Promise<T>,
): Promise<T> {
  let progress: Progress | undefined;
  let before: Report | undefined;
  try {
    return await work((report) => {
      const { step, what, done, total } = report;
      const goesOn = before !== undefined && isSame(report, before);
      if (!goesOn) progress?.stop();
      if (!goesOn || progress === undefined) progress = startProgress(step);
      before = report;
      const amount =
        step === "configure" ? `${done} of ${total} packages` : `${bytesText(done)} of ${bytesText(total)}`;
      progress.update(done, total, `${what}, ${amount}`);
    });
  } finally {
    progress?.stop();
  }
}

/** The guest, with a progress bar for each download. Rejects with GuestError. */
export async function fetchWithProgress(options: DebianGuestOptions): Promise<DebianGuest> {
  const { fetchDebianGuest } = await loaded(() => import("../../guest/debian-guest.ts"));
  return withProgress(
    (report, before) => report.step === before.step && report.what === before.what,
    (onProgress) => fetchDebianGuest({ ...options, onProgress }),
  );
}

export async function guestFetch(options: DebianGuestOptions): Promise<void> {
  const guest = await fetchWithProgress({ ...options, refresh: true });
  const start = `wherry run --smp 4 --kernel ${guest.kernel} --initrd ${guest.initrd} --append console=ttyS0`;
  process.stdout.write(
    [
      `Debian ${guest.suite}, Linux ${guest.version}`,
      `kernel:   ${guest.kernel}`,
      `initrd:   ${guest.initrd}`,
      `firmware: ${guest.opensbi}`,
      `start it: ${start}\n`,
    ].join("\n"),
  );
}

type ImageValues = Omit<ValuesOf<typeof imageOptions>, "size">;

/** What boots a Debian image. */
export interface DebianImage {
  readonly base: DebianBase;
  readonly kernel: string;
  /** Mounts the image's root file system. */
  readonly initrd: string;
}

/** A kernel boots any suite's user space. Rejects with GuestError. */
export async function kernelWithProgress(values: ImageValues): Promise<string> {
  const { mirror, keyring, cache, "kernel-suite": suite } = values;
  return (await fetchWithProgress({ mirror, keyring, cache, suite })).kernel;
}

/** The configured image for these packages, from the cache or built. Rejects with GuestError. */
export async function buildWithProgress(values: ImageValues): Promise<DebianImage> {
  const { debianBase } = await loaded(() => import("../../guest/debian-image.ts"));
  const kernel = await kernelWithProgress(values);
  const initrd = await rootInitrd(kernel);
  if (initrd === undefined) throw new GuestError("guest.modules", `${kernel} has no modules beside it`);
  const base = await withProgress(
    (report, before) => report.step === before.step,
    (onProgress) =>
      debianBase({
        ...values,
        include: values.include.flat(),
        onProgress,
        configure: (disk, packages) =>
          configureImage({
            ...{ kernel, initrd, disk, packages },
            onProgress: (what, done) => onProgress({ step: "configure", what, done, total: packages }),
          }),
      }),
  );
  return { base, kernel, initrd };
}

/** Builds an image at `out`. Rejects with GuestError; then nothing is at `out`. */
export async function guestDebian(values: ValuesOf<typeof imageOptions>, out: string): Promise<void> {
  const { copyBase, DEFAULT_SIZE, refuseExisting } = await loaded(
    () => import("../../guest/debian-image.ts"),
  );
  await refuseExisting(out);
  const { base, kernel } = await untilSignal(() => buildWithProgress(values));
  const isQcow2 = out.endsWith(".qcow2");
  const copy = isQcow2 ? (await import("./image-command.ts")).convertToQcow2 : undefined;
  await copyBase(base, out, values.size ?? DEFAULT_SIZE, copy);
  const machine = `--smp 4 --memory 1G --rng --kernel ${kernel} --append "root=/dev/vda rw console=ttyS0"`;
  process.stdout.write(
    [
      `Debian ${base.suite}, ${base.packages} packages`,
      `image:    ${out}`,
      `kernel:   ${kernel}`,
      `start it: wherry run ${machine} --drive file=${out},format=${isQcow2 ? "qcow2" : "raw"}\n`,
    ].join("\n"),
  );
}

/** A signal ends the process during `work`, with its temporary files and the machine that it runs. */
export async function untilSignal<T>(work: () => Promise<T>): Promise<T> {
  const signals = ["SIGTERM", "SIGHUP", "SIGINT"] as const;
  const end = (signal: NodeJS.Signals): void => process.exit(EXIT.SIGNAL + constants.signals[signal]);
  for (const signal of signals) process.on(signal, end);
  try {
    return await work();
  } finally {
    for (const signal of signals) process.off(signal, end);
  }
}
