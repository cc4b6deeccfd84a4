// Device sections of a stream that QEMU wrote: looked up by name in the board's QemuStreamLoader, some
// dropped, all applied at the end. QEMU's stream has no hashes; the grammar protects it: each section's
// footer, each field's check. Left out, and refused: live sections other than RAM (block migration, dirty
// bitmaps).
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
  /** QEMU leaves globalstate out of old machine types: what was saved then ran. */
  runState: RunState = "running";
  readonly #machine: Machine;
  readonly #loader: QemuStreamLoader;
  readonly #stream: StreamReader;
  readonly #reader: SectionReader;
  readonly #known = new Map<string, Section>();
  readonly #come = new Set<string>();
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
      "the stream is QEMU's, whose machine has a firmware of its own in machine mode; this one was started with the " +
        "built-in firmware: give --firmware FILE, such as the OpenSBI that QEMU has",
    );
  }

  /** The rest of a section whose head has been read. */
  async section(head: SectionHead): Promise<void> {
    const stream: StreamReader = this.#stream;
    const key = keyOf(head);
    if (this.#come.has(key)) stream.fail("migration.section", "came twice: the stream is damaged");
    this.#come.add(key);
    const section = this.#known.get(key);
    if (section === undefined) {
      if (this.#loader.dropped(head.idstr) === undefined) {
        stream.fail("migration.section", this.#unknown(head));
      }
      await this.#reader.drop(head.id);
      return;
    }
    if (head.version < section.minimumVersion || head.version > section.version) {
      const { minimumVersion, version } = section;
      const release = this.#loader.release;
      stream.fail(
        "migration.section-version",
        `version ${head.version}${release === undefined ? "" : ` (the stream looks like ${release}'s)`}, ` +
          `this Wherry reads ${minimumVersion} to ${version}: use one of the QEMU releases in docs/qemu.md`,
      );
    }
    this.#apply.push({ section, apply: await this.#reader.decode(section, head.version, head.id) });
    await this.#reader.footer(head.id);
  }

  #unknown(head: SectionHead): string {
    if (/^cpu(_common)?$/.test(head.idstr)) {
      return "the stream has more harts than this machine: give --smp as many as QEMU's -smp";
    }
    const waiting = [...this.#known.keys()].filter((key) => !this.#come.has(key)).join(", ");
    return (
      `this machine has no such device (it still waits for ${waiting || "none"}): start it with the devices that ` +
      "QEMU had, in the same order, or QEMU without this one"
    );
  }

  /** At the end of the stream: everything that both boards have must have come. */
  checkComplete(): void {
    const own = new Set(this.#machine.sections.map(keyOf));
    const missing = [...this.#known.keys()].filter((key) => own.has(key) && !this.#come.has(key));
    if (missing.length === 0) return;
    const harts = missing.every((key) => /^cpu(_common)?\//.test(key));
    const cure = harts
      ? "QEMU has fewer harts: give --smp as many as QEMU's -smp"
      : "start this machine with the devices that QEMU had, in the same order";
    this.#stream.fail(
      "migration.section",
      `the stream has no ${missing.join(", ")}, which this machine has: ${cure}`,
    );
  }

  /** Applies all device state in the order of the stream, then what the release did not say is rebuilt. */
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
      throw applyError("what QEMU's stream does not say", error);
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
 * A COMMAND that is not about the return path: returns if there is nothing to do, else refuses it with the
 * reason.
 */
export function acceptCommand(stream: StreamReader, name: CommandName): void {
  if (name === "SWITCHOVER_START") return;
  const cure = "switch its capability postcopy-ram off and migrate again";
  if (name === "POSTCOPY_ADVISE") {
    stream.fail(
      "migration.postcopy",
      `the source may go on in postcopy mode, in which pages come after the guest has started: ${cure}`,
    );
  }
  if (POSTCOPY.includes(name))
    stream.fail("migration.postcopy", `the stream was started in postcopy mode: ${cure}`);
  if (name === "ENABLE_COLO")
    stream.fail("migration.colo", "the source wants to go on in COLO mode: switch its capability x-colo off");
  stream.fail("migration.command", `found ${name}, which has no place in a saved machine`);
}
