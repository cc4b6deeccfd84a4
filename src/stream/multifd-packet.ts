// The packets of multifd channels (QEMU 4.0 and later). A channel begins with a hello that has its number;
// packets of fixed size follow, each with its pages' bytes after it. Packets list zero pages since 9.0;
// before, that field was reserved and zero. Device state in packets (10.0, VFIO) is recognised, not read.
import { ByteReader, type ByteWriter } from "../base/bytes.ts";
import { decodeUtf8, encodeUtf8 } from "../base/text.ts";
import { MigrationError } from "./migration-error.ts";

export const MULTIFD_MAGIC = 0x11223344;
const MULTIFD_VERSION = 1;
export const MULTIFD_HELLO_BYTES = 64;
const UUID_BYTES = 16;
const HELLO_RESERVED_BYTES = 39;
const HEAD_BYTES = 320;
const HEAD_RESERVED_BYTES = 28;
const BLOCK_NAME_BYTES = 256;
/** QEMU's MULTIFD_PACKET_SIZE: the pages of a full packet add up to this. */
const PACKET_PAYLOAD_BYTES = 512 * 1024;

const FLAG_SYNC = 1;
const COMPRESSION_SHIFT = 1;
const COMPRESSION_MASK = 0x1f;
const COMPRESSIONS = { 0: "none", 1: "zlib", 2: "zstd", 4: "qpl", 8: "uadk", 16: "qatzip" } as const;
export type MultifdCompression = (typeof COMPRESSIONS)[keyof typeof COMPRESSIONS];
const FLAG_DEVICE_STATE = 1 << 6;
const KNOWN_FLAGS = FLAG_SYNC | (COMPRESSION_MASK << COMPRESSION_SHIFT);

export interface MultifdHello {
  /** UUID of the source's machine; zeros if it has none. */
  readonly uuid: Uint8Array;
  /** The channel's number, from 0. */
  readonly id: number;
}

export interface MultifdPacket {
  /** Last packet of the channel before a synchronisation point. */
  readonly sync: boolean;
  readonly compression: MultifdCompression;
  /** Most pages that a packet of this stream can hold. */
  readonly pagesAlloc: number;
  /** The packet's number; all channels share one counter. */
  readonly packetNumber: bigint;
  /**
   * Bytes after the packet: the `normal` pages, plain or compressed. Releases before 8.2 send a stale number
   * in packets without pages, which no payload follows.
   */
  readonly payloadBytes: number;
  /** The RAM block; empty if the packet has no pages. */
  readonly block: string;
  /** Offsets in the block, in bytes: pages in the payload, and zero pages. */
  readonly normal: readonly number[];
  readonly zero: readonly number[];
}

/** Most pages in a packet, and the packet's length without its payload. */
export function multifdPacketPages(pageSize: number): number {
  return PACKET_PAYLOAD_BYTES / pageSize;
}
export function multifdPacketBytes(pageSize: number): number {
  return HEAD_BYTES + 8 * multifdPacketPages(pageSize);
}

function damaged(message: string): never {
  throw new MigrationError("migration.multifd", message);
}

function checkStart(reader: ByteReader): void {
  const magic = reader.u32();
  if (magic !== MULTIFD_MAGIC)
    damaged(`expected a multifd packet (0x${MULTIFD_MAGIC.toString(16)}), found 0x${magic.toString(16)}`);
  const version = reader.u32();
  if (version !== MULTIFD_VERSION)
    damaged(
      `expected multifd version ${MULTIFD_VERSION}, found ${version}: the source is newer than this reader`,
    );
}

/** Decodes MULTIFD_HELLO_BYTES bytes. Throws MigrationError. */
export function decodeMultifdHello(bytes: Uint8Array): MultifdHello {
  const reader = new ByteReader(bytes);
  checkStart(reader);
  const uuid = reader.bytes(UUID_BYTES).slice();
  return { uuid, id: reader.u8() };
}

export function encodeMultifdHello(writer: ByteWriter, hello: MultifdHello): void {
  writer.u32(MULTIFD_MAGIC).u32(MULTIFD_VERSION).bytes(hello.uuid).u8(hello.id);
  writer.bytes(new Uint8Array(HELLO_RESERVED_BYTES));
}

/**
 * Decodes multifdPacketBytes(pageSize) bytes. Does not check offsets against the block. Throws
 * MigrationError.
 */
export function decodeMultifdPacket(bytes: Uint8Array, pageSize: number): MultifdPacket {
  const reader = new ByteReader(bytes);
  checkStart(reader);
  const flags = reader.u32();
  if ((flags & FLAG_DEVICE_STATE) !== 0)
    damaged("a packet with device state (VFIO): this machine has no device that would read it");
  const code = (flags >>> COMPRESSION_SHIFT) & COMPRESSION_MASK;
  const compression = (COMPRESSIONS as Record<number, MultifdCompression>)[code];
  if ((flags & ~KNOWN_FLAGS) !== 0 || compression === undefined)
    damaged(
      `flags 0x${flags.toString(16)} mean nothing to this reader: the source is newer, or the data damaged`,
    );
  const pagesAlloc = reader.u32();
  const normalPages = reader.u32();
  const announcedBytes = reader.u32();
  const packetNumber = reader.u64();
  const zeroPages = reader.u32();
  reader.bytes(HEAD_RESERVED_BYTES);
  const name = reader.bytes(BLOCK_NAME_BYTES);
  const most = multifdPacketPages(pageSize);
  if (pagesAlloc > most || normalPages + zeroPages > most)
    damaged(
      `${normalPages} pages and ${zeroPages} of zeros (of ${pagesAlloc}), at most ${most} fit in a packet`,
    );
  const payloadBytes = normalPages === 0 ? 0 : announcedBytes;
  const mostBytes = compression === "none" ? normalPages * pageSize : 2 * PACKET_PAYLOAD_BYTES;
  if (payloadBytes > mostBytes || (compression === "none" && payloadBytes !== mostBytes))
    damaged(`${payloadBytes} bytes for ${normalPages} pages of ${pageSize} bytes (${compression})`);
  const offsets = (count: number) => Array.from({ length: count }, () => Number(reader.u64()));
  const end = name.indexOf(0);
  return {
    sync: (flags & FLAG_SYNC) !== 0,
    compression,
    pagesAlloc,
    packetNumber,
    payloadBytes,
    block: normalPages + zeroPages === 0 ? "" : decodeUtf8(name.subarray(0, end < 0 ? name.length - 1 : end)),
    normal: offsets(normalPages),
    zero: offsets(zeroPages),
  };
}

/** Appends the packet without its payload. */
export function encodeMultifdPacket(writer: ByteWriter, packet: MultifdPacket, pageSize: number): void {
  const { normal, zero } = packet;
  const codes = Object.entries(COMPRESSIONS);
  const code = Number(codes.find(([, name]) => name === packet.compression)?.[0] ?? 0);
  writer.u32(MULTIFD_MAGIC).u32(MULTIFD_VERSION);
  writer.u32((packet.sync ? FLAG_SYNC : 0) | (code << COMPRESSION_SHIFT));
  writer.u32(packet.pagesAlloc).u32(normal.length).u32(packet.payloadBytes).u64(packet.packetNumber);
  writer.u32(zero.length).bytes(new Uint8Array(HEAD_RESERVED_BYTES));
  const name = encodeUtf8(packet.block);
  if (name.length >= BLOCK_NAME_BYTES)
    damaged(`the name of RAM block ${packet.block} does not fit in a packet`);
  writer.bytes(name).bytes(new Uint8Array(BLOCK_NAME_BYTES - name.length));
  for (const offset of [...normal, ...zero]) writer.u64(BigInt(offset));
  const unused = multifdPacketPages(pageSize) - normal.length - zero.length;
  writer.bytes(new Uint8Array(8 * unused));
}
