// Runs apt-get and apt-cache with separate state in a folder: another architecture, other suites, nothing
// installed. Uses the mirror and keyring of the machine's own apt; apt verifies the index and the packages.
import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { aptSources } from "../src/guest/apt-sources.ts";

export interface Apt {
  /** The mirror's root without a trailing slash. */
  readonly uri: string;
  readonly keyring: string;
  /** The folder of the indexes, with apt's file names. */
  readonly lists: string;
  /**
   * The folder to which `download` and `install --download-only` write packages; the commands' working
   * directory.
   */
  readonly archives: string;
  /** Runs `apt-get` or `apt-cache` and returns its output. */
  run(command: "apt-get" | "apt-cache", ...args: string[]): string;
}

/**
 * State below `root`, which must exist. `sources`: load the indexes of source packages as well (another 10
 * MB). Updates the indexes. Throws if the machine has no Debian mirror or no apt.
 */
export async function separateApt(
  root: string,
  architecture: string,
  suites: readonly string[],
  sources = false,
): Promise<Apt> {
  const [source] = await aptSources();
  if (source === undefined) throw new Error("the machine's apt sources name no Debian mirror");
  const lists = join(root, "lists");
  const archives = join(root, "archives");
  for (const directory of [lists, archives]) await mkdir(join(directory, "partial"), { recursive: true });
  const keyring = source.signedBy ?? "/usr/share/keyrings/debian-archive-keyring.gpg";
  const list = join(root, "sources.list");
  const lines = suites.flatMap((suite) =>
    (sources ? ["deb", "deb-src"] : ["deb"]).map(
      (type) => `${type} [arch=${architecture} signed-by=${keyring}] ${source.uri} ${suite} main\n`,
    ),
  );
  await writeFile(list, lines.join(""));
  const settings = {
    "APT::Architecture": architecture,
    "APT::Architectures": architecture,
    "APT::Sandbox::User": "root",
    "Acquire::GzipIndexes": "false",
    "Acquire::Languages": "none",
    "Dir::Cache::Archives": archives,
    "Dir::Cache::pkgcache": "",
    "Dir::Cache::srcpkgcache": "",
    "Dir::Etc::Preferences": "/dev/null",
    "Dir::Etc::PreferencesParts": "/dev/null",
    "Dir::Etc::SourceList": list,
    "Dir::Etc::SourceParts": "-",
    "Dir::State": root,
    "Dir::State::Lists": lists,
    "Dir::State::status": "/dev/null",
    "Debug::NoLocking": "true",
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  const run: Apt["run"] = (command, ...args) =>
    execFileSync(command, [...flags, ...args], {
      cwd: archives,
      encoding: "utf8",
      maxBuffer: 2 ** 26,
      // The error's message includes apt's messages.
      stdio: ["ignore", "pipe", "pipe"],
    });
  run("apt-get", "update", "-q");
  return { uri: source.uri, keyring, lists, archives, run };
}
