// Incoming multifd: any number of channels, each with packets of pages, beside the main stream. Pages of one
// round may arrive in any order. A synchronisation point (SYNC in each channel, and in the main stream a
// record or the end of a section) separates rounds: no channel is read beyond it before all have reached it.
// The number of channels is not in the stream: as in QEMU, it is set on both sides (parameter
// multifd-channels).
import { messageOf } from "../../base/errors.ts";
import { quoted } from "../../base/text.ts";
import { PAGE_SIZE } from "../../memory/guest-memory.ts";
import type { Channel } from "../../stream/channel.ts";
import type { Compression, CompressionMethod, Decompressor } from "../environment/page-compression.ts";
import { MigrationError } from "../../stream/migration-error.ts";
import { atMost, type MigrationEnvironment, withTimeout } from "../environment/migration-environment.ts";
import {
  decodeMultifdHello,
  decodeMultifdPacket,
  MULTIFD_HELLO_BYTES,
  type MultifdPacket,
  multifdPacketBytes,
} from "../../stream/multifd-packet.ts";
import type { RamChannels } from "./ram-load.ts";
import type { RamTarget } from "./ram-target.ts";
import type { StreamReader } from "../../stream/stream-reader.ts";

/** How long the main stream waits at a synchronisation point for missing channels. */
const CONNECT_TIMEOUT_MS = 10_000;
/** A channel sends its hello as soon as it is connected. */
const HELLO_TIMEOUT_MS = 10_000;
/**
 * How long a synchronisation point waits for hellos that do not come: the guest may be stopped, and a source
 * has sent all of them long before.
 */
export const HELLO_WAIT_MS = 2_000;
const PACKET_BYTES = multifdPacketBytes(PAGE_SIZE);

export interface MultifdReceiverOptions {
  readonly environment: MigrationEnvironment;
  /**
   * Capability multifd is on: the source must use channels. Otherwise channels are used if the source opens
   * any.
   */
  readonly required: boolean;
  /** Number of channels. */
  readonly channels: number;
  /** Resolves when all connections made until now have been accepted and identified. */
  readonly settled: () => Promise<void>;
}

interface Receiving {
  readonly id: number;
  readonly channel: Channel;
  isForgotten: boolean;
  /** Synchronisation points that the channel has reached. */
  reached: number;
  lastPacket: bigint;
  method: CompressionMethod | undefined;
  decompressor: Decompressor | undefined;
}

/**
 * False if the channel has ended. A connection lost between packets counts as ended; the caller decides
 * whether it ended too early.
 */
async function isOpen({ channel }: Receiving, reader: StreamReader): Promise<boolean> {
  try {
    return await reader.more();
  } catch (error) {
    channel.abort(error as Error);
    return false;
  }
}

export class MultifdReceiver implements RamChannels {
  readonly #options: MultifdReceiverOptions;
  readonly #channels = new Map<number, Receiving>();
  /** Connections whose hello has not arrived. */
  readonly #hellos = new Set<Promise<void>>();
  #targets: ReadonlyMap<string, RamTarget> | undefined;
  /** Synchronisation points that the main stream has reached, and that all channels have passed. */
  #reached = 0;
  #passed = 0;
  #failure: MigrationError | undefined;
  /** Why a channel was refused before `begin`: probably why a move failed that needed it. */
  refusal: MigrationError | undefined;
  /** Guest memory must not be written any more. */
  #done = false;
  readonly #wakers: (() => void)[] = [];
  /** Rejects when a channel fails. */
  readonly failed: Promise<never>;
  #reject: (error: MigrationError) => void = () => {};

  constructor(options: MultifdReceiverOptions) {
    this.#options = options;
    this.failed = new Promise((_, reject) => {
      this.#reject = reject;
    });
    this.failed.catch(() => {});
  }

  /**
   * Serves a connection that began with MULTIFD_MAGIC until it ends. Never rejects: `failed` reports errors.
   * A connection without a hello, or one that fails before a move needs it (`begin`), is only dropped.
   */
  async accept(channel: Channel, reader: StreamReader): Promise<void> {
    let receiving: Receiving | undefined;
    let isNamed = false;
    try {
      if (this.#done) throw new MigrationError("migration.multifd", "the load is already complete");
      if (this.#failure !== undefined) throw this.#failure;
      reader.where = () => "multifd channel";
      reader.isHashed = false;
      const id = await this.#hello(reader);
      isNamed = true;
      receiving = this.#register(id, channel, reader);
      try {
        while (!this.#done && (reader.available > 0 || (await isOpen(receiving, reader)))) {
          await this.#packet(receiving, reader);
        }
      } finally {
        receiving.decompressor?.close();
      }
      // The source closes its channels when it has sent everything.
      if (this.#done) await channel.close();
      else if (!this.#isBegun) this.#forget(receiving);
      else if (receiving.reached <= this.#passed && this.#failure === undefined)
        await this.#channelEnded(receiving, reader);
    } catch (error) {
      if (this.#isBegun && isNamed && receiving?.isForgotten !== true) this.#fail(error);
      else {
        this.refusal ??= asMultifdError(error);
        if (receiving !== undefined) this.#forget(receiving);
      }
      channel.abort(this.#failure ?? (error as Error));
    }
  }

  /** What a failed move's error says of a channel that was refused. */
  get hint(): string {
    return this.refusal === undefined ? "" : `; a multifd channel was refused: ${this.refusal.message}`;
  }

  get #isBegun(): boolean {
    return this.#targets !== undefined;
  }

  /** Reads a hello. Resolves to the channel's number. */
  async #hello(reader: StreamReader): Promise<number> {
    const late = () => new MigrationError("migration.timeout", "the connection sends no multifd hello");
    const { environment } = this.#options;
    await this.#trackHello(
      withTimeout(environment, reader.need(MULTIFD_HELLO_BYTES), HELLO_TIMEOUT_MS, late),
    );
    return decodeMultifdHello(reader.bytes(MULTIFD_HELLO_BYTES)).id;
  }

  #register(id: number, channel: Channel, reader: StreamReader): Receiving {
    const { channels } = this.#options;
    const twin = this.#channels.get(id);
    if (id >= channels || twin !== undefined) {
      // Nobody can say which of two is the source's.
      if (twin !== undefined && !this.#isBegun) this.#forget(twin);
      const what =
        id >= channels
          ? `found channel ${id}, expected ${channels} channels, numbered from 0`
          : `channel ${id} was connected twice`;
      reader.fail("migration.multifd", `${what}: set multifd-channels to the same number on both sides`, 0);
    }
    reader.where = () => `multifd channel ${id}`;
    const receiving: Receiving = {
      id,
      channel,
      isForgotten: false,
      reached: 0,
      lastPacket: -1n,
      method: undefined,
      decompressor: undefined,
    };
    this.#channels.set(id, receiving);
    this.#wake();
    return receiving;
  }

  /** Drops a channel that no move has begun to use. */
  #forget(receiving: Receiving): void {
    receiving.isForgotten = true;
    if (this.#channels.get(receiving.id) === receiving) this.#channels.delete(receiving.id);
    receiving.channel.abort(new MigrationError("migration.multifd", "the channel is not used"));
    this.#wake();
  }

  /** A channel may end when everything was sent. It is an error only if the main stream waits for more. */
  async #channelEnded(receiving: Receiving, reader: StreamReader): Promise<void> {
    await this.#until(() => this.#done || this.#reached > receiving.reached);
    if (!this.#done) reader.fail("migration.cut", `the channel ends too early; ${reader.endAdvice}`);
    await receiving.channel.close();
  }

  async #trackHello(hello: Promise<void>): Promise<void> {
    this.#hellos.add(hello);
    try {
      await hello;
    } finally {
      this.#hellos.delete(hello);
    }
  }

  /**
   * The source connects all its channels, and each sends its hello, before it continues after the first
   * synchronisation point. A channel that has not arrived by then does not exist.
   */
  async #settled(): Promise<void> {
    await this.#options.settled();
    await atMost(this.#options.environment, HELLO_WAIT_MS, Promise.allSettled(this.#hellos));
    // Tasks that waited for a hello run first.
    await this.#options.environment.yieldToEventLoop();
    if (this.#failure !== undefined) throw this.#failure;
  }

  begin(targets: ReadonlyMap<string, RamTarget>): void {
    this.#targets = targets;
    this.#wake();
  }

  async synchronize(isMarked: boolean): Promise<void> {
    const { required, channels, environment } = this.#options;
    this.#reached++;
    if (this.#reached === 1) await this.#settled();
    if (this.#failure !== undefined) throw this.#failure;
    if (required || isMarked || this.#channels.size > 0) {
      const late = environment.setTimer(CONNECT_TIMEOUT_MS, () => {
        const { size } = this.#channels;
        if (size === channels) return;
        this.#fail(
          new MigrationError(
            "migration.multifd",
            `${size} of ${channels} multifd channels were connected: switch the capability multifd on in the source, and ` +
              `set multifd-channels to the same number on both sides${this.hint}`,
          ),
        );
      });
      this.#wake();
      try {
        await this.#until(() => this.#channels.size === channels && this.#allReached());
      } finally {
        late.cancel();
      }
    }
    this.#passed = this.#reached;
    this.#wake();
  }

  /**
   * After the end of the stream: rejects if a channel arrived that was not waited for, because its pages are
   * lost.
   */
  async finish(): Promise<void> {
    await this.#settled();
    const { size } = this.#channels;
    if (size > 0 && (size !== this.#options.channels || !this.#allReached())) {
      throw new MigrationError(
        "migration.multifd",
        "a multifd channel was connected too late and its pages are lost: switch the capability multifd on here, too",
      );
    }
    this.close();
  }

  /** Ends all channels: the load is complete, or failed with `reason`. */
  close(reason?: MigrationError): void {
    this.#done = true;
    // Rejects all waits for a channel.
    this.#failure ??= reason;
    for (const { channel } of this.#channels.values()) {
      if (reason !== undefined) channel.abort(reason);
    }
    this.#wake();
  }

  #allReached(): boolean {
    return [...this.#channels.values()].every(({ reached }) => reached >= this.#reached);
  }

  #wake(): void {
    for (const waker of this.#wakers.splice(0)) waker();
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => this.#wakers.push(resolve));
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined || this.#done) return;
    this.#failure = asMultifdError(error);
    for (const { channel } of this.#channels.values()) channel.abort(this.#failure);
    this.#reject(this.#failure);
    this.#wake();
  }

  async #packet(receiving: Receiving, reader: StreamReader): Promise<void> {
    await reader.need(PACKET_BYTES);
    const at = reader.offset;
    let packet: MultifdPacket;
    try {
      packet = decodeMultifdPacket(reader.bytes(PACKET_BYTES), PAGE_SIZE);
    } catch (error) {
      reader.fail("migration.multifd", messageOf(error), at, error);
    }
    if (packet.packetNumber < receiving.lastPacket) {
      reader.fail(
        "migration.multifd",
        `packet ${packet.packetNumber} follows packet ${receiving.lastPacket}`,
        at,
      );
    }
    receiving.lastPacket = packet.packetNumber;
    if (packet.normal.length + packet.zero.length > 0) await this.#pages(receiving, reader, packet, at);
    if (!packet.sync) return;
    receiving.reached++;
    this.#wake();
    await this.#until(() => this.#done || this.#passed >= receiving.reached);
  }

  async #pages(receiving: Receiving, reader: StreamReader, packet: MultifdPacket, at: number): Promise<void> {
    await this.#until(() => this.#done || this.#isBegun || receiving.isForgotten);
    if (this.#done) return;
    if (receiving.isForgotten) throw new MigrationError("migration.multifd", "the channel is not used");
    const target = this.#targets?.get(packet.block);
    if (target === undefined) {
      const known = [...(this.#targets?.keys() ?? [])].join(", ");
      reader.fail(
        "migration.multifd",
        `pages of RAM block ${quoted(packet.block)}, expected one of ${known}`,
        at,
      );
    }
    try {
      for (const offset of packet.normal) target.check(offset);
      for (const offset of packet.zero) target.check(offset);
    } catch (error) {
      reader.fail("migration.multifd", messageOf(error), at, error);
    }
    if (packet.compression === "none") {
      for (const offset of packet.normal) {
        if (reader.available < PAGE_SIZE) await reader.need(PAGE_SIZE);
        if (this.#done) return;
        target.set(offset, reader.bytes(PAGE_SIZE));
      }
    } else if (packet.normal.length > 0) {
      await reader.need(packet.payloadBytes);
      const decompressor = this.#decompressor(receiving, reader, packet.compression, at);
      const payload = reader.bytes(packet.payloadBytes);
      let pages: Uint8Array;
      try {
        pages = await decompressor.decode(payload, packet.normal.length * PAGE_SIZE);
      } catch (error) {
        reader.fail("migration.multifd", messageOf(error), at, error);
      }
      if (this.#done) return;
      for (const [i, offset] of packet.normal.entries()) {
        target.set(offset, pages.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE));
      }
    }
    for (const offset of packet.zero) target.fill(offset, 0);
  }

  #decompressor(
    receiving: Receiving,
    reader: StreamReader,
    method: Exclude<MultifdPacket["compression"], "none">,
    at: number,
  ): Decompressor {
    const compression: Compression | undefined = this.#options.environment.compression;
    if ((method !== "zlib" && method !== "zstd") || compression === undefined) {
      const have = compression === undefined ? "none" : "none, zlib or zstd";
      reader.fail(
        "migration.multifd",
        `pages are compressed with ${method}, which this host does not support: set multifd-compression to ${have} in the source`,
        at,
      );
    }
    if (receiving.decompressor !== undefined && receiving.method === method) return receiving.decompressor;
    if (receiving.method !== undefined)
      reader.fail("migration.multifd", `compression changes from ${receiving.method} to ${method}`, at);
    receiving.method = method;
    receiving.decompressor = compression.decompressor(method);
    return receiving.decompressor;
  }
}

function asMultifdError(error: unknown): MigrationError {
  if (error instanceof MigrationError) return error;
  return new MigrationError("migration.multifd", messageOf(error), { cause: error });
}
