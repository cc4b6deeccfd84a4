// Kernel modules for an initramfs: which others each needs, as its .modinfo section says (Debian's package leaves
// modules.dep to depmod at installation), and a modules.dep for busybox's modprobe.
import { decodeUtf8 } from "../base/text.ts";
import { GuestError } from "./error.ts";

/** The "depends" of a module: names with underscores. `bytes`: the ELF-64 little-endian file, not compressed. */
export function moduleDepends(bytes: Uint8Array): string[] {
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
    const depends = entries.find((entry) => entry.startsWith("depends="))?.slice("depends=".length) ?? "";
    return depends === "" ? [] : depends.split(",").map(moduleName);
  }
  return [];
}

/** A module's name from its file's: virtio-rng.ko.xz is virtio_rng. */
export function moduleName(path: string): string {
  return (path.split("/").at(-1) as string).replace(/\.ko(\.\w+)?$/, "").replaceAll("-", "_");
}

export interface KernelModule {
  readonly name: string;
  /** Not compressed. */
  readonly bytes: Uint8Array;
  readonly depends: readonly string[];
}

/**
 * `wanted` and all that they need, dependencies first. `load` gives a module's bytes, or undefined for one that
 * does not exist: an optional name is then skipped (it may be built in), a missing dependency throws GuestError.
 */
export async function closeModules(
  wanted: readonly string[],
  load: (name: string) => Promise<Uint8Array | undefined>,
): Promise<KernelModule[]> {
  const done = new Map<string, KernelModule>();
  const visit = async (name: string, neededBy: string | undefined): Promise<void> => {
    if (done.has(name)) return;
    const bytes = await load(name);
    if (!bytes) {
      if (neededBy === undefined) return;
      throw new GuestError(
        "guest.modules",
        `kernel module ${neededBy} needs ${name}, which the package does not have`,
      );
    }
    const depends = moduleDepends(bytes);
    for (const each of depends) await visit(each, name);
    done.set(name, { name, bytes, depends });
  };
  for (const name of wanted) await visit(name, undefined);
  return [...done.values()];
}

/** A module that is better kept compressed (ext4 is 7 MB). */
export function isLarge(module: KernelModule): boolean {
  return module.bytes.length > 1 << 20;
}

/** The module's file name in the initramfs; busybox's modprobe unpacks .gz. */
export function moduleFile(module: KernelModule): string {
  return `${module.name}.ko${isLarge(module) ? ".gz" : ""}`;
}

/** modules.dep for modules that lie beside it. */
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
    `${moduleFile(module)}:${[...needed(module, new Set())].map((each) => ` ${moduleFile(each)}`).join("")}\n`;
  return modules.map(line).join("");
}
