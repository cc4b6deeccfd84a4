// Builds pulse, the integrity guest, from its sources in guests/pulse with our assembler.
import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { assemble, flatBinary } from "../asm/assembler.ts";
import { GuestError } from "./guest-error.ts";

/** The address pulse is linked at and must be loaded at: RAM + 2 MiB. */
export const PULSE_ADDRESS = 0x80200000n;

const SOURCES = fileURLToPath(new URL("../../guests/pulse/", import.meta.url));

/** The kernel image (Linux Image header, flat, loaded at PULSE_ADDRESS). Throws GuestError or AsmError. */
export async function buildPulse(directory = SOURCES): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const names = (await readdir(directory)).filter((name) => name.endsWith(".s")).sort();
    const sources = await Promise.all(
      names.map(async (name) => ({ name, text: await readFile(`${directory}/${name}`, "utf8") })),
    );
    return flatBinary(assemble(sources, { base: PULSE_ADDRESS }));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw cause;
    throw new GuestError("guest.pulse", `pulse's sources are not in ${directory}`, { cause });
  }
}
