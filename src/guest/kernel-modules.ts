// Kernel modules for an initramfs: their dependencies, from each .modinfo section (Debian's package leaves
// modules.dep to depmod at installation), and the tables that busybox's modprobe reads.
import { decodeUtf8 } from "../base/text.ts";
import { GuestError } from "./guest-error.ts";

/**
 * A module's .modinfo. `depends` holds names with underscores; aliases are patterns such as
 * virtio:d00000002v*.
 */
export interface ModuleInfo {
  readonly depends: readonly string[];
  readonly aliases: readonly string[];
}

/** `bytes` is an ELF-64 little-endian file, not compressed. */
export function moduleInfo(bytes: Uint8Array): ModuleInfo {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const sections = Number(view.getBigUint64(40, true));
  const count = view.getUint16(60, true);
  const at = (n: number): { name: number; offset: number; size: number } => {
    const base = sections + n * 64;
    const [offset, size] = [view.getBigUint64(base + 24, true), view.getBigUint64(base + 32, true)];
    return { name: view.getUint32(base, true), offset: Number(offset), size: Number(size) };
  };
  const names = at(view.getUint16(62, true));
  for (let n = 0; n < count; n++) {
    const { name, offset, size } = at(n);
    const start = names.offset + name;
    if (decodeUtf8(bytes.subarray(start, bytes.indexOf(0, start))) !== ".modinfo") continue;
    const entries = decodeUtf8(bytes.subarray(offset, offset + size)).split("\0");
    const values = (key: string): string[] =>
      entries.filter((entry) => entry.startsWith(`${key}=`)).map((entry) => entry.slice(key.length + 1));
    const depends = values("depends").flatMap((list) => (list === "" ? [] : list.split(",")));
    return { depends: depends.map(moduleName), aliases: values("alias") };
  }
  return { depends: [], aliases: [] };
}

/** A module's name from its file name: virtio_rng for virtio-rng.ko.xz. */
export function moduleName(path: string): string {
  return (path.split("/").at(-1) as string).replace(/\.ko(\.\w+)?$/, "").replaceAll("-", "_");
}

export interface KernelModule extends ModuleInfo {
  readonly name: string;
  /** Name and contents of the file in the initramfs; the kernel decompresses .xz. */
  readonly file: string;
  readonly bytes: Uint8Array;
}

/** A module's file as in the package, and its decompressed contents. */
export interface PackedModule {
  readonly path: string;
  readonly packed: Uint8Array;
  readonly bytes: Uint8Array;
}

/**
 * Modules above this size go into the initramfs compressed (ext4 is 7 MB); smaller ones are decompressed, to
 * load faster.
 */
const LARGE = 1 << 20;

/**
 * `wanted` and their dependencies, dependencies first. `load` returns undefined for a module that does not
 * exist: a wanted module is then skipped (it may be built in), a missing dependency throws GuestError.
 */
export async function closeModules(
  wanted: readonly string[],
  load: (name: string) => Promise<PackedModule | undefined>,
): Promise<KernelModule[]> {
  const done = new Map<string, KernelModule>();
  const visit = async (name: string, neededBy: string | undefined): Promise<void> => {
    if (done.has(name)) return;
    const found = await load(name);
    if (!found) {
      if (neededBy === undefined) return;
      throw new GuestError(
        "guest.modules",
        `kernel module ${neededBy} needs ${name}, which the package does not have`,
      );
    }
    const info = moduleInfo(found.bytes);
    for (const each of info.depends) await visit(each, name);
    const large = found.bytes.length > LARGE;
    const suffix = large ? (/\.ko(\.\w+)?$/.exec(found.path)?.[1] ?? "") : "";
    done.set(name, { name, file: `${name}.ko${suffix}`, bytes: large ? found.packed : found.bytes, ...info });
  };
  for (const name of wanted) await visit(name, undefined);
  return [...done.values()];
}

/** modules.dep for modules in the same directory. */
export function modulesDep(modules: readonly KernelModule[]): string {
  const byName = new Map(modules.map((module) => [module.name, module]));
  const needed = (module: KernelModule, into: Set<KernelModule>): Set<KernelModule> => {
    for (const name of module.depends) {
      const each = byName.get(name);
      if (each) needed(each, into.add(each));
    }
    return into;
  };
  const line = (module: KernelModule): string =>
    `${module.file}:${[...needed(module, new Set())].map((each) => ` ${each.file}`).join("")}\n`;
  return modules.map(line).join("");
}

/** modules.alias: the aliases, such as device patterns, that load a module. */
export function modulesAlias(modules: readonly KernelModule[]): string {
  return modules.flatMap(({ name, aliases }) => aliases.map((alias) => `alias ${alias} ${name}\n`)).join("");
}
