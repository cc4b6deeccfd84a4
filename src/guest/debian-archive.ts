// A Debian archive: the mirrors that may serve it, the signed index of a suite, and the packages that the
// index names. All of it is kept in the cache; what is there already is checked, not fetched again.
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, join, posix } from "node:path";
import { type AptSource, aptSources } from "./apt-sources.ts";
import { type IndexFile, readKeyring, verifyRelease } from "./debian-release.ts";
import { download, fetchText, type OnBytes } from "./download.ts";
import { GuestError } from "./guest-error.ts";
import { writeAtomically } from "./unpacked-guest.ts";

const DEFAULT_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
/** Every mirror has the first file; a copy made by apt may have only the second. */
const INDEXES = ["main/binary-riscv64/Packages.xz", "main/binary-riscv64/Packages"] as const;

export interface ArchiveOptions {
  /**
   * URL of a Debian mirror's root (the directory with dists and pool). Default: the machine's apt sources.
   */
  readonly mirror?: string | undefined;
  /** OpenPGP keyring file. Default: the apt source's Signed-By, else the debian-archive-keyring package's. */
  readonly keyring?: string | undefined;
  /** Default: wherry in $XDG_CACHE_HOME or ~/.cache. */
  readonly cache?: string | undefined;
  readonly aptDirectory?: string;
  readonly signal?: AbortSignal | undefined;
}

/** A suite on one mirror, whose signature was good. */
export interface Archive {
  readonly uri: string;
  readonly suite: string;
  /** The Packages file, perhaps compressed. */
  readonly index: string;
  /** Downloads a package of the index to `path`. Rejects with GuestError guest.mirror or guest.checksum. */
  fetch(entry: IndexFile & { readonly filename: string }, path: string, onBytes?: OnBytes): Promise<void>;
}

export function defaultCache(): string {
  const base = process.env["XDG_CACHE_HOME"];
  return join(base !== undefined && base.startsWith("/") ? base : join(homedir(), ".cache"), "wherry");
}

/** Throws GuestError "guest.suite" for a name that could be a path. */
export function checkSuite(suite: string): void {
  if (!/^[\w.-]+$/.test(suite))
    throw new GuestError("guest.suite", `'${suite}' is not the name of a Debian suite`);
}

/**
 * `use` with the first mirror with which it ends without "guest.mirror". Without `offline`, the signed index
 * is fetched each time; with it, the cached one serves where no mirror answers.
 */
export async function withMirrors<T>(
  directory: string,
  suite: string,
  options: ArchiveOptions & { readonly offline?: boolean },
  onIndex: (name: string, done: number, total: number) => void,
  use: (archive: Archive) => Promise<T>,
): Promise<T> {
  const sources: AptSource[] =
    options.mirror === undefined
      ? await aptSources(options.aptDirectory)
      : [{ uri: options.mirror.replace(/\/$/, ""), signedBy: undefined }];
  const failures: string[] = [];
  for (const source of sources) {
    try {
      return await use(await open(source, directory, suite, options, onIndex));
    } catch (error) {
      if (!(error instanceof GuestError) || error.code !== "guest.mirror") throw error;
      failures.push(error.message);
    }
  }
  const hint = "name a Debian mirror with --mirror";
  throw new GuestError(
    "guest.mirror",
    failures.length > 0
      ? `no mirror serves Debian ${suite}: ${failures.join("; ")}; ${hint}`
      : `the machine's apt sources name no mirror of the Debian archive; ${hint}`,
  );
}

async function open(
  source: AptSource,
  directory: string,
  suite: string,
  options: ArchiveOptions & { readonly offline?: boolean },
  onIndex: (name: string, done: number, total: number) => void,
): Promise<Archive> {
  const { signal } = options;
  const dists = `${source.uri}/dists/${suite}`;
  const kept = join(directory, "InRelease");
  const release = await fetchText(`${dists}/InRelease`, signal).catch(async (error: unknown) => {
    if (!options.offline || signal?.aborted) throw error;
    return readFile(kept, "utf8").catch(() => {
      throw error;
    });
  });
  const keys = await readKeyring(options.keyring ?? source.signedBy ?? DEFAULT_KEYRING);
  const files = await verifyRelease(release, keys, suite);
  const fetchIndex = async (name: string): Promise<string> => {
    const expected = files.get(name);
    if (!expected) throw new GuestError("guest.index", `suite ${suite} has no index ${name}`);
    const path = join(directory, basename(name));
    const onBytes: OnBytes = (done, total) => onIndex(basename(name), done, total);
    const fetchFrom = (place: string) => download(`${dists}/${place}`, path, expected, onBytes, signal);
    await fetchFrom(name).catch((error: unknown) => {
      if (!(error instanceof GuestError) || error.code !== "guest.checksum") throw error;
      // While a mirror is updated, the name may have the index of another day; its hash has always this one.
      return fetchFrom(`${posix.dirname(name)}/by-hash/SHA256/${expected.sha256}`).catch(() => {
        throw error;
      });
    });
    return path;
  };
  const [packed, plain] = INDEXES;
  const index = await fetchIndex(packed).catch((error: unknown) => {
    if (!(error instanceof GuestError) || error.code !== "guest.mirror") throw error;
    return fetchIndex(plain).catch(() => {
      throw error;
    });
  });
  await writeAtomically(kept, release);
  return {
    uri: source.uri,
    suite,
    index,
    fetch: (entry, path, onBytes) =>
      download(`${source.uri}/${entry.filename}`, path, entry, onBytes, signal),
  };
}
