// dpkg's database (/var/lib/dpkg) for packages that are unpacked into an image: the state in which `dpkg
// --unpack` leaves them. A package without a script to run at configuration is installed then; the others
// wait for `dpkg --configure`.
import { createHash } from "node:crypto";
import { parseStanza } from "./apt-sources.ts";
import { eachEntry } from "./deb-package.ts";
import { GuestError } from "./guest-error.ts";
import type { RootFiles } from "./root-files.ts";

const DATABASE = "var/lib/dpkg";
const NATIVE = "riscv64";

/** Files of a package's control archive, by name. */
export type Control = ReadonlyMap<string, { readonly bytes: Uint8Array; readonly mode: number }>;

export async function readControl(path: string): Promise<Control> {
  const files = new Map<string, { bytes: Uint8Array; mode: number }>();
  await eachEntry(path, "control", async ({ name, header, read }) => {
    if (header.type === "file")
      files.set(name, { bytes: await read(), mode: (header.mode ?? 0o644) & 0o777 });
  });
  return files;
}

const textOf = (control: Control, name: string): string =>
  Buffer.from(control.get(name)?.bytes ?? new Uint8Array()).toString();

/**
 * Whether a package has a preinst that does something at a first installation. Those that debhelper writes
 * for changes between versions do nothing then.
 */
export function hasPreinst(control: Control): boolean {
  const lines = textOf(control, "preinst")
    .split("\n")
    .map((line) => line.trim());
  return lines.some(
    (line) => !/^(#.*|set -e|exit 0|dpkg-maintscript-helper [\w-]+( .*)? -- "\$@"|)$/.test(line),
  );
}

export class DpkgState {
  readonly #files: RootFiles;
  readonly #stanzas: string[] = [];
  readonly #triggers = new Map<string, string[]>();
  readonly #owners = new Map<string, { readonly name: string; readonly replaces: string }>();
  /** Packages that wait for their configuration. */
  unconfigured = 0;

  constructor(files: RootFiles) {
    this.#files = files;
  }

  /**
   * Unpacks a package; `isConfigured`: what its scripts do is done otherwise. Returns its name in the
   * database. Rejects with GuestError.
   */
  async unpack(
    path: string,
    control: Control,
    isConfigured: boolean,
    onBytes: (done: number, total: number) => void,
  ): Promise<string> {
    const stanza = textOf(control, "control").trim();
    const fields = parseStanza(stanza);
    const name = fields.get("package");
    if (name === undefined) throw new GuestError("guest.deb", `${path} does not name its package`);
    const key =
      fields.get("multi-arch") === "same" ? `${name}:${fields.get("architecture") ?? NATIVE}` : name;
    const conffiles = textOf(control, "conffiles")
      .split("\n")
      .filter((line) => line.startsWith("/"));
    const sums = new Map<string, string>();
    const list: string[] = [];
    const owner = { name, replaces: fields.get("replaces") ?? "" };
    await eachEntry(
      path,
      "data",
      async (entry) => {
        const own = `/${entry.name}`;
        list.push(own === "/" ? "/." : own);
        if (entry.header.type !== "directory" && !this.#takes(own, owner)) return;
        const bytes = await this.#files.unpack(entry);
        if (bytes !== undefined && conffiles.includes(own))
          sums.set(own, createHash("md5").update(bytes).digest("hex"));
      },
      onBytes,
    );
    const info = `${DATABASE}/info`;
    await this.#files.write(`${info}/${key}.list`, list.map((each) => `${each}\n`).join(""));
    for (const [file, { bytes, mode }] of control)
      if (file !== "control") await this.#files.write(`${info}/${key}.${file}`, bytes, mode);
    const isReady = isConfigured || !control.has("postinst");
    if (!isReady) this.unconfigured++;
    const sumLines = conffiles.flatMap((each) => (sums.has(each) ? [`\n ${each} ${sums.get(each)}`] : []));
    const status = [
      `Status: install ok ${isReady ? "installed" : "unpacked"}`,
      ...(sumLines.length === 0 ? [] : [`Conffiles:${sumLines.join("")}`]),
    ];
    this.#stanzas.push(`${stanza}\n${status.join("\n")}\n`);
    this.#interests(key, textOf(control, "triggers"));
    return key;
  }

  /** Whether the package's file takes the place; another package may have one there that stays. */
  #takes(path: string, owner: { readonly name: string; readonly replaces: string }): boolean {
    const before = this.#owners.get(path);
    if (before !== undefined && before.name !== owner.name) {
      const names = (replaces: string): string[] => replaces.split(/[,\s]+/);
      if (names(before.replaces).includes(owner.name)) return false;
      if (!names(owner.replaces).includes(before.name))
        throw new GuestError(
          "guest.conflict",
          `the packages ${before.name} and ${owner.name} both have ${path}`,
        );
    }
    this.#owners.set(path, owner);
    return true;
  }

  #interests(key: string, text: string): void {
    for (const line of text.split("\n")) {
      const match = /^\s*interest(?:-(noawait|await))?\s+(\S+)/.exec(line);
      if (match === null) continue;
      const [, kind, trigger] = match as unknown as [string, string | undefined, string];
      const what = `${key}${kind === "noawait" ? "/noawait" : ""}`;
      const file = trigger.startsWith("/") ? "File" : trigger;
      const entry = file === "File" ? `${trigger} ${what}` : what;
      this.#triggers.set(file, [...(this.#triggers.get(file) ?? []), entry]);
    }
  }

  /** Writes the database; `automatic` are packages that were not asked for, which apt may remove again. */
  async finish(automatic: readonly string[]): Promise<void> {
    const files = this.#files;
    for (const name of ["alternatives", "parts", "updates"]) files.makeDirectory(`${DATABASE}/${name}`);
    await files.write(`${DATABASE}/status`, this.#stanzas.map((each) => `${each}\n`).join(""));
    await files.write(`${DATABASE}/info/format`, "1\n");
    // The recorded ones may be there.
    if (files.find(`${DATABASE}/diversions`) === undefined) await files.write(`${DATABASE}/diversions`, "");
    for (const name of ["available", "statoverride", "lock", "triggers/Unincorp", "triggers/Lock"])
      await files.write(`${DATABASE}/${name}`, "");
    for (const [name, lines] of this.#triggers)
      await files.write(`${DATABASE}/triggers/${name}`, `${lines.join("\n")}\n`);
    const marks = automatic.map((name) => `Package: ${name}\nArchitecture: ${NATIVE}\nAuto-Installed: 1\n\n`);
    await files.write("var/lib/apt/extended_states", marks.join(""));
  }
}
