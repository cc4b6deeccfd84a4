// `wherry guest fetch`: fetches the Debian guest, and prints its path and the command to start it.
import type { DebianGuest, DebianGuestOptions, fetchDebianGuest } from "../../guest/debian-guest.ts";
import { GuestError } from "../../guest/guest-error.ts";
import { DEFAULT_SUITE } from "../../guest/debian-suite.ts";
import { type Options, text } from "../options/command-line.ts";
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

/**
 * Loads the code that fetches Debian only when needed: OpenPGP, tar and xz take longer to load than the rest
 * of a machine, and they are optional peer dependencies of the package. Rejects with GuestError if they are
 * missing.
 */
async function loadFetcher(): Promise<typeof fetchDebianGuest> {
  try {
    return (await import("../../guest/debian-guest.ts")).fetchDebianGuest;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw cause;
    const advice = "npm install openpgp tar-stream xz-decompress";
    throw new GuestError("guest.packages", `packages that fetch Debian are not installed: ${advice}`, {
      cause,
    });
  }
}

/** The guest, with a progress bar for each download. Rejects with GuestError. */
export async function fetchWithProgress(options: DebianGuestOptions): Promise<DebianGuest> {
  const fetchGuest = await loadFetcher();
  let progress: Progress | undefined;
  let label = "";
  try {
    return await fetchGuest({
      ...options,
      onProgress({ step, what, done, total }) {
        const next = `${step} ${what}`;
        if (next !== label) progress?.stop();
        if (next !== label || progress === undefined) progress = startProgress(step);
        label = next;
        progress.update(done, total, `${what}, ${bytesText(done)} of ${bytesText(total)}`);
      },
    });
  } finally {
    progress?.stop();
  }
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
