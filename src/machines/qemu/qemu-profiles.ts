// The `virt` board in QEMU's streams: reads those of three releases, writes that of one.
import type { QemuStreamLoader, QemuStreams, QemuProfile } from "../../vmm/qemu-profile.ts";
import { commandLines } from "./command-lines.ts";
import { QemuLoader } from "./qemu-loader.ts";
import type { QemuParts } from "./qemu-parts.ts";
import { refusals } from "./qemu-refusals.ts";
import { RELEASES, releaseNamed } from "./qemu-releases.ts";
import { sectionsToWrite } from "./qemu-writer.ts";

export class QemuProfiles implements QemuStreams {
  readonly names: readonly string[] = RELEASES.map((r) => r.name);
  readonly #parts: QemuParts;

  constructor(parts: QemuParts) {
    this.#parts = parts;
  }

  profile(name: string): QemuProfile {
    const release = releaseNamed(name);
    const parts = this.#parts;
    return {
      name,
      sections: sectionsToWrite(parts, release),
      ramBlocks: parts.machine.memory.blocks.map(({ name: block, size }) => ({ name: block, size })),
      switchoverStart: release.switchoverStart,
      refusals: () => Promise.resolve(refusals(parts, release)),
      commandLines: () => commandLines(parts, release),
    };
  }

  loader(): QemuStreamLoader {
    return new QemuLoader(this.#parts);
  }
}
