// Boots a new Debian image once, so that its packages' own scripts configure it (guests/debian/configure),
// and watches what the guest reports on its console.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuestError } from "../../guest/guest-error.ts";
import { withoutKernelLog } from "../../guest/kernel-log.ts";
import { MachineProcess } from "../machine/machine-process.ts";

/** Minutes without a line of output after which the guest is taken for dead. */
const SILENCE_MS = 20 * 60_000;
const DEAD = /Kernel panic|wherry: (?:no root|cannot mount)[^\n]*/;
/** Lines of output that an error shows. */
const SHOWN_LINES = 15;

export interface ConfigureOptions {
  readonly kernel: string;
  readonly initrd: string;
  /** The raw image. */
  readonly disk: string;
  /** Packages to configure. */
  readonly packages: number;
  readonly onProgress: (what: string, done: number) => void;
}

/** Resolves when the guest has configured all packages and unmounted the image. Rejects with GuestError. */
export async function configureImage(options: ConfigureOptions): Promise<void> {
  const { kernel, initrd, disk, onProgress } = options;
  const directory = await mkdtemp(join(tmpdir(), "wherry-image-"));
  const machine = await MachineProcess.start("image", directory, [
    ...["--smp", "2", "--memory", "1G", "--rng", "--drive", `file=${disk.replaceAll(",", ",,")}`],
    ...["--kernel", kernel, "--initrd", initrd],
    ...["--append", "console=ttyS0 root=/dev/vda wherry.configure quiet panic=-1 random.trust_bootloader=on"],
  ]);
  const { console } = machine;
  const setUp = new Set<string>();
  let output = "";
  let silence: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const fail = (message: string): void =>
        reject(new GuestError("guest.configure", `${message}; its last lines:\n${lastLines(output)}`));
      const look = (): void => {
        clearTimeout(silence);
        // The machine's process keeps this one alive meanwhile; later output must not.
        silence = setTimeout(
          () => fail("the guest that configures the image prints nothing"),
          SILENCE_MS,
        ).unref();
        output = withoutKernelLog(console.textFrom(0).replaceAll("\r", ""));
        for (const [, name] of output.matchAll(/^Setting up (\S+) \(/gm)) {
          if (setUp.has(name as string)) continue;
          setUp.add(name as string);
          onProgress(name as string, setUp.size);
        }
        const failed = /^wherry-configure: failed: .*$/m.exec(output);
        if (failed !== null && output.includes("wherry-configure: unmounted"))
          fail(failed[0].replace("wherry-configure: failed:", "the packages could not be configured:"));
        else if (DEAD.test(output))
          fail(`the guest that configures the image has failed: ${DEAD.exec(output)?.[0]}`);
      };
      console.onOutput(look);
      look();
      void machine.exited.then(() => {
        look();
        if (/^wherry-configure: done /m.test(output) && output.includes("wherry-configure: unmounted"))
          resolve();
        else fail("the guest that configures the image ended too early");
      });
    });
  } finally {
    clearTimeout(silence);
    await machine.quit();
    await rm(directory, { recursive: true, force: true });
  }
}

function lastLines(text: string): string {
  const lines = text.trimEnd().split("\n");
  return lines
    .slice(-SHOWN_LINES)
    .map((line) => `  ${line}`)
    .join("\n");
}
