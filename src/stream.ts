// Entry `wherry/stream`: QEMU's migration stream as bytes: opening any (docs/stream-format.md has an example), comparing and
// checking them, reading and writing the parts, its numbers, Wherry's integrity section, and the schema engine that device
// sections are written with. No machine is needed, nor a host: it works in a page.
export { ByteReader, ByteWriter, EndOfBytes } from "./base/bytes.ts";
export { WherryError } from "./base/errors.ts";
export { Xxh32, xxh32 } from "./base/xxh32.ts";
export { pieceChannel } from "./host/memory-snapshot.ts";
export { checkStream, type CheckReport, type CheckTarget } from "./inspect/check.ts";
export { checkDumps, type DumpCheck } from "./inspect/check-dumps.ts";
export { checkQueues, type QueueCheck } from "./inspect/check-virtio.ts";
export { parseVirtioStatus, type VirtioOffer } from "./inspect/virtio-status.ts";
export { explainComplaint } from "./inspect/complaints.ts";
export { type DiffOptions, type Difference, diffStreams, type StreamDifferences } from "./inspect/diff.ts";
export { readWithRam } from "./inspect/diff-ram.ts";
export { parseDump, type VmstateDump } from "./inspect/dump-vmstate.ts";
export { reportJson } from "./inspect/json.ts";
export type * from "./inspect/model.ts";
export { isFault, problemText } from "./inspect/problems.ts";
export { fieldAt, sectionsNamed } from "./inspect/select.ts";
export { type ByteSource, bytesSource, piecesSource } from "./inspect/source.ts";
export { type PageVisitor, readStream, type ReadOptions } from "./inspect/stream.ts";
export { overview, problemLines, sectionText, valueText } from "./inspect/text.ts";
export type { Channel } from "./migration/channel.ts";
export { MigrationError, type MigrationPlace } from "./migration/errors.ts";
export { decodeIntegrity, type IntegrityTable, type Unit, type UnitRange } from "./migration/integrity.ts";
export { StreamReader } from "./migration/stream-reader.ts";
export { StreamWriter } from "./migration/stream-writer.ts";
export { type Description } from "./inspect/description.ts";
export { findDescription } from "./inspect/trailer.ts";
export { applyXbzrle } from "./migration/xbzrle.ts";
export * as wire from "./migration/wire.ts";
export * as schema from "./state/schema.ts";
