// The mirrors and keyrings that the machine's own apt uses for the Debian main archive: sources.list(5),
// deb822 (.sources) and one-line (.list) style. Left out: other archives (security, ports), transports other
// than HTTP.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

export interface AptSource {
  /** Without a trailing slash. */
  readonly uri: string;
  /** The path of the keyring that the source names, if any. */
  readonly signedBy: string | undefined;
}

/** One stanza of "Key: value" lines with continuation lines; keys in lower case. Comments are dropped. */
export function parseStanza(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  let key = "";
  for (const line of text.split("\n")) {
    if (line.startsWith("#")) continue;
    if (/^[ \t]/.test(line)) fields.set(key, `${fields.get(key) ?? ""}\n${line.trim()}`);
    else {
      const colon = line.indexOf(":");
      if (colon < 0) continue;
      key = line.slice(0, colon).toLowerCase();
      fields.set(key, line.slice(colon + 1).trim());
    }
  }
  return fields;
}

function words(text: string | undefined): string[] {
  return (text ?? "").split(/\s+/).filter((word) => word !== "");
}

/** The main archive is at …/debian on every mirror; security and ports have other paths. */
function isMainArchive(uri: string, suites: readonly string[], components: readonly string[]): boolean {
  return (
    /^https?:\/\/.*\/debian\/?$/.test(uri) &&
    components.includes("main") &&
    suites.some((suite) => !suite.includes("security"))
  );
}

function fromDeb822(text: string): AptSource[] {
  return text.split(/\n\s*\n/).flatMap((stanza) => {
    const fields = parseStanza(stanza);
    if (!words(fields.get("types")).includes("deb") || /^(no|false)$/i.test(fields.get("enabled") ?? ""))
      return [];
    const signedBy = fields.get("signed-by");
    return words(fields.get("uris"))
      .filter((uri) => isMainArchive(uri, words(fields.get("suites")), words(fields.get("components"))))
      .map((uri) => source(uri, signedBy));
  });
}

function fromOneLine(text: string): AptSource[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]*)/.exec(line);
    if (!match) return [];
    const [, options, uri, suite, components] = match as unknown as [
      string,
      string | undefined,
      string,
      string,
      string,
    ];
    const signedBy = words(options).find((option) => option.startsWith("signed-by="));
    return isMainArchive(uri, [suite], words(components))
      ? [source(uri, signedBy?.slice("signed-by=".length))]
      : [];
  });
}

/** A key embedded in the source, not given as a path, is ignored. */
function source(uri: string, signedBy: string | undefined): AptSource {
  return { uri: uri.replace(/\/$/, ""), signedBy: signedBy?.startsWith("/") ? signedBy : undefined };
}

/**
 * The sources of the Debian main archive below `directory` (normally /etc/apt), each mirror once; may be
 * empty.
 */
export async function aptSources(directory = "/etc/apt"): Promise<AptSource[]> {
  const parts = join(directory, "sources.list.d");
  const names = (await readdir(parts).catch((): string[] => [])).toSorted().map((name) => join(parts, name));
  const found = new Map<string, AptSource>();
  for (const path of [join(directory, "sources.list"), ...names]) {
    const text = await readFile(path, "utf8").catch(() => "");
    const sources = path.endsWith(".sources")
      ? fromDeb822(text)
      : path.endsWith(".list")
        ? fromOneLine(text)
        : [];
    for (const each of sources) if (!found.has(each.uri)) found.set(each.uri, each);
  }
  return [...found.values()];
}
