// State of a QEMU hart that no hart here holds. It is kept with the VMM's copy of the hart, through moves and
// snapshots, until a reset: after that the guest knows only this board.
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

/** Undefined if the guest did not arrive from a QEMU, or if the kept bytes are invalid. */
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
