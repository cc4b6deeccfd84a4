// What a QEMU said of a hart and no hart here holds stays with the VMM's copy of it, through moves and
// snapshots, until a reset: then the guest knows this board alone.
import { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { WherryError } from "../../base/errors.ts";
import type { Cpu } from "../../vmm/cpus.ts";
import { hartDefinition, type QemuHart } from "./qemu-hart-state.ts";
import { type Release, RELEASES } from "./qemu-releases.ts";

export interface Kept {
  readonly release: Release;
  readonly hart: QemuHart;
}

export function keepHart({ state }: Cpu, release: Release, hart: QemuHart): void {
  const writer = new ByteWriter();
  hartDefinition(release).encode(hart, writer);
  state.kept = writer.finish();
  state.keptLength = state.kept.length;
  state.keptVersion = release.cpu;
}

/** Undefined if the guest did not come from a QEMU, or if what is there is not what one writes. */
export function keptHart({ state }: Cpu): Kept | undefined {
  const release = RELEASES.find(({ cpu }) => cpu === state.keptVersion);
  if (release === undefined) return undefined;
  try {
    return { release, hart: hartDefinition(release).decode(new ByteReader(state.kept), release.cpu) };
  } catch (error) {
    if (error instanceof WherryError) return undefined;
    throw error;
  }
}
