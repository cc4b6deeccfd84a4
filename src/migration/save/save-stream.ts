// Writes a machine as a stream in Wherry's own format: header, configuration, RAM, device sections by
// priority, wherry/integrity, end, VMDESCRIPTION. Snapshots and moves write the same stream; only a move has
// commands in it. With a profile, the device sections are those of that QEMU release, in its order, and there
// is no integrity section.
import { ByteWriter } from "../../base/bytes.ts";
import { messageOf } from "../../base/errors.ts";
import { encodeUtf8 } from "../../base/text.ts";
import { xxh32 } from "../../base/xxh32.ts";
import { PAGE_SIZE } from "../../memory/guest-memory.ts";
import type { Machine } from "../../vmm/machine.ts";
import type { QemuProfile } from "../../vmm/qemu-profile.ts";
import type { RunState } from "../../vmm/run-state.ts";
import type { Section } from "../../state/section.ts";
import {
  type ConfigurationToWrite,
  describeConfiguration,
  writeConfiguration,
} from "../../stream/configuration.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import { runStateSection } from "../environment/run-state-section.ts";
import type { MigrationEnvironment } from "../environment/migration-environment.ts";
import { describeIntegrity, encodeIntegrity, integrityBody, UnitLog } from "../../stream/integrity.ts";
import { MappedRamWriter } from "../ram/mapped-ram-save.ts";
import { type RamSendChannels, RamWriter } from "../ram/ram-save.ts";
import type { StreamWriter } from "../../stream/stream-writer.ts";
import { CONFIGURATION, INTEGRITY_IDSTR, INTEGRITY_VERSION, QEMU_VM } from "../../stream/wire.ts";

const RAM_SECTION_ID = 1;

/** By priority, then in registration order. */
export function inSaveOrder(sections: readonly Section[]): Section[] {
  return [...sections].sort((a, b) => b.priority - a.priority);
}

/** The format of the stream: a QEMU release's, or Wherry's own, where only a move has `moveId`. */
export interface StreamKind {
  readonly profile?: QemuProfile | undefined;
  readonly moveId?: Uint8Array;
  /** QEMU streams only: pages are sent over these channels, or have fixed offsets in the file. */
  readonly channels?: RamSendChannels | undefined;
  readonly isMappedRam?: boolean;
}

export class StreamSaver {
  readonly ram: RamWriter;
  readonly #machine: Machine;
  readonly #stream: StreamWriter;
  readonly #units = new UnitLog();
  readonly #profile: QemuProfile | undefined;
  readonly #isLiveMove: boolean;
  readonly #configuration: ConfigurationToWrite;
  #nextSectionId = RAM_SECTION_ID + 1;
  #vmdescription: Uint8Array<ArrayBuffer> | undefined;

  constructor(
    machine: Machine,
    stream: StreamWriter,
    environment: MigrationEnvironment,
    kind: StreamKind = {},
  ) {
    this.#machine = machine;
    this.#stream = stream;
    this.#profile = kind.profile;
    this.#isLiveMove = kind.moveId !== undefined;
    this.#configuration = {
      machine: machine.name,
      moveId: kind.moveId,
      capabilities: kind.isMappedRam === true ? ["mapped-ram"] : [],
    };
    const { channels } = kind;
    // QEMU got both features in 8.1 or later, and no profile is for a release in between.
    const qemuRam = kind.profile && {
      blocks: kind.profile.ramBlocks,
      multifdFlush: kind.profile.switchoverStart,
      channels,
      mapped: kind.isMappedRam === true ? new MappedRamWriter(stream) : undefined,
    };
    const { memory, carried } = machine;
    this.ram = new RamWriter(memory, stream, this.#units, environment, RAM_SECTION_ID, qemuRam, carried);
  }

  /** Writes header and configuration. */
  header(): void {
    writeConfiguration(this.#stream.out, this.#configuration);
  }

  command(command: number, data: Uint8Array): void {
    this.#stream.out.u8(QEMU_VM.COMMAND).u16(command).u16(data.length).bytes(data);
  }

  /** Closes the configuration's unit (with the commands so far) and starts RAM. */
  async startRam(): Promise<void> {
    this.#closeUnit(CONFIGURATION, 0);
    await this.ram.start();
  }

  #closeUnit(name: string, instanceId: number): void {
    this.#units.close(name, instanceId, this.#stream.offset, this.#stream.takeHash());
  }

  /**
   * Writes all device sections, the destination's `runState`, and Wherry's integrity section. Synchronise the
   * vCPUs first.
   */
  async devices(runState: RunState): Promise<void> {
    if (this.#profile === undefined) await this.#machine.fingerprintDrives(this.#isLiveMove);
    const data = new ByteWriter();
    const devices: unknown[] = [];
    const globalState = runStateSection(runState, () => {});
    const sections =
      this.#profile === undefined
        ? inSaveOrder([...this.#machine.sections, globalState].filter(({ isWritten }) => isWritten !== false))
        : [...this.#profile.sections, globalState];
    for (const section of sections) {
      const { idstr: name, instanceId: instance_id, vmsdName: vmsd_name, version } = section;
      try {
        data.reset();
        section.encode(data);
        devices.push({ name, instance_id, vmsd_name, version, ...section.describe() });
      } catch (error) {
        throw new MigrationError("migration.encode", `cannot be saved: ${messageOf(error)}`, {
          where: `section ${name}/${instance_id}`,
          cause: error,
        });
      }
      this.#fullSection(name, instance_id, version, data.view());
      this.#closeUnit(name, instance_id);
      if (this.#stream.full) await this.#stream.flush();
    }
    if (this.#profile === undefined) this.#integrity(devices);
    else this.#vmdescription = this.#describe(devices);
  }

  #fullSection(idstr: string, instanceId: number, version: number, data: Uint8Array): void {
    const id = this.#nextSectionId++;
    const { out } = this.#stream;
    out.u8(QEMU_VM.SECTION_FULL).u32(id).countedString(idstr).u32(instanceId).u32(version);
    out.bytes(data);
    out.u8(QEMU_VM.SECTION_FOOTER).u32(id);
  }

  #integrity(devices: unknown[]): void {
    const { units } = this.#units;
    const bodyOf = (json: Uint8Array) =>
      integrityBody(new ByteWriter(), { units, vmdescLength: json.length, vmdescHash: xxh32(json) });
    devices.push({
      name: INTEGRITY_IDSTR,
      instance_id: 0,
      vmsd_name: INTEGRITY_IDSTR,
      version: INTEGRITY_VERSION,
      fields: describeIntegrity(bodyOf(new Uint8Array(0)).length),
    });
    const json = this.#describe(devices);
    const data = new ByteWriter();
    encodeIntegrity(data, bodyOf(json));
    this.#fullSection(INTEGRITY_IDSTR, 0, INTEGRITY_VERSION, data.view());
    this.#vmdescription = json;
  }

  #describe(devices: unknown[]): Uint8Array<ArrayBuffer> {
    const configuration = describeConfiguration(this.#configuration);
    let json = encodeUtf8(JSON.stringify({ configuration, page_size: PAGE_SIZE, devices }));
    // QEMU's analyze-migration.py takes the first "{" after the last zero byte, which may be in the length:
    // pad until no byte of the length is "{".
    while (lengthBytes(json.length).includes("{".charCodeAt(0))) {
      const padded = new Uint8Array(json.length + 1).fill(" ".charCodeAt(0));
      padded.set(json);
      json = padded;
    }
    return json;
  }

  /** Writes the end of the stream. In a move it is GO: the destination runs the machine. */
  trailer(): void {
    const json = this.#vmdescription;
    if (json === undefined) throw new MigrationError("migration.order", "devices() comes before trailer()");
    this.#stream.out.u8(QEMU_VM.EOF).u8(QEMU_VM.VMDESCRIPTION).u32(json.length).bytes(json);
  }
}

/** The data of a PING. */
export function cookieBytes(cookie: number): Uint8Array {
  return new ByteWriter(4).u32(cookie).finish();
}

function lengthBytes(length: number): number[] {
  return [length >>> 24, (length >>> 16) & 0xff, (length >>> 8) & 0xff, length & 0xff];
}
