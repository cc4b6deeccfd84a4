// What the scripts of the default packages do at their configuration, recorded once: the files that they make
// in an image (guests/debian/configured-SUITE.json, written by tools/record-configuration.ts). It applies
// while the scripts are the recorded ones, whatever the packages' versions are; the guest configures the
// other packages.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { Control } from "./dpkg-state.ts";
import type { RootFiles } from "./root-files.ts";

const SOURCES = fileURLToPath(new URL("../../guests/debian/", import.meta.url));
const SCRIPTS = ["preinst", "postinst", "config", "triggers"];

/** A file, link or directory that the scripts make or change. Without text and target, a directory. */
export interface RecordedEntry {
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly text?: string;
  readonly target?: string;
}

export interface Recording {
  /** A hash of the scripts of each package that has some. */
  readonly packages: Readonly<Record<string, string>>;
  readonly entries: readonly RecordedEntry[];
}

/** Undefined for a package without scripts. */
export function scriptsHash(control: Control): string | undefined {
  const scripts = SCRIPTS.filter((name) => control.has(name));
  if (scripts.length === 0) return undefined;
  const hash = createHash("sha256");
  for (const name of scripts) hash.update(`${name}\0`).update(control.get(name)?.bytes ?? "");
  return hash.digest("hex").slice(0, 16);
}

/** The text of a suite's recording; empty if there is none. */
export function recordingText(suite: string): Promise<string> {
  return readFile(`${SOURCES}configured-${suite}.json`, "utf8").catch(() => "");
}

/** The recording, if it is of the scripts of these packages. */
export async function recordingFor(
  suite: string,
  controls: ReadonlyMap<string, Control>,
): Promise<Recording | undefined> {
  const text = await recordingText(suite);
  if (text === "") return undefined;
  const recording = JSON.parse(text) as Recording;
  const isSame = ([name, hash]: [string, string]): boolean => {
    const control = controls.get(name);
    return control !== undefined && scriptsHash(control) === hash;
  };
  return Object.entries(recording.packages).every(isSame) ? recording : undefined;
}

export async function applyRecording(files: RootFiles, { entries }: Recording): Promise<void> {
  for (const { path, mode, uid, gid, text, target } of entries) {
    if (target !== undefined) files.link(path, target);
    else if (text === undefined) files.makeDirectory(path, mode);
    else await files.write(path, text, mode);
    files.own(path, uid, gid);
  }
}
