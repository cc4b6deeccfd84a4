// What the scripts of the default packages do at their configuration, recorded once: the files that they make
// in an image (guests/debian/configured-SUITE-INIT.json, written by tools/record-configuration.ts). It
// applies while the scripts are the recorded ones, whatever the packages' versions are; the guest configures
// the other packages.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { Control } from "./dpkg-state.ts";
import type { RootFiles } from "./root-files.ts";

const SOURCES = fileURLToPath(new URL("../../guests/debian/", import.meta.url));
const SCRIPTS = ["preinst", "postinst", "config", "triggers"];

/**
 * A file, link or directory that the scripts make or change. Without text and target, a directory, or a file
 * of which only the mode or owner changes.
 */
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

/** The init systems with which the default packages were recorded. */
const INITS = ["sysvinit", "systemd"];

/** The texts of a suite's recordings, empty where there is none. */
export function recordingTexts(suite: string): Promise<readonly string[]> {
  return Promise.all(
    INITS.map((init) => readFile(`${SOURCES}configured-${suite}-${init}.json`, "utf8").catch(() => "")),
  );
}

/** The recording of these packages' scripts, if there is one. */
export async function recordingFor(
  suite: string,
  controls: ReadonlyMap<string, Control>,
): Promise<Recording | undefined> {
  const isSame = ([name, hash]: [string, string]): boolean => {
    const control = controls.get(name);
    return control !== undefined && scriptsHash(control) === hash;
  };
  return (await recordingTexts(suite))
    .filter((text) => text !== "")
    .map((text) => JSON.parse(text) as Recording)
    .find(({ packages }) => Object.entries(packages).every(isSame));
}

export async function applyRecording(files: RootFiles, { entries }: Recording): Promise<void> {
  for (const { path, mode, uid, gid, text, target } of entries) {
    if (target !== undefined) files.link(path, target);
    else if (text !== undefined) await files.write(path, text, mode);
    else if (files.find(path) === undefined) files.makeDirectory(path, mode);
    files.own(path, uid, gid, mode);
  }
}
