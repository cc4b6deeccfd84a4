// Device sections of a stream that QEMU wrote: found by name in the board's QemuStreamLoader; some are
// dropped; all are applied at the end. QEMU's stream has no hashes; its grammar protects it: the footer of
// each section, the checks of each field. Live sections other than RAM (block migration, dirty bitmaps) are
// refused.
import { messageOf } from "../../base/errors.ts";
import type { Machine } from "../../vmm/machine.ts";
import type { QemuStreamLoader } from "../../vmm/qemu-profile.ts";
import type { RunState } from "../../vmm/run-state.ts";
import type { Section } from "../../state/section.ts";
import type { CommandName } from "../../stream/commands.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import { runStateSection } from "../environment/run-state-section.ts";
import type { SectionHead } from "../../stream/section-frame.ts";
import type { SectionReader } from "../../stream/section-reader.ts";
import type { StreamReader } from "../../stream/stream-reader.ts";

const keyOf = (section: { readonly idstr: string; readonly instanceId: number }) =>
  `${section.idstr}/${section.instanceId}`;

export class QemuSections {
  /** QEMU omits globalstate for old machine types: their guest was running. */
  runState: RunState = "running";
  readonly #machine: Machine;
  readonly #loader: QemuStreamLoader;
  readonly #stream: StreamReader;
  readonly #reader: SectionReader;
  readonly #known = new Map<string, Section>();
  readonly #arrived = new Set<string>();
  readonly #apply: { section: Section; apply: () => void }[] = [];

  constructor(machine: Machine, loader: QemuStreamLoader, stream: StreamReader, reader: SectionReader) {
    this.#machine = machine;
    this.#loader = loader;
    this.#stream = stream;
    this.#reader = reader;
    const loaded = (state: RunState): void => {
      this.runState = state;
    };
    const globalState = runStateSection("paused", loaded, true);
    for (const section of [...loader.sections, globalState]) this.#known.set(keyOf(section), section);
    if (!machine.vm.builtinFirmware) return;
    stream.fail(
      "migration.firmware",
      "the stream is from QEMU, whose machine has its own firmware in machine mode; this machine was started with the " +
        "built-in firmware: start it with a firmware file, such as QEMU's OpenSBI",
    );
  }

  /** Reads the rest of a section after its head. */
  async section(head: SectionHead): Promise<void> {
    const stream: StreamReader = this.#stream;
    const key = keyOf(head);
    if (this.#arrived.has(key))
      stream.fail("migration.section", "is in the stream twice: the stream is damaged", head.offset);
    this.#arrived.add(key);
    const section = this.#known.get(key);
    if (section === undefined) {
      if (this.#loader.dropped(head.idstr) === undefined) {
        stream.fail("migration.section", this.#unknown(head), head.offset);
      }
      await this.#reader.drop(head.id);
      return;
    }
    if (head.version < section.minimumVersion || head.version > section.version) {
      const { minimumVersion, version } = section;
      const release = this.#loader.release;
      stream.fail(
        "migration.section-version",
        `version ${head.version}${release === undefined ? "" : ` (the stream is probably from ${release})`}, ` +
          `this Wherry reads ${minimumVersion} to ${version}: use one of the QEMU releases in docs/qemu.md`,
        head.offset,
      );
    }
    this.#apply.push({ section, apply: await this.#reader.decode(section, head.version, head.id) });
    await this.#reader.footer(head.id);
  }

  #unknown(head: SectionHead): string {
    if (/^cpu(_common)?$/.test(head.idstr)) {
      return "the stream has more harts than this machine: start it with as many as QEMU's -smp";
    }
    const waiting = [...this.#known.keys()].filter((key) => !this.#arrived.has(key)).join(", ");
    return (
      `this machine has no such device (still expected: ${waiting || "none"}): start it with the devices that ` +
      "QEMU had, in the same order, or QEMU without this one"
    );
  }

  /** At the end of the stream: refuses it if a section that both boards have is missing. */
  checkComplete(): void {
    const own = new Set(this.#machine.sections.map(keyOf));
    const missing = [...this.#known.keys()].filter((key) => own.has(key) && !this.#arrived.has(key));
    if (missing.length === 0) return;
    const harts = missing.every((key) => /^cpu(_common)?\//.test(key));
    const cure = harts
      ? "QEMU has fewer harts: start it with as many as QEMU's -smp"
      : "start this machine with the devices that QEMU had, in the same order";
    this.#stream.fail(
      "migration.section",
      `the stream has no ${missing.join(", ")}, which this machine has: ${cure}`,
    );
  }

  /**
   * Applies all device state in the order of the stream, then rebuilds the state that the release does not
   * send.
   */
  apply(): void {
    for (const { section, apply } of this.#apply) {
      try {
        apply();
      } catch (error) {
        throw applyError(`section ${keyOf(section)}`, error);
      }
    }
    try {
      this.#loader.rebuild();
    } catch (error) {
      throw applyError("state that QEMU's stream does not have", error);
    }
  }
}

export function applyError(where: string, cause: unknown): MigrationError {
  return new MigrationError("migration.apply", `its state does not fit this machine: ${messageOf(cause)}`, {
    where,
    cause,
  });
}

const POSTCOPY: readonly CommandName[] = [
  "POSTCOPY_LISTEN",
  "POSTCOPY_RUN",
  "POSTCOPY_RAM_DISCARD",
  "PACKAGED",
  "POSTCOPY_RESUME",
  "RECV_BITMAP",
];

/**
 * Handles a COMMAND other than those of the return path: returns if it needs no action, otherwise refuses it
 * with the reason.
 */
export function acceptCommand(stream: StreamReader, name: CommandName): void {
  if (name === "SWITCHOVER_START") return;
  const cure = "switch its capability postcopy-ram off and migrate again";
  if (name === "POSTCOPY_ADVISE") {
    stream.fail(
      "migration.postcopy",
      `the source may switch to postcopy, which sends pages after the guest has started: ${cure}`,
    );
  }
  if (POSTCOPY.includes(name)) stream.fail("migration.postcopy", `the source switched to postcopy: ${cure}`);
  if (name === "ENABLE_COLO")
    stream.fail("migration.colo", "the source switches to COLO: switch its capability x-colo off");
  stream.fail("migration.command", `found ${name}, which a stream of a machine never has`);
}
