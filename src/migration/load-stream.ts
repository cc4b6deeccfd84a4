// A stream of Wherry's own profile into a machine that does not run: decode all, verify the hashes, then apply all.
// RAM is written in place on the way. Every error says which section or RAM chunk, where, and what to do.
// The caller sees to it that a machine whose load failed never runs.
import { ByteReader, EndOfBytes } from "../base/bytes.ts";
import { messageOf, WherryError } from "../base/errors.ts";
import { hex } from "../base/hex.ts";
import { decodeUtf8 } from "../base/text.ts";
import { xxh32 } from "../base/xxh32.ts";
import type { Machine } from "../vmm/machine.ts";
import type { RunState } from "../vmm/run-state.ts";
import type { Section } from "../vmm/section.ts";
import { GET_ANOTHER_COPY, MigrationError } from "./errors.ts";
import { globalStateSection } from "./globalstate.ts";
import {
  checkIntegrityLength,
  DECODE_LOOKAHEAD,
  decodeIntegrity,
  type IntegrityTable,
  UnitLog,
  verifyUnits,
} from "./integrity.ts";
import { RamReader } from "./ram-load.ts";
import type { StreamReader } from "./stream-reader.ts";
import {
  CONFIGURATION,
  INTEGRITY_IDSTR,
  INTEGRITY_VERSION,
  MOVE_ID_SIZE,
  MOVE_ID_SUBSECTION,
  QEMU_VM,
  QEMU_VM_FILE_MAGIC,
  QEMU_VM_FILE_VERSION,
  RAM_IDSTR,
  RAM_VERSION,
} from "./wire.ts";

/** No device has more state than this (RAM is not in device sections). */
const MAX_SECTION_BYTES = 32 * 1024 * 1024;
const FOOTER_BYTES = 5;
const MAX_MACHINE_NAME = 255;

/** Called for each COMMAND of a move. Without it commands are refused: a snapshot has none. */
export type CommandHandler = (command: number, data: Uint8Array) => Promise<void>;

interface Head {
  readonly id: number;
  readonly idstr: string;
  readonly instanceId: number;
  readonly version: number;
}

export class StreamLoader {
  /** What the machine did when it was saved; set by `apply`. */
  runState: RunState = "paused";
  /** The move's id, once the configuration has been read. */
  moveId: Uint8Array | undefined;
  readonly #machine: Machine;
  readonly #stream: StreamReader;
  readonly #onCommand: CommandHandler | undefined;
  readonly #units = new UnitLog();
  readonly #ram: RamReader;
  readonly #sections = new Map<string, Section>();
  readonly #apply: { section: Section; apply: () => void }[] = [];
  #table: IntegrityTable | undefined;

  constructor(machine: Machine, stream: StreamReader, onCommand?: CommandHandler) {
    this.#machine = machine;
    this.#stream = stream;
    this.#onCommand = onCommand;
    this.#ram = new RamReader(machine.memory, stream, this.#units);
    const globalState = globalStateSection("paused", (state) => {
      this.runState = state;
    });
    for (const s of [...machine.sections, globalState]) this.#sections.set(`${s.idstr}/${s.instanceId}`, s);
  }

  /** Everything up to the integrity section, verified. Applies nothing but RAM. */
  async readState(): Promise<void> {
    await this.#header();
    await this.#commandsBefore(QEMU_VM.SECTION_START, "the start of RAM");
    this.#closeUnit(CONFIGURATION, 0);
    await this.#readRam();
    for (;;) {
      await this.#commandsBefore(QEMU_VM.SECTION_FULL, "a device section");
      const head = await this.#head();
      if (head.idstr === INTEGRITY_IDSTR) {
        await this.#integrity(head);
        return;
      }
      await this.#device(head);
    }
  }

  /** Applies all device state in the order of the stream. A throw leaves the machine unusable. */
  apply(): void {
    const { cpus } = this.#machine;
    cpus.synchronizeAllPreLoad();
    for (const { section, apply } of this.#apply) {
      try {
        apply();
      } catch (error) {
        throw new MigrationError(
          "migration.apply",
          `its state does not fit this machine: ${messageOf(error)}`,
          {
            where: `section ${section.idstr}/${section.instanceId}`,
            cause: error,
          },
        );
      }
    }
    cpus.synchronizeAllPostInit();
  }

  /** One COMMAND; anything else is an error. */
  async command(): Promise<void> {
    this.#stream.where = () => `after section ${INTEGRITY_IDSTR}/0`;
    await this.#stream.need(1);
    const type = this.#stream.u8();
    if (type !== QEMU_VM.COMMAND) this.#unexpected(type, "a command");
    await this.#command();
  }

  /** EOF and VMDESCRIPTION, verified. `toEnd`: nothing may follow. */
  async readTrailer(toEnd: boolean): Promise<void> {
    const stream: StreamReader = this.#stream;
    stream.where = () => "end of the stream";
    await stream.need(1);
    const type = stream.u8();
    if (type !== QEMU_VM.EOF) this.#unexpected(type, "the end (0x0)");
    stream.where = () => "VMDESCRIPTION";
    await stream.need(5);
    const at = stream.offset;
    const marker = stream.u8();
    if (marker !== QEMU_VM.VMDESCRIPTION) this.#unexpected(marker, "the VMDESCRIPTION (0x6)");
    const length = stream.u32();
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

  #closeUnit(name: string, instanceId: number): void {
    this.#units.close(name, instanceId, this.#stream.offset, this.#stream.takeHash());
  }

  #unexpected(type: number, expected: string): never {
    const { offset } = this.#stream;
    this.#stream.fail(
      "migration.type",
      `expected ${expected}, found type ${hex(type)}; ${GET_ANOTHER_COPY}`,
      offset - 1,
    );
  }

  async #header(): Promise<void> {
    const stream: StreamReader = this.#stream;
    stream.where = () => "header";
    await stream.need(8);
    const magic = stream.u32();
    if (magic !== QEMU_VM_FILE_MAGIC) {
      stream.fail(
        "migration.magic",
        `expected "QEVM" (${hex(QEMU_VM_FILE_MAGIC)}), found ${hex(magic)}: this is not a saved machine`,
        0,
      );
    }
    const version = stream.u32();
    if (version !== QEMU_VM_FILE_VERSION) {
      stream.fail(
        "migration.version",
        `expected stream version ${QEMU_VM_FILE_VERSION}, found ${version}`,
        4,
      );
    }
    stream.where = () => `section ${CONFIGURATION}`;
    await stream.need(5);
    const type = stream.u8();
    if (type !== QEMU_VM.CONFIGURATION) this.#unexpected(type, "the configuration (0x7)");
    const length = stream.u32();
    if (length > MAX_MACHINE_NAME) {
      stream.fail(
        "migration.machine",
        `a machine name of ${length} bytes, at most ${MAX_MACHINE_NAME} fit`,
        9,
      );
    }
    await stream.need(length);
    const name = decodeUtf8(stream.bytes(length));
    if (name !== this.#machine.name) {
      stream.fail(
        "migration.machine",
        `this machine is ${JSON.stringify(this.#machine.name)}, found ${JSON.stringify(name)}: start the same machine type`,
        13,
      );
    }
    await stream.need(1);
    while (stream.peekAll()[0] === QEMU_VM.SUBSECTION) await this.#configurationSubsection();
  }

  async #configurationSubsection(): Promise<void> {
    const stream: StreamReader = this.#stream;
    const at = stream.offset;
    await stream.need(2);
    const length = stream.peekAll()[1] ?? 0;
    await stream.need(2 + length + 4);
    stream.skip(2);
    const name = decodeUtf8(stream.bytes(length));
    const version = stream.u32();
    if (name !== MOVE_ID_SUBSECTION || version !== 1 || this.moveId !== undefined) {
      stream.fail(
        "migration.subsection",
        `expected subsection ${MOVE_ID_SUBSECTION} version 1, once; found ${JSON.stringify(name)} version ${version}`,
        at,
      );
    }
    await stream.need(MOVE_ID_SIZE + 1);
    this.moveId = stream.bytes(MOVE_ID_SIZE).slice();
  }

  /** Handles commands until a section of type `type` is next. */
  async #commandsBefore(type: number, expected: string): Promise<void> {
    const stream: StreamReader = this.#stream;
    const before = stream.where();
    stream.where = () => `after ${before}`;
    for (;;) {
      await stream.need(1);
      const next = stream.peekAll()[0];
      if (next === type) return;
      stream.skip(1);
      if (next !== QEMU_VM.COMMAND) this.#unexpected(next ?? 0, expected);
      await this.#command();
    }
  }

  async #command(): Promise<void> {
    const stream: StreamReader = this.#stream;
    const at = stream.offset - 1;
    await stream.need(4);
    const command = stream.u16();
    const length = stream.u16();
    await stream.need(length);
    const data = stream.bytes(length).slice();
    if (this.#onCommand === undefined) {
      stream.fail(
        "migration.command",
        `found command ${command}, expected none in a saved file; ${GET_ANOTHER_COPY}`,
        at,
      );
    }
    await this.#onCommand(command, data);
  }

  /** Type byte, section id, name, instance and version of a START or FULL section. */
  async #head(): Promise<Head> {
    const stream: StreamReader = this.#stream;
    await stream.need(6);
    const length = stream.peekAll()[5] ?? 0;
    await stream.need(6 + length + 8);
    stream.skip(1);
    const id = stream.u32();
    stream.skip(1);
    const idstr = decodeUtf8(stream.bytes(length));
    const instanceId = stream.u32();
    const version = stream.u32();
    // Of a damaged stream it may be anything, and messages go to terminals.
    const name = idstr.replace(/[^\x20-\x7e]/g, "?");
    stream.where = () => `section ${name}/${instanceId}`;
    return { id, idstr, instanceId, version };
  }

  async #footer(id: number): Promise<void> {
    const stream: StreamReader = this.#stream;
    await stream.need(FOOTER_BYTES);
    const at = stream.offset;
    const type = stream.u8();
    const found = stream.u32();
    if (type === QEMU_VM.SECTION_FOOTER && found === id) return;
    stream.fail(
      "migration.footer",
      `expected its footer (${hex(QEMU_VM.SECTION_FOOTER)}, section id ${id}), found ${hex(type)}, ${found}; ${GET_ANOTHER_COPY}`,
      at,
    );
  }

  async #readRam(): Promise<void> {
    const stream: StreamReader = this.#stream;
    const at = stream.offset;
    const { id, idstr, instanceId, version } = await this.#head();
    if (idstr !== RAM_IDSTR || instanceId !== 0 || version !== RAM_VERSION) {
      stream.fail(
        "migration.ram",
        `expected section ${RAM_IDSTR}/0 version ${RAM_VERSION}, found ${JSON.stringify(idstr)}/${instanceId} version ${version}`,
        at,
      );
    }
    const inRam = () => this.#units.openChunk();
    stream.where = inRam;
    let type: number = QEMU_VM.SECTION_START;
    for (;;) {
      await this.#ram.records();
      await this.#footer(id);
      if (type === QEMU_VM.SECTION_END) break;
      await stream.need(5);
      const next = stream.offset;
      type = stream.u8();
      const found = stream.u32();
      if ((type !== QEMU_VM.SECTION_PART && type !== QEMU_VM.SECTION_END) || found !== id) {
        stream.fail(
          "migration.ram",
          `expected more of RAM (type 0x2 or 0x3, section id ${id}), found ${hex(type)}, ${found}; ${GET_ANOTHER_COPY}`,
          next,
        );
      }
    }
    this.#ram.closeChunk();
    stream.where = () => `section ${RAM_IDSTR}/0`;
    this.#ram.checkComplete();
  }

  async #device(head: Head): Promise<void> {
    const stream: StreamReader = this.#stream;
    const { idstr, instanceId, version, id } = head;
    const key = `${idstr}/${instanceId}`;
    const section = this.#sections.get(key);
    if (section === undefined) {
      const twice = this.#machine.sections.some((s) => `${s.idstr}/${s.instanceId}` === key);
      stream.fail(
        "migration.section",
        twice
          ? `came twice; ${GET_ANOTHER_COPY}`
          : `this machine has no such device (it waits for ${[...this.#sections.keys()].join(", ") || INTEGRITY_IDSTR}): start it with the same options`,
      );
    }
    if (version < section.minimumVersion || version > section.version) {
      stream.fail(
        "migration.section-version",
        `version ${version}, this Wherry reads ${section.minimumVersion} to ${section.version}: use the one that saved it, or a newer one`,
      );
    }
    this.#sections.delete(key);
    this.#apply.push({ section, apply: await this.#decode(section, version) });
    await this.#footer(id);
    this.#closeUnit(idstr, instanceId);
  }

  /**
   * QEMU's sections do not say how long they are, so the decoder runs on what has arrived, and again when that was
   * too little. It must see DECODE_LOOKAHEAD bytes beyond its end, or it could take a subsection for the next thing;
   * only where the stream is cut there are fewer, and what is said of the cut is said by whoever misses the bytes.
   */
  async #decode(section: Section, version: number): Promise<() => void> {
    const stream: StreamReader = this.#stream;
    let needed = DECODE_LOOKAHEAD;
    for (;;) {
      let cut = false;
      while (stream.available < needed && !cut) {
        if (needed > MAX_SECTION_BYTES) {
          stream.fail(
            "migration.section-size",
            `asks for more than ${MAX_SECTION_BYTES} bytes; ${GET_ANOTHER_COPY}`,
          );
        }
        cut = !(await stream.more(needed));
      }
      const data = stream.peekAll();
      const reader = new ByteReader(data);
      let failure: unknown;
      let apply: (() => void) | undefined;
      try {
        apply = section.decode(reader, version);
      } catch (error) {
        failure = error;
      }
      const shortage = shortageOf(failure);
      const seen = cut || data.length - reader.offset >= DECODE_LOOKAHEAD || data.length > MAX_SECTION_BYTES;
      if (shortage === undefined && seen) {
        if (apply !== undefined) {
          stream.skip(reader.offset);
          return apply;
        }
        const offset =
          failure instanceof WherryError && "offset" in failure ? Number(failure.offset ?? 0) : 0;
        stream.fail("migration.decode", messageOf(failure), stream.offset + offset, failure);
      }
      needed =
        shortage === undefined ? reader.offset + DECODE_LOOKAHEAD : Math.max(shortage, data.length + 1);
      if (cut) await stream.need(needed);
    }
  }

  async #integrity(head: Head): Promise<void> {
    const stream: StreamReader = this.#stream;
    const { id, instanceId, version } = head;
    if (instanceId !== 0 || version !== INTEGRITY_VERSION) {
      stream.fail(
        "migration.section-version",
        `expected instance 0 version ${INTEGRITY_VERSION}, found instance ${instanceId} version ${version}`,
      );
    }
    await stream.need(4);
    const length = stream.u32();
    checkIntegrityLength(length, stream.offset - 4);
    await stream.need(length);
    const table = decodeIntegrity(stream.bytes(length), stream.offset - length);
    await this.#footer(id);
    verifyUnits(table.units, this.#units.units);
    if (this.#sections.size > 0) {
      stream.fail(
        "migration.section",
        `the stream has no ${[...this.#sections.keys()].join(", ")}, which this machine has: start it with the same options`,
      );
    }
    this.#table = table;
  }
}

/** How many bytes from the section's start a decoder that ran out of them asked for, if that is why it failed. */
function shortageOf(error: unknown): number | undefined {
  if (error instanceof EndOfBytes) return error.offset + error.needed;
  if (error instanceof WherryError && error.code === "state.end") return 0;
  return error instanceof Error && error.cause !== undefined ? shortageOf(error.cause) : undefined;
}
