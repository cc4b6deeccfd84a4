// The Packages index of an archive: the stanzas of selected packages, or all of them.
import { createReadStream } from "node:fs";
import { parseStanza } from "./apt-sources.ts";
import { decompress } from "./deb-package.ts";
import { compareVersions } from "./debian-version.ts";
import type { Candidate } from "./dependencies.ts";
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

/** A package of an index, whose other fields are read when they are asked for. */
export class IndexEntry implements Candidate, IndexFile {
  readonly name: string;
  readonly version: string;
  readonly #stanza: string;

  constructor(name: string, stanza: string) {
    this.name = name;
    this.#stanza = stanza;
    this.version = this.#required("Version");
  }

  /** The value of a field of one line. */
  field(name: string): string | undefined {
    return new RegExp(`^${name}: *(.*)$`, "m").exec(this.#stanza)?.[1];
  }

  #required(name: string): string {
    const value = this.field(name);
    if (value === undefined)
      throw new GuestError("guest.index", `the index entry of package ${this.name} lacks ${name}`);
    return value;
  }

  /** Path on the mirror. */
  get filename(): string {
    return this.#required("Filename");
  }
  get size(): number {
    return Number(this.#required("Size"));
  }
  get sha256(): string {
    return this.#required("SHA256");
  }
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
  await eachStanza(path, (name, stanza) => {
    if (!wanted(name)) return;
    const entry = toPackage(stanza);
    if (!entry) throw new GuestError("guest.index", `the index entry of package ${name} lacks a field`);
    found.set(name, entry);
  });
  return found;
}

/** All packages in the (compressed) index at `path`, by name; of several versions, the newest. */
export async function readIndex(path: string): Promise<Map<string, IndexEntry>> {
  const found = new Map<string, IndexEntry>();
  await eachStanza(path, (name, stanza) => {
    const entry = new IndexEntry(name, stanza);
    const known = found.get(name);
    if (known === undefined || compareVersions(known.version, entry.version) < 0) found.set(name, entry);
  });
  return found;
}

async function eachStanza(path: string, visit: (name: string, stanza: string) => void): Promise<void> {
  const take = (stanza: string): void => {
    const name = /^Package: (\S+)/m.exec(stanza)?.[1];
    if (name !== undefined) visit(name, stanza);
  };
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of decompress(createReadStream(path), path)) {
    const stanzas = (rest + decoder.decode(chunk as Uint8Array, { stream: true })).split("\n\n");
    rest = stanzas.pop() as string;
    for (const stanza of stanzas) take(stanza);
  }
  if (rest.trim() !== "") take(rest);
}
