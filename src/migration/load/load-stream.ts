// Loads a stream into a machine that does not run: decodes everything, verifies the hashes, then applies
// everything. The configuration or the first device section distinguishes Wherry's own format from QEMU's
// (see qemu-load.ts). RAM is written to guest memory while the stream is read. Every error has the section or
// RAM chunk, the place and the remedy. The caller must never start a machine whose load failed.
import { hex } from "../../base/hex.ts";
import { quoted } from "../../base/text.ts";
import { xxh32 } from "../../base/xxh32.ts";
import type { Machine } from "../../vmm/machine.ts";
import type { RunState } from "../../vmm/run-state.ts";
import type { QemuStreamLoader } from "../../vmm/qemu-profile.ts";
import { OWN_SECTIONS, type Section } from "../../state/section.ts";
import { readCommand, type StreamCommand } from "../../stream/commands.ts";
import {
  type ConfigurationSubsection,
  MOVE_ID_SUBSECTION,
  readConfiguration,
  readFileHeader,
} from "../../stream/configuration.ts";
import { GET_ANOTHER_COPY, MigrationError } from "../../stream/migration-error.ts";
import { applyError, QemuSections } from "./qemu-load.ts";
import { runStateSection } from "../environment/run-state-section.ts";
import {
  checkIntegrityLength,
  decodeIntegrity,
  type IntegrityTable,
  UnitLog,
  verifyUnits,
} from "../../stream/integrity.ts";
import { type QemuRam, type RamChannels, RamReader } from "../ram/ram-load.ts";
import type { SectionHead } from "../../stream/section-frame.ts";
import { SectionReader } from "../../stream/section-reader.ts";
import { StreamFacts } from "../../stream/stream-facts.ts";
import type { StreamReader } from "../../stream/stream-reader.ts";
import { readVmDescriptionHead } from "../../stream/vm-description.ts";
import {
  CONFIGURATION,
  INTEGRITY_IDSTR,
  INTEGRITY_VERSION,
  QEMU_VM,
  RAM_IDSTR,
  RAM_VERSION,
} from "../../stream/wire.ts";

const PAGE_BITS = 12;
/** Most characters of a machine name in a message: a hostile stream may have thousands. */
const MAX_SHOWN_NAME = 255;

/**
 * Called for each COMMAND of a move. Without a handler, commands are refused: Wherry's snapshots have none.
 */
export type CommandHandler = (command: StreamCommand) => Promise<void>;

/** How a live move is loaded; a snapshot needs none of it. */
export interface LiveLoad {
  readonly onCommand?: CommandHandler | undefined;
  /** The multifd channels, which only a QEMU source uses. */
  readonly channels?: RamChannels;
  /** Called before guest memory is written, or a multifd channel may. May throw or reject. */
  readonly onRam?: () => void | Promise<void>;
}

/** What a machine lacks whose guest has a share. */
function shareHint(idstr: string): string {
  const [, tag] = /^wherry\/9p@(.*)$/s.exec(idstr) ?? [];
  return tag === undefined
    ? ""
    : `; the guest's share needs --share path=DIR,tag=${quoted(tag).slice(1, -1)}`;
}

export class StreamLoader {
  /** Run state when the machine was saved; set by `apply`. */
  runState: RunState = "paused";
  /** The move's id, once the configuration has been read. */
  moveId: Uint8Array | undefined;
  /** The configuration's contents. */
  readonly facts = new StreamFacts();
  /** The pending read of a live stream that ended without VMDESCRIPTION. */
  pendingRead: Promise<boolean> | undefined;
  readonly #machine: Machine;
  readonly #stream: StreamReader;
  readonly #onCommand: CommandHandler | undefined;
  readonly #units = new UnitLog();
  readonly #reader: SectionReader;
  readonly #ram: RamReader;
  /** Loader of QEMU's streams; undefined if this board has none. */
  readonly #qemuLoader: QemuStreamLoader | undefined;
  #qemu: QemuSections | undefined;
  readonly #sections = new Map<string, Section>();
  readonly #apply: { section: Section; apply: () => void }[] = [];
  #table: IntegrityTable | undefined;

  constructor(machine: Machine, stream: StreamReader, { onCommand, channels, onRam }: LiveLoad = {}) {
    this.#machine = machine;
    this.#stream = stream;
    this.#onCommand = onCommand;
    this.#reader = new SectionReader(stream);
    const loader = machine.qemu?.loader();
    this.#qemuLoader = loader;
    const qemuRam = loader && this.#qemuRam(loader, channels);
    const { memory, carried } = machine;
    this.#ram = new RamReader(memory, stream, this.#units, this.facts, qemuRam, onRam, carried);
    const globalState = runStateSection("paused", (state) => {
      this.runState = state;
    });
    for (const s of [...machine.sections, globalState]) this.#sections.set(`${s.idstr}/${s.instanceId}`, s);
  }

  #qemuRam(loader: QemuStreamLoader, channels: RamChannels | undefined): QemuRam {
    const isOwn = () => this.moveId !== undefined;
    return {
      droppedBlock: (name) => loader.droppedBlock(name),
      get channels() {
        return isOwn() ? undefined : channels;
      },
    };
  }

  /** True once the stream is known to be QEMU's. */
  get isQemu(): boolean {
    return this.#qemu !== undefined;
  }

  /** False once anything was written to guest memory. */
  get isUntouched(): boolean {
    return this.#ram.isUntouched;
  }

  /**
   * Reads and verifies everything up to the integrity section, or up to the end of QEMU's stream, which has
   * no hashes. Applies nothing but RAM.
   */
  async readState(): Promise<void> {
    await this.#header();
    await this.#commandsBefore([QEMU_VM.SECTION_START], "the start of RAM");
    this.#closeUnit(CONFIGURATION, 0);
    await this.#readRam();
    await this.#commandsBefore([QEMU_VM.SECTION_FULL], "a device section");
    let head = await this.#reader.head();
    const loader = this.#qemuLoader;
    // The first device section of Wherry's own streams is wherry/machine.
    const isQemu = loader !== undefined && this.moveId === undefined && !head.idstr.startsWith(OWN_SECTIONS);
    const { where } = this.#stream;
    this.#ram.complete();
    this.#stream.where = where;
    if (isQemu) {
      await this.#qemuState(loader, head);
      return;
    }
    while (head.idstr !== INTEGRITY_IDSTR) {
      await this.#device(head);
      await this.#commandsBefore([QEMU_VM.SECTION_FULL], "a device section");
      head = await this.#reader.head();
    }
    await this.#integrity(head);
  }

  async #qemuState(loader: QemuStreamLoader, first: SectionHead): Promise<void> {
    const qemu = new QemuSections(this.#machine, loader, this.#stream, this.#reader);
    this.#qemu = qemu;
    await qemu.section(first);
    for (;;) {
      const next = await this.#commandsBefore(
        [QEMU_VM.SECTION_FULL, QEMU_VM.EOF],
        "a device section or the end",
      );
      if (next === QEMU_VM.EOF) break;
      await qemu.section(await this.#reader.head());
    }
    qemu.checkComplete();
  }

  /** Applies all device state in the order of the stream. If it throws, the machine is unusable. */
  apply(): void {
    const { cpus } = this.#machine;
    cpus.synchronizeAllPreLoad();
    if (this.#qemu !== undefined) {
      this.#qemu.apply();
      this.runState = this.#qemu.runState;
    }
    for (const { section, apply } of this.#apply) {
      try {
        apply();
      } catch (error) {
        throw applyError(`section ${section.idstr}/${section.instanceId}`, error);
      }
    }
    cpus.synchronizeAllPostInit();
  }

  /** Reads one COMMAND and refuses anything else. */
  async command(): Promise<void> {
    this.#stream.where = () => `after section ${INTEGRITY_IDSTR}/0`;
    await this.#stream.need(1);
    const type = this.#stream.u8();
    if (type !== QEMU_VM.COMMAND) this.#reader.unexpected(type, "a command");
    await this.#command();
  }

  /** Reads and verifies EOF and VMDESCRIPTION. With `toEnd`, refuses bytes after them. */
  async readTrailer(toEnd: boolean): Promise<void> {
    const stream: StreamReader = this.#stream;
    stream.where = () => "end of the stream";
    await stream.need(1);
    const type = stream.u8();
    if (type !== QEMU_VM.EOF) this.#reader.unexpected(type, "the end (0x0)");
    stream.where = () => "VMDESCRIPTION";
    const at = stream.offset;
    const length = await readVmDescriptionHead(stream);
    const table = this.#table;
    if (table === undefined)
      throw new MigrationError("migration.order", "readState() comes before readTrailer()");
    if (length !== table.vmdescLength) {
      stream.fail(
        "migration.vmdescription",
        `expected a length of ${table.vmdescLength}, found ${length}; ${GET_ANOTHER_COPY}`,
        at,
      );
    }
    await stream.need(length);
    const found = xxh32(stream.bytes(length));
    if (found !== table.vmdescHash) {
      stream.fail(
        "migration.vmdescription",
        `its ${length} bytes have hash ${hex(found)}, expected ${hex(table.vmdescHash)}; ${GET_ANOTHER_COPY}`,
        at,
      );
    }
    if (!toEnd) return;
    stream.where = () => "after the end";
    if (stream.available > 0 || (await stream.more())) {
      stream.fail("migration.trailing", `expected nothing, found more bytes; ${GET_ANOTHER_COPY}`);
    }
  }

  /**
   * Reads EOF of QEMU's stream and skips the VMDESCRIPTION, which may be missing. A source that waits for our
   * SHUT may send nothing after EOF: `late` resolves when the wait must end, and `pendingRead` is the read
   * that is still pending.
   */
  async readQemuTrailer(late?: Promise<void>): Promise<void> {
    const stream: StreamReader = this.#stream;
    stream.where = () => "end of the stream";
    await stream.need(1);
    stream.skip(1);
    stream.where = () => "VMDESCRIPTION";
    if (stream.available === 0) {
      const reading = stream.more();
      reading.catch(() => {});
      const hasMore = late === undefined ? await reading : await Promise.race([reading, late]);
      if (hasMore === undefined) this.pendingRead = reading;
      if (hasMore !== true) return;
    }
    const length = (await readVmDescriptionHead(stream)) ?? 0;
    await stream.need(length);
    stream.skip(length);
  }

  #closeUnit(name: string, instanceId: number): void {
    this.#units.close(name, instanceId, this.#stream.offset, this.#stream.takeHash());
  }

  async #header(): Promise<void> {
    const stream: StreamReader = this.#stream;
    stream.where = () => "header";
    await readFileHeader(stream, { cure: "this is not a saved machine" });
    stream.where = () => `section ${CONFIGURATION}`;
    const type = await stream.nextU8();
    if (type !== QEMU_VM.CONFIGURATION) this.#reader.unexpected(type, "the configuration (0x7)");
    await readConfiguration(stream, this.facts, {
      machine: (name) => this.#checkMachine(name),
      subsection: (subsection) => this.#checkSubsection(subsection),
    });
    await stream.need(1);
  }

  #checkMachine(name: string): void {
    if (name === this.#machine.name) return;
    const found = quoted(name.slice(0, MAX_SHOWN_NAME));
    this.#stream.fail(
      "migration.machine",
      `this machine is ${JSON.stringify(this.#machine.name)}, found ${found}: give both sides the same machine type`,
      13,
    );
  }

  #checkSubsection(subsection: ConfigurationSubsection): void {
    const { kind, name, version, offset } = subsection;
    if (kind === "move-id") this.moveId = subsection.moveId;
    else if (this.#qemuLoader === undefined) {
      this.#stream.fail(
        "migration.subsection",
        `expected subsection ${MOVE_ID_SUBSECTION} version 1, found ${quoted(name)} version ${version}`,
        offset,
      );
    } else if (kind === "page-bits" && subsection.pageBits !== PAGE_BITS) {
      const there = `pages of 2^${subsection.pageBits} bytes`;
      this.#stream.fail("migration.page-size", `${there}, this machine has 2^${PAGE_BITS}`, offset);
    }
  }

  /** Handles commands until a byte of one of these types follows. Resolves to that type. */
  async #commandsBefore(types: readonly number[], expected: string): Promise<number> {
    const stream: StreamReader = this.#stream;
    const before = stream.where();
    stream.where = () => `after ${before}`;
    for (;;) {
      await stream.need(1);
      const next = stream.peekAll()[0] ?? 0;
      if (types.includes(next)) return next;
      stream.skip(1);
      if (next !== QEMU_VM.COMMAND) this.#reader.unexpected(next, expected);
      await this.#command();
    }
  }

  async #command(): Promise<void> {
    const stream: StreamReader = this.#stream;
    const at = stream.offset - 1;
    const command = await readCommand(stream, at);
    if (this.#onCommand === undefined) {
      stream.fail(
        "migration.command",
        `found command ${command.command}, expected none in a saved file; ${GET_ANOTHER_COPY}`,
        at,
      );
    }
    await this.#onCommand(command);
  }

  async #readRam(): Promise<void> {
    const stream: StreamReader = this.#stream;
    const at = stream.offset;
    const { id, idstr, instanceId, version } = await this.#reader.head();
    if (idstr !== RAM_IDSTR || instanceId !== 0 || version !== RAM_VERSION) {
      stream.fail(
        "migration.ram",
        `expected section ${RAM_IDSTR}/0 version ${RAM_VERSION}, found ${quoted(idstr)}/${instanceId} version ${version}`,
        at,
      );
    }
    const inRam = () => this.#units.openChunk();
    stream.where = inRam;
    let type: number = QEMU_VM.SECTION_START;
    for (;;) {
      await this.#ram.records();
      await this.#reader.footer(id);
      if (type === QEMU_VM.SECTION_END) break;
      // QEMU sends SWITCHOVER_START between two parts.
      const parts = [QEMU_VM.SECTION_PART, QEMU_VM.SECTION_END];
      const next = await this.#commandsBefore([...parts, QEMU_VM.SECTION_START], "more of RAM");
      if (next === QEMU_VM.SECTION_START) await this.#liveSection();
      stream.where = inRam;
      await stream.need(5);
      const partAt = stream.offset;
      type = stream.u8();
      const found = stream.u32();
      if (found !== id) {
        stream.fail(
          "migration.ram",
          `expected more of RAM (section id ${id}), found section id ${found}; ${GET_ANOTHER_COPY}`,
          partAt,
        );
      }
    }
    this.#ram.closeChunk();
    stream.where = () => `section ${RAM_IDSTR}/0`;
  }

  /** A section other than RAM that is sent while the guest runs. */
  async #liveSection(): Promise<never> {
    await this.#reader.head();
    this.#stream.fail(
      "migration.live-section",
      "live sections other than RAM are not supported: migrate without this one (for block and dirty-bitmap, " +
        "switch QEMU's capabilities block and dirty-bitmaps off)",
    );
  }

  async #device(head: SectionHead): Promise<void> {
    const stream: StreamReader = this.#stream;
    const { idstr, instanceId, version, id } = head;
    const key = `${idstr}/${instanceId}`;
    const section = this.#sections.get(key);
    if (section === undefined) {
      const twice = this.#machine.sections.some((s) => `${s.idstr}/${s.instanceId}` === key);
      stream.fail(
        "migration.section",
        twice
          ? `is in the stream twice; ${GET_ANOTHER_COPY}`
          : `this machine has no such device (expected ${[...this.#sections.keys()].join(", ") || `${INTEGRITY_IDSTR}/0`}): start it with the same options${shareHint(idstr)}`,
        head.offset,
      );
    }
    if (version < section.minimumVersion || version > section.version) {
      stream.fail(
        "migration.section-version",
        `version ${version}, this Wherry reads ${section.minimumVersion} to ${section.version}: use the one that saved it, or a newer one`,
        head.offset,
      );
    }
    this.#sections.delete(key);
    this.#apply.push({ section, apply: await this.#reader.decode(section, version, id) });
    await this.#reader.footer(id);
    this.#closeUnit(idstr, instanceId);
  }

  async #integrity(head: SectionHead): Promise<void> {
    const stream: StreamReader = this.#stream;
    const { id, instanceId, version } = head;
    if (instanceId !== 0 || version !== INTEGRITY_VERSION) {
      stream.fail(
        "migration.section-version",
        `expected instance 0 version ${INTEGRITY_VERSION}, found instance ${instanceId} version ${version}`,
        head.offset,
      );
    }
    await stream.need(4);
    const length = stream.u32();
    checkIntegrityLength(length, stream.offset - 4);
    await stream.need(length);
    const table = decodeIntegrity(stream.bytes(length), stream.offset - length);
    await this.#reader.footer(id);
    verifyUnits(table.units, this.#units.units);
    const missing = [...this.#sections].filter(([, { isOptional }]) => isOptional !== true);
    if (missing.length > 0) {
      stream.fail(
        "migration.section",
        `the stream has no ${missing.map(([key]) => key).join(", ")}, which this machine has: start it with the same options`,
      );
    }
    this.#table = table;
  }
}
