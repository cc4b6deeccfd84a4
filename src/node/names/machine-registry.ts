// The machines of this user that have a name: an entry and a QMP socket each, in a directory that nobody else
// can enter. Entries of processes that have ended are removed by whoever finds them.
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { WherryError } from "../../base/errors.ts";
import { hasExited, ownIdentity } from "./process-identity.ts";

/** A machine's name, or its directory of names, cannot be used. */
export class RegistryError extends WherryError {}

export interface MachineEntry {
  readonly name: string;
  readonly pid: number;
  /** See process-identity.ts. */
  readonly identity: string;
  /** The path of its QMP socket. */
  readonly qmp: string;
  readonly harts: number;
  readonly memoryBytes: number;
  /** ms since 1970. */
  readonly started: number;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$/;

/** What can be a machine's name; socket addresses cannot. */
export const isMachineName = (text: string): boolean => NAME.test(text);

/** $XDG_RUNTIME_DIR/wherry, or a private directory below the temporary one. Throws RegistryError. */
export function runtimeDirectory(): string {
  const { uid } = userInfo();
  const runtime = process.env["XDG_RUNTIME_DIR"];
  const has = runtime !== undefined && runtime !== "" && existsSync(runtime);
  const path = has ? join(runtime, "wherry") : join(tmpdir(), `wherry-${uid}`);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const found = lstatSync(path);
  if (!found.isDirectory() || (uid >= 0 && (found.uid !== uid || (found.mode & 0o077) !== 0))) {
    throw new RegistryError(
      "registry.directory",
      `${path}: expected a directory that only user ${uid} can enter: remove it, or set XDG_RUNTIME_DIR`,
    );
  }
  return path;
}

const entryPath = (directory: string, name: string): string => join(directory, `${name}.json`);
const socketPath = (directory: string, name: string): string => join(directory, `${name}.qmp`);

/** Undefined if the text is no entry: it is damaged. */
function entryOf(text: string): MachineEntry | undefined {
  try {
    const value = JSON.parse(text) as Partial<MachineEntry> | null;
    return typeof value?.identity === "string" && typeof value.qmp === "string"
      ? (value as MachineEntry)
      : undefined;
  } catch {
    return undefined;
  }
}

/** Undefined if there is none, or if it is stale or damaged: then it is removed. */
function readEntry(directory: string, name: string): MachineEntry | undefined {
  let text: string;
  try {
    text = readFileSync(entryPath(directory, name), "utf8");
  } catch {
    return undefined;
  }
  const entry = entryOf(text);
  if (entry !== undefined && !hasExited(entry.identity)) return entry;
  rmSync(entryPath(directory, name), { force: true });
  rmSync(socketPath(directory, name), { force: true });
  return undefined;
}

/** The machines that run, by name. */
export function machines(): MachineEntry[] {
  const directory = runtimeDirectory();
  return readdirSync(directory)
    .filter((file) => file.endsWith(".json"))
    .sort()
    .map((file) => readEntry(directory, file.slice(0, -".json".length)))
    .filter((entry) => entry !== undefined);
}

/** Throws RegistryError if no machine of that name runs. */
export function machineNamed(name: string): MachineEntry {
  const entry = isMachineName(name) ? readEntry(runtimeDirectory(), name) : undefined;
  if (entry !== undefined) return entry;
  const names = machines().map((one) => one.name);
  const there = names.length === 0 ? "none runs" : `there are ${names.join(", ")}`;
  throw new RegistryError("registry.unknown", `no machine is named ${name}; ${there}`);
}

/** However the process ends, short of a kill. */
const atExit = new Set<() => void>();
process.on("exit", () => {
  for (const remove of atExit) remove();
});

export interface Registered {
  /** For the machine's QMP server. */
  readonly qmp: string;
  /** The machine serves QMP: others may find it. */
  publish(machine: { readonly harts: number; readonly memoryBytes: number }): void;
  /** Removes the entry. */
  remove(): void;
}

/** Takes a name for this process. Throws RegistryError if another machine has it. */
export function registerMachine(name: string): Registered {
  const directory = runtimeDirectory();
  const other = readEntry(directory, name);
  if (other !== undefined)
    throw new RegistryError(
      "registry.in-use",
      `a machine named ${name} runs already, in process ${other.pid}`,
    );
  const qmp = socketPath(directory, name);
  const path = entryPath(directory, name);
  const remove = (): void => rmSync(path, { force: true });
  /** The process ends without having closed its servers. */
  const removeAll = (): void => {
    remove();
    rmSync(qmp, { force: true });
  };
  return {
    qmp,
    publish({ harts, memoryBytes }) {
      const identity = ownIdentity() ?? "";
      const entry: MachineEntry = {
        name,
        pid: process.pid,
        identity,
        qmp,
        harts,
        memoryBytes,
        started: Date.now(),
      };
      // Whole or not there: a part of it would be taken for a damaged one.
      const next = `${path}.${process.pid}`;
      writeFileSync(next, `${JSON.stringify(entry)}\n`, { mode: 0o600 });
      try {
        linkSync(next, path);
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
        throw new RegistryError("registry.in-use", `a machine named ${name} has started meanwhile`, {
          cause,
        });
      } finally {
        rmSync(next, { force: true });
      }
      atExit.add(removeAll);
    },
    remove() {
      // One that was never published belongs to somebody else.
      if (atExit.delete(removeAll)) remove();
    },
  };
}
