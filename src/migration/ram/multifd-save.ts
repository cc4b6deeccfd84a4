// Outgoing multifd: packets of pages over a number of channels, to QEMU. Zero pages go over the main stream,
// which every release reads (packets list them only since 9.0). Pages are copied when they are added, so the
// guest may run. Each channel has one packet in flight.
import { ByteWriter } from "../../base/bytes.ts";
import { PAGE_SIZE } from "../../memory/guest-memory.ts";
import type { Channel } from "../../stream/channel.ts";
import type { Compressor } from "../environment/page-compression.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import type { MigrationEnvironment } from "../environment/migration-environment.ts";
import {
  encodeMultifdHello,
  encodeMultifdPacket,
  type MultifdPacket,
  multifdPacketBytes,
  multifdPacketPages,
} from "../../stream/multifd-packet.ts";
import { type Pace, paceAll } from "../../stream/stream-writer.ts";
import type { RamSendChannels } from "./ram-save.ts";

const PACKET_PAGES = multifdPacketPages(PAGE_SIZE);
const NO_UUID = new Uint8Array(16);

export interface MultifdSenderOptions {
  readonly environment: MigrationEnvironment;
  readonly channels: number;
  readonly compression: "none" | "zlib" | "zstd";
  /** Compression level of the method; 1 is QEMU's default. */
  readonly level: number;
  /** Waits until the rate limit permits `bytes` more. */
  readonly pace: Pace;
}

/** Pages of one block that wait to be sent. */
class Batch {
  block = "";
  offsets: number[] = [];
  readonly #pages = new Uint8Array(PACKET_PAGES * PAGE_SIZE);

  add(block: string, offset: number, page: Uint8Array): void {
    this.block = block;
    this.#pages.set(page, this.offsets.length * PAGE_SIZE);
    this.offsets.push(offset);
  }
  get pages(): Uint8Array<ArrayBuffer> {
    return this.#pages.subarray(0, this.offsets.length * PAGE_SIZE);
  }
}

interface Sending {
  readonly channel: Channel;
  readonly compressor: Compressor | undefined;
  batch: Batch;
  isBusy: boolean;
}

export class MultifdSender implements RamSendChannels {
  readonly #options: MultifdSenderOptions;
  readonly #channels: Sending[] = [];
  #batch = new Batch();
  #next = 0;
  #packets = 0n;
  #acceptedBytes = 0;
  #failure: Error | undefined;
  readonly #wakers: (() => void)[] = [];

  /** Connects all channels, after the main one. Rejects with MigrationError, or as `connect` does. */
  static async open(connect: () => Promise<Channel>, options: MultifdSenderOptions): Promise<MultifdSender> {
    const { compression } = options.environment;
    if (options.compression !== "none" && compression === undefined) {
      throw new MigrationError(
        "migration.multifd",
        `this host does not support ${options.compression}: set multifd-compression to none`,
      );
    }
    const sender = new MultifdSender(options);
    try {
      for (let id = 0; id < options.channels; id++) {
        const channel = await connect();
        const compressor =
          options.compression === "none"
            ? undefined
            : compression?.compressor(options.compression, options.level);
        sender.#channels.push({ channel, compressor, batch: new Batch(), isBusy: false });
        const hello = new ByteWriter();
        encodeMultifdHello(hello, { uuid: NO_UUID, id });
        await channel.write(hello.view());
      }
    } catch (error) {
      sender.abort(error as Error);
      throw error;
    }
    return sender;
  }

  private constructor(options: MultifdSenderOptions) {
    this.#options = options;
  }

  /** Bytes that the channels have accepted. */
  get acceptedBytes(): number {
    return this.#acceptedBytes;
  }

  fits(block: string, _offset: number): boolean {
    const { length } = this.#batch.offsets;
    return length === 0 || (length < PACKET_PAGES && this.#batch.block === block);
  }

  add(block: string, offset: number, page: Uint8Array): void {
    this.#batch.add(block, offset, page);
  }

  async send(): Promise<void> {
    if (this.#batch.offsets.length === 0) return;
    const sending = await this.#free();
    const batch = this.#batch;
    this.#batch = sending.batch;
    sending.batch = batch;
    this.#start(sending, () => this.#sendBatch(sending, batch));
  }

  async synchronize(): Promise<void> {
    await this.send();
    for (const sending of this.#channels) {
      await this.#until(() => !sending.isBusy);
      this.#start(sending, () =>
        this.#write(sending, { sync: true, block: "", normal: [] }, new Uint8Array(0)),
      );
    }
    await this.#until(() => this.#channels.every(({ isBusy }) => !isBusy));
  }

  /** Closes the channels after everything was sent. */
  async close(): Promise<void> {
    for (const { channel, compressor } of this.#channels) {
      compressor?.close();
      await channel.close().catch(() => {});
    }
  }

  abort(reason: Error): void {
    this.#failure ??= reason;
    for (const { channel, compressor } of this.#channels) {
      compressor?.close();
      channel.abort(reason);
    }
    this.#wake();
  }

  #wake(): void {
    for (const waker of this.#wakers.splice(0)) waker();
  }

  async #until(condition: () => boolean): Promise<void> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      if (condition()) return;
      await new Promise<void>((resolve) => this.#wakers.push(resolve));
    }
  }

  /** The next idle channel, round-robin. */
  async #free(): Promise<Sending> {
    const n = this.#channels.length;
    const find = () => {
      for (let i = 0; i < n; i++) {
        const sending = this.#channels[(this.#next + i) % n];
        if (sending?.isBusy === false) {
          this.#next = (this.#next + i + 1) % n;
          return sending;
        }
      }
      return undefined;
    };
    let found: Sending | undefined;
    await this.#until(() => (found = find()) !== undefined);
    return found!;
  }

  #start(sending: Sending, work: () => Promise<void>): void {
    sending.isBusy = true;
    work()
      .catch((error: unknown) => this.abort(error as Error))
      .finally(() => {
        sending.isBusy = false;
        this.#wake();
      });
  }

  async #sendBatch(sending: Sending, batch: Batch): Promise<void> {
    const { block, offsets, pages } = batch;
    const payload = sending.compressor === undefined ? pages : await sending.compressor.encode(pages);
    await this.#write(sending, { sync: false, block, normal: offsets }, payload);
    batch.offsets = [];
  }

  async #write(
    { channel, compressor }: Sending,
    packet: Pick<MultifdPacket, "sync" | "block" | "normal">,
    payload: Uint8Array,
  ): Promise<void> {
    const head = new ByteWriter(multifdPacketBytes(PAGE_SIZE));
    const compression = compressor === undefined || packet.sync ? "none" : this.#options.compression;
    encodeMultifdPacket(
      head,
      {
        ...packet,
        compression,
        pagesAlloc: PACKET_PAGES,
        packetNumber: this.#packets++,
        payloadBytes: payload.length,
        zero: [],
      },
      PAGE_SIZE,
    );
    await paceAll(this.#options.pace, head.length + payload.length);
    await channel.write(head.view());
    if (payload.length > 0) await channel.write(payload);
    this.#acceptedBytes += head.length + payload.length;
  }
}
