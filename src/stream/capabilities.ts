// Subsection `configuration/capabilities`, version 1: the capabilities that both sides must have on (x-ignore-shared and,
// since 9.0, mapped-ram; all others are not told). A count, then a counted string for each.
import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import { MigrationError } from "./migration-error.ts";

export const CAPABILITIES_SUBSECTION = "configuration/capabilities";
/** More than QEMU ever had. */
const MAX_CAPABILITIES = 256;

/** Throws MigrationError and EndOfBytes. */
export function decodeCapabilities(reader: ByteReader): string[] {
  const count = reader.u32();
  if (count > MAX_CAPABILITIES) {
    throw new MigrationError(
      "migration.capabilities",
      `${count} capabilities, at most ${MAX_CAPABILITIES} are believed`,
    );
  }
  return Array.from({ length: count }, () => reader.countedString());
}

export function encodeCapabilities(writer: ByteWriter, names: readonly string[]): void {
  writer.u32(names.length);
  for (const name of names) writer.countedString(name);
}
