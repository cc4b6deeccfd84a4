// `wherry guest fetch`: gets the Debian guest, and says where it is and how to start it.
import type { DebianGuest, DebianGuestOptions } from "../../guest/debian-guest.ts";
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
    help: "where it is kept (default: wherry in the user's cache directory)",
  },
} satisfies Options;

/** The guest, with a progress bar for each download. Rejects with GuestError. */
export async function fetchWithProgress(options: DebianGuestOptions): Promise<DebianGuest> {
  // Not before it is needed: HTTP and OpenPGP take longer to load than all of a machine.
  const { fetchDebianGuest } = await import("../../guest/debian-guest.ts");
  let progress: Progress | undefined;
  let label = "";
  try {
    return await fetchDebianGuest({
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
