// The Packages index of an archive: reads the stanzas of selected packages.
import { createReadStream } from "node:fs";
import { parseStanza } from "./apt-sources.ts";
import { decompress } from "./deb-package.ts";
import { GuestError } from "./guest-error.ts";
import type { IndexFile } from "./debian-release.ts";

export interface Package extends IndexFile {
  readonly name: string;
  readonly version: string;
  /** Packages in Depends, first alternatives only. */
  readonly depends: readonly string[];
  /** Path on the mirror. */
  readonly filename: string;
}

function toPackage(stanza: string): Package | undefined {
  const fields = parseStanza(stanza);
  const [name, version, filename] = [fields.get("package"), fields.get("version"), fields.get("filename")];
  const [size, sha256] = [Number(fields.get("size")), fields.get("sha256")];
  if (!name || !version || !filename || !sha256 || !Number.isSafeInteger(size)) return undefined;
  const depends = (fields.get("depends") ?? "")
    .split(",")
    .map((entry) => entry.trim().split(/[\s|(]/)[0] as string);
  return { name, version, filename, size, sha256, depends: depends.filter((each) => each !== "") };
}

/** The packages in the (compressed) index at `path` whose name `wanted` accepts, by name. */
export async function readPackages(
  path: string,
  wanted: (name: string) => boolean,
): Promise<Map<string, Package>> {
  const found = new Map<string, Package>();
  const take = (stanza: string): void => {
    const name = /^Package: (\S+)/m.exec(stanza)?.[1];
    if (name === undefined || !wanted(name)) return;
    const entry = toPackage(stanza);
    if (!entry) throw new GuestError("guest.index", `the index entry of package ${name} lacks a field`);
    found.set(name, entry);
  };
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of decompress(createReadStream(path), path)) {
    const stanzas = (rest + decoder.decode(chunk as Uint8Array, { stream: true })).split("\n\n");
    rest = stanzas.pop() as string;
    for (const stanza of stanzas) take(stanza);
  }
  if (rest.trim() !== "") take(rest);
  return found;
}
