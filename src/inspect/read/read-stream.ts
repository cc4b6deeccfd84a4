// Reads a migration stream of any QEMU, from header to end, into a StreamReport: the frame here, RAM in
// read-ram.ts, device sections along the VMDESCRIPTION in walk-section.ts. docs/stream-format.md has the
// format. Input is untrusted: a fault becomes the report's `problem`, with everything read before it.
import { messageOf } from "../../base/errors.ts";
import { hex } from "../../base/hex.ts";
import { MULTIFD_MAGIC } from "../../stream/multifd-packet.ts";
import {
  INTEGRITY_IDSTR,
  MIG_CMD,
  QEMU_VM,
  QEMU_VM_FILE_MAGIC,
  RAM_IDSTR,
  RAM_VERSION,
} from "../../stream/wire.ts";
import { priorityOf } from "../decode/priorities.ts";
import { ChannelScan } from "./read-multifd-channel.ts";
import { readCommand } from "./read-command.ts";
import { readConfiguration } from "./read-configuration.ts";
import {
  type DescribedDevice,
  describedSize,
  type Description,
  parseDescription,
} from "../model/description.ts";
import { checkIntegrity } from "./verify-integrity.ts";
import { type Progress, partReaderOf } from "./read-iterative.ts";
import { libvirtHeader, otherFormat } from "./other-formats.ts";
import type {
  CommandReport,
  IterativeReport,
  Problem,
  SectionReport,
  StreamReport,
} from "../model/stream-report.ts";
import { InspectError, problem, stop } from "../model/problems.ts";
import { type PageVisitor, RamScan } from "./read-ram.ts";
import { Scan } from "./scan.ts";
import { findSectionEnd } from "../../stream/section-end.ts";
import {
  FOOTER_BYTES,
  isFooterAt,
  readSectionFooter,
  readSectionHead,
  type SectionHead,
} from "../../stream/section-frame.ts";
import { readFileHeader } from "../../stream/configuration.ts";
import { readVmDescriptionHead } from "../../stream/vm-description.ts";
import type { ByteSource } from "./byte-source.ts";
import { findDescription } from "./find-description.ts";
import { MAX_FIELDS, walkSection } from "../decode/walk-section.ts";

export type { PageVisitor };

/** Options for reading a stream. */
export interface ReadOptions {
  readonly onPage?: PageVisitor;
  /** Count whole pages that contain only zeros (`zeroContent`). */
  readonly lookForZeros?: boolean;
  /** Keep the bytes of each device section in its report. */
  readonly keepBytes?: boolean;
  /** Do not verify the hashes of Wherry's own streams. */
  readonly skipIntegrity?: boolean;
  /** Offset of the stream in the source, in bytes. */
  readonly offset?: number;
  /**
   * For a stream without a VMDESCRIPTION: the description of another stream of the same machine
   * (`findDescription`).
   */
  readonly description?: Description;
  /** The target's page size in bytes, if the stream does not contain it. */
  readonly pageSize?: number;
}

/** Reads the whole stream. Rejects only if the source does: faults of the stream are in the report. */
export function readStream(source: ByteSource, options: ReadOptions = {}): Promise<StreamReport> {
  return new StreamScan(source, options).read();
}

/** Number of bytes that identify a file's format. */
const HEAD_BYTES = 512;
/** Maximum bytes of libvirt's header and the domain's XML. */
const MAX_LIBVIRT = 16 * 1024 * 1024;
/** Maximum sections in the report; later parts are read but not listed. */
const MAX_SECTIONS = 262_144;
const MAX_COMMANDS = 1_000_000;
const MAX_COMMAND_BYTES = 128 * 1024 * 1024;
const MAX_SECTION_BYTES = 256 * 1024 * 1024;
/** Maximum bytes of all device sections together. */
const MAX_DEVICE_BYTES = 512 * 1024 * 1024;

const MAX_WARNINGS = 10_000;

type Kind = SectionReport["kind"];
const KINDS = new Map<number, Kind>([
  [QEMU_VM.SECTION_START, "start"],
  [QEMU_VM.SECTION_PART, "part"],
  [QEMU_VM.SECTION_END, "end"],
  [QEMU_VM.SECTION_FULL, "full"],
]);

interface Head extends SectionHead {
  readonly kind: Kind;
}

type OpenSection = { -readonly [K in keyof SectionReport]: SectionReport[K] };

class StreamScan {
  readonly #scan: Scan;
  readonly #options: ReadOptions;
  readonly #ram: RamScan;
  readonly #pages: ChannelScan;
  #channel: StreamReport["channel"];
  #libvirtBytes = 0;
  readonly #sections: OpenSection[] = [];
  readonly #commands: CommandReport[] = [];
  readonly #heads = new Map<number, Head>();
  readonly #open = new Set<number>();
  readonly #iterative = new Map<number, Progress>();
  readonly #budget = { left: MAX_FIELDS };
  /** Device sections of a pipe that wait for the VMDESCRIPTION. */
  readonly #waiting: {
    readonly section: OpenSection;
    readonly bytes: Uint8Array;
    readonly guessed: boolean;
  }[] = [];
  #deviceBytes = 0;
  #commandBytes = 0;
  #streamVersion = 0;
  #configuration: StreamReport["configuration"];
  #description: Description | undefined;
  readonly #devices = new Map<string, DescribedDevice>();
  #descriptionAt: number | undefined;
  /** True if the description was taken from another stream. */
  #borrowed = false;
  /** True if sections end with a footer; undefined before the first section's end. */
  #footers: boolean | undefined;
  readonly #guessed: string[] = [];
  #integrity: { readonly data: Uint8Array; readonly offset: number } | undefined;

  constructor(source: ByteSource, options: ReadOptions) {
    this.#scan = new Scan(source, options.offset ?? 0);
    this.#scan.facts.pageSize = options.pageSize;
    this.#options = options;
    this.#ram = new RamScan(this.#scan, options.onPage, options.lookForZeros === true);
    this.#pages = new ChannelScan(this.#scan, options.onPage);
  }

  async read(): Promise<StreamReport> {
    let end: Problem | undefined;
    try {
      await this.#skipLibvirt();
      if (await this.#isChannel()) await this.#pages.read((channel) => (this.#channel = channel));
      else {
        await this.#header();
        await this.#body();
      }
    } catch (error) {
      if (!(error instanceof InspectError)) throw error;
      end = error.problem;
    }
    this.#walkWaiting();
    return this.#report(end);
  }

  /** Skips the header of `virsh save`, if the stream is not compressed. */
  async #skipLibvirt(): Promise<void> {
    const scan: Scan = this.#scan;
    await scan.ahead(HEAD_BYTES);
    const libvirt = libvirtHeader(scan.peekAll());
    if (libvirt === undefined || libvirt.offset > MAX_LIBVIRT || !(await scan.ahead(libvirt.offset + 4)))
      return;
    if (scan.view.getUint32(scan.at + libvirt.offset) !== QEMU_VM_FILE_MAGIC) return;
    scan.at += libvirt.offset;
    this.#libvirtBytes = libvirt.offset;
  }

  async #isChannel(): Promise<boolean> {
    const scan: Scan = this.#scan;
    return (await scan.ahead(4)) && scan.view.getUint32(scan.at) === MULTIFD_MAGIC;
  }

  async #header(): Promise<void> {
    const scan: Scan = this.#scan;
    await scan.ahead(HEAD_BYTES);
    const other = otherFormat(scan.peekAll());
    if (scan.available >= 8 && scan.peekU32() === QEMU_VM_FILE_MAGIC) this.#streamVersion = scan.peekU32(4);
    await readFileHeader(scan, other && { found: other.found, cause: other.cause ?? "", cure: other.cure });
  }

  async #body(): Promise<void> {
    const scan: Scan = this.#scan;
    const found = await findDescription(scan.source, scan.offset);
    const { description } = this.#options;
    if (found === undefined && description !== undefined) {
      this.#useDescription(description);
      this.#borrowed = true;
    }
    if (found !== undefined) {
      this.#descriptionAt = found.offset;
      scan.configuration = found.description.configuration;
      this.#useDescription(found.description);
    }
    await this.#parts(undefined);
    await this.#trailer();
  }

  #useDescription(description: Description): void {
    this.#description = description;
    for (const device of description.devices) {
      const key = `${device.name}/${device.instanceId}`;
      if (!this.#devices.has(key)) this.#devices.set(key, device);
    }
    if (description.pageSize !== undefined) this.#scan.facts.recordPageSize(description.pageSize);
  }

  /** Reads sections and commands up to EOF, or in the payload of a PACKAGED command up to offset `end`. */
  async #parts(end: number | undefined): Promise<void> {
    const scan: Scan = this.#scan;
    for (;;) {
      const at = scan.offset;
      if (end !== undefined && at >= end) {
        if (at === end) return;
        stop(
          "stream.size",
          "command PACKAGED",
          at,
          `sections up to offset ${hex(end)}`,
          "a section that extends beyond it",
        );
      }
      scan.where = this.#sections.length === 0 ? "header" : `after ${scan.where.replace(/^after /, "")}`;
      const type = await scan.nextU8();
      const kind = KINDS.get(type);
      if (kind !== undefined) await this.#section(await this.#head(kind, at));
      else if (type === QEMU_VM.EOF && end === undefined) return;
      else if (type === QEMU_VM.COMMAND) await this.#command(at, end);
      else if (
        type === QEMU_VM.CONFIGURATION &&
        this.#configuration === undefined &&
        this.#sections.length === 0
      ) {
        this.#configuration = await readConfiguration(scan);
      } else
        stop("stream.section-type", scan.where, at, "a section, a command or the end", `type ${hex(type)}`);
    }
  }

  async #command(at: number, end: number | undefined): Promise<void> {
    const scan: Scan = this.#scan;
    const command = await readCommand(scan, at);
    this.#commandBytes += command.data.length;
    if (this.#commands.length >= MAX_COMMANDS || this.#commandBytes > MAX_COMMAND_BYTES)
      this.#limit(at, `${MAX_COMMANDS} commands of ${MAX_COMMAND_BYTES} bytes`);
    this.#commands.push(command);
    if (command.command !== MIG_CMD.PACKAGED) return;
    if (end !== undefined)
      stop("stream.command", "command PACKAGED", at, "no PACKAGED command in its payload", "one");
    const { data } = command;
    await this.#parts(scan.offset + new DataView(data.buffer, data.byteOffset).getUint32(0));
  }

  #limit(at: number, expected: string): never {
    stop("stream.limit", this.#scan.where, at, `at most ${expected}`, "more");
  }

  async #head(kind: Kind, offset: number): Promise<Head> {
    const scan: Scan = this.#scan;
    if (kind === "part" || kind === "end") {
      const id = await scan.nextU32();
      const start = this.#heads.get(id);
      if (start === undefined || !this.#open.has(id)) {
        const expected = "its start before its parts";
        stop("stream.section-id", `section ${id}`, offset, expected, `a ${kind} of section ${id}`);
      }
      if (kind === "end") this.#open.delete(id);
      return { ...start, kind, offset };
    }
    const head = { kind, ...(await readSectionHead(scan)) };
    if (kind === "start") this.#open.add(head.id);
    this.#heads.set(head.id, head);
    return head;
  }

  async #section(head: Head): Promise<void> {
    const scan: Scan = this.#scan;
    const { idstr, instanceId, kind, id } = head;
    scan.where = `section ${idstr}/${instanceId}`;
    const section: OpenSection = { ...head, dataOffset: scan.offset, size: 0, fields: [], unaccounted: 0 };
    if (this.#sections.length < MAX_SECTIONS) this.#sections.push(section);
    else if (kind === "full" || kind === "start") this.#limit(head.offset, `${MAX_SECTIONS} sections`);
    try {
      const reader = kind === "full" ? undefined : partReaderOf(idstr);
      if (kind !== "full" && idstr === RAM_IDSTR) {
        if (head.version < 3 || head.version > RAM_VERSION)
          stop(
            "stream.section-version",
            scan.where,
            head.offset,
            `version 3 or ${RAM_VERSION}`,
            `${head.version}`,
          );
        await this.#ram.records();
      } else if (reader !== undefined) {
        let progress = this.#iterative.get(id);
        if (progress === undefined) {
          progress = { idstr, instanceId, counts: {}, names: [] };
          this.#iterative.set(id, progress);
        }
        await reader(scan, progress);
      } else await this.#device(section, kind);
    } finally {
      section.size = scan.offset - section.dataOffset;
    }
    await this.#footer(id);
  }

  /** Reads a complete section. Its size comes from the VMDESCRIPTION, or its end is searched for. */
  async #device(section: OpenSection, kind: Kind): Promise<void> {
    const scan: Scan = this.#scan;
    const described =
      kind === "full" ? this.#devices.get(`${section.idstr}/${section.instanceId}`) : undefined;
    let size = described === undefined ? undefined : describedSize(described);
    // A wrong description must not hide the section's bytes.
    if (size !== undefined && size > MAX_SECTION_BYTES) size = undefined;
    const guessed = size === undefined || !(await this.#endsAt(size, section.id));
    if (guessed) size = (await this.#findEnd(section.id)) ?? size ?? (await this.#noEnd(section.id));
    const length: number = size ?? 0;
    this.#deviceBytes += length;
    if (this.#deviceBytes > MAX_DEVICE_BYTES)
      this.#limit(scan.offset, `${MAX_DEVICE_BYTES} bytes of devices`);
    await scan.need(length);
    const bytes = scan.bytes(length);
    if (this.#options.keepBytes === true) section.bytes = bytes.slice();
    if (section.idstr === INTEGRITY_IDSTR)
      this.#integrity = { data: bytes.slice(), offset: section.dataOffset };
    if (described !== undefined || this.#description !== undefined || kind !== "full") {
      this.#walk(section, bytes, described);
      if (described === undefined) this.#guessed.push(`${section.idstr}/${section.instanceId}`);
      return;
    }
    this.#waiting.push({ section, bytes: bytes.slice(), guessed });
  }

  #findEnd(id: number, footers = this.#footers): Promise<number | undefined> {
    return findSectionEnd(this.#scan, { id, footers, open: this.#open, limit: MAX_SECTION_BYTES });
  }

  /** Reports why the end of a section was not found. */
  async #noEnd(id: number): Promise<never> {
    const scan: Scan = this.#scan;
    const expected = "its size in the VMDESCRIPTION, or its footer";
    if (this.#footers !== true) stop("stream.no-size", scan.where, scan.offset, expected, "neither");
    const next = await this.#findEnd(id, false);
    // A zero at the very end counts as the stream's end, which a truncated stream lacks.
    if (next !== undefined && next + 1 < scan.available)
      stop("stream.footer", scan.where, scan.offset + next, expected, "another section's head");
    return scan.cut(1);
  }

  /** True if a section of `size` more bytes would end like the other sections of this stream. */
  async #endsAt(size: number, id: number): Promise<boolean> {
    if (this.#footers === false) return true;
    const scan: Scan = this.#scan;
    if (!(await scan.ahead(size + FOOTER_BYTES))) return false;
    if (isFooterAt(scan, scan.at + size, id)) return true;
    return this.#footers === undefined;
  }

  #walk(section: OpenSection, bytes: Uint8Array, described: DescribedDevice | undefined): void {
    const { idstr, instanceId, version } = section;
    const context = { idstr, instanceId, version, machine: this.#scan.facts.machine };
    const walked = walkSection(bytes, section.dataOffset, described, context, this.#budget);
    section.fields = walked.fields;
    section.unaccounted = walked.unaccounted;
    if (described?.vmsdName !== undefined) section.vmsdName = described.vmsdName;
    if (this.#scan.warnings.length < MAX_WARNINGS) this.#scan.warnings.push(...walked.warnings);
  }

  #walkWaiting(): void {
    for (const { section, bytes, guessed } of this.#waiting) {
      const described = this.#devices.get(`${section.idstr}/${section.instanceId}`);
      this.#walk(section, bytes, described);
      if (described === undefined && guessed) this.#guessed.push(`${section.idstr}/${section.instanceId}`);
    }
  }

  async #footer(id: number): Promise<void> {
    const scan: Scan = this.#scan;
    if (this.#footers === false) return;
    if (this.#footers === undefined) {
      await scan.ahead(1);
      this.#footers = scan.available > 0 && scan.buffer[scan.at] === QEMU_VM.SECTION_FOOTER;
      if (!this.#footers) return;
    }
    await readSectionFooter(scan, id);
  }

  /** Reads the VMDESCRIPTION after EOF; warns of any bytes after it. */
  async #trailer(): Promise<void> {
    const scan: Scan = this.#scan;
    scan.where = "vmdescription";
    if (!(await scan.ahead(1))) return;
    const at = scan.offset;
    const length = await readVmDescriptionHead(scan);
    if (length === undefined) return;
    await scan.need(length);
    const bytes = scan.bytes(length);
    if (this.#descriptionAt !== at) {
      try {
        this.#useDescription(parseDescription(bytes));
        this.#borrowed = false;
      } catch (error) {
        const expected = "JSON that describes the sections";
        scan.warnings.push(problem("stream.description", scan.where, at, expected, messageOf(error)));
      }
    }
    if (!(await scan.ahead(1))) return;
    const { size } = scan.source;
    const found = size === undefined ? "more" : `${size - scan.offset} bytes more`;
    scan.warnings.push(problem("stream.trailing", "after the end", scan.offset, "nothing", found));
  }

  async #report(end: Problem | undefined): Promise<StreamReport> {
    const scan: Scan = this.#scan;
    const { warnings } = scan;
    const channel = this.#channel;
    const libvirtBytes = this.#libvirtBytes;
    const start = (this.#options.offset ?? 0) + libvirtBytes;
    const { blocks } = channel === undefined ? this.#ram : this.#pages;
    if (this.#guessed.length > 0) {
      const names = this.#guessed.slice(0, 8).join(", ") + (this.#guessed.length > 8 ? "…" : "");
      const found = `no description of ${this.#guessed.length} (${names})`;
      warnings.push(problem("stream.guessed", "sections", undefined, "a description of each", found));
    }
    const records = blocks.reduce((sum, { records: { page, zero } }) => sum + page + zero, 0);
    if (channel === undefined && blocks.length > 0 && records === 0 && scan.facts.capabilities.has("multifd"))
      warnings.push(problem("ram.elsewhere", "section ram/0", undefined, "pages of RAM", "none"));
    if (blocks.some(({ mapped }) => mapped !== undefined)) scan.facts.capabilities.add("mapped-ram");
    const integrity =
      this.#integrity === undefined
        ? undefined
        : await checkIntegrity(scan, this.#integrity, {
            start,
            descriptionAt: this.#descriptionAt,
            skip: this.#options.skipIntegrity === true,
          });
    for (const section of this.#sections) {
      const priority = priorityOf(section.idstr, section.vmsdName);
      if (priority !== undefined) section.priority = priority;
    }
    const iterative: IterativeReport[] = [...this.#iterative.values()];
    return {
      streamVersion: this.#streamVersion,
      ...(libvirtBytes === 0 ? {} : { libvirtBytes }),
      ...(channel === undefined ? {} : { channel }),
      ...(this.#configuration === undefined ? {} : { configuration: this.#configuration }),
      sections: this.#sections,
      ram: blocks,
      iterative,
      commands: this.#commands,
      ...(this.#description === undefined || this.#borrowed ? {} : { vmDescription: this.#description }),
      capabilities: [...scan.facts.capabilities],
      pageSize: scan.facts.pageSize ?? 4096,
      ...(integrity === undefined ? {} : { integrity }),
      size: scan.offset - start,
      ...(end === undefined ? {} : { problem: end }),
      warnings,
    };
  }
}
