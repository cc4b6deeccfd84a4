// Entry `wherry/stream`: QEMU's migration stream as bytes: reading and writing it, its numbers, Wherry's integrity
// section, and the schema engine that device sections are written with. No machine is needed, nor a host.
export { ByteReader, ByteWriter, EndOfBytes } from "./base/bytes.ts";
export { WherryError } from "./base/errors.ts";
export { Xxh32, xxh32 } from "./base/xxh32.ts";
export { pieceChannel } from "./host/memory-snapshot.ts";
export type { Channel } from "./migration/channel.ts";
export { MigrationError, type MigrationPlace } from "./migration/errors.ts";
export { decodeIntegrity, type IntegrityTable, type Unit, type UnitRange } from "./migration/integrity.ts";
export { StreamReader } from "./migration/stream-reader.ts";
export { StreamWriter } from "./migration/stream-writer.ts";
export * as wire from "./migration/wire.ts";
export * as schema from "./state/schema.ts";
