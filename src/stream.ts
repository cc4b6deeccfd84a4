// Entry `wherry/stream`: QEMU's migration stream as bytes: opens any stream (example in
// docs/stream-format.md), compares and checks streams, reads and writes their parts, and has its numbers,
// Wherry's integrity section, and the schema engine of device sections. Needs neither a machine nor a
// platform: it works in a page.
export { ByteReader, ByteWriter, EndOfBytes } from "./base/bytes.ts";
export { WherryError } from "./base/errors.ts";
export { Xxh32, xxh32 } from "./base/xxh32.ts";
export { pieceChannel } from "./embed/memory-snapshot.ts";
export { checkStream, type CheckReport, type CheckTarget } from "./inspect/check/check-stream.ts";
export { checkDumps, type DumpCheck } from "./inspect/check/check-dumps.ts";
export { checkQueues, type QueueCheck } from "./inspect/check/check-virtio.ts";
export { parseVirtioStatus, type VirtioOffer } from "./inspect/check/virtio-status.ts";
export { type Explained, explainComplaint } from "./inspect/explain/complaints.ts";
export {
  type DiffOptions,
  type Difference,
  diffStreams,
  type StreamDifferences,
} from "./inspect/diff/diff-streams.ts";
export {
  type RamDifference,
  type RamPages,
  type RamRange,
  readWithRam,
} from "./inspect/diff/diff-ram.ts";
export { type FieldLayout, type Layout, parseDump, type VmstateDump } from "./inspect/check/dump-vmstate.ts";
export { reportJson } from "./inspect/show/report-json.ts";
export type * from "./inspect/model/stream-report.ts";
export { isFault, problemText } from "./inspect/model/problems.ts";
export { fieldAt, sectionsNamed } from "./inspect/model/select.ts";
export { type ByteSource, bytesSource, piecesSource } from "./inspect/read/byte-source.ts";
export { type PageVisitor, readStream, type ReadOptions } from "./inspect/read/read-stream.ts";
export { overview, problemLines, sectionText, valueText } from "./inspect/show/report-text.ts";
export type { Channel } from "./stream/channel.ts";
export { MigrationError, type MigrationPlace } from "./stream/migration-error.ts";
export { decodeIntegrity, type IntegrityTable, type Unit, type UnitRange } from "./stream/integrity.ts";
export type { RamPageKind } from "./stream/ram-records.ts";
export type { StreamCursor } from "./stream/stream-cursor.ts";
export type { FaultCode, StreamFault } from "./stream/stream-fault.ts";
export { StreamReader } from "./stream/stream-reader.ts";
export { type Pace, StreamWriter } from "./stream/stream-writer.ts";
export type {
  DescribedDevice,
  DescribedField,
  DescribedStruct,
  Description,
} from "./inspect/model/description.ts";
export { findDescription, type FoundDescription } from "./inspect/read/find-description.ts";
export { applyXbzrle } from "./stream/xbzrle.ts";
export * as wire from "./stream/wire.ts";
export * as schema from "./state/schema.ts";
