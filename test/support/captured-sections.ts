// Virtio devices as QEMU 7.2 and 10.0 wrote them, one section each, without firmware or guest code, and
// QEMU's answers over QMP about each stopped device (x-query-virtio-status and -queue-status). Bytes are
// hexadecimal; `00ff*3` is 00ff three times.
import { readFileSync } from "node:fs";

export interface CapturedSection {
  readonly label: string;
  readonly idstr: string;
  readonly version: number;
  readonly vmsdName: string;
  readonly machine: string;
  readonly qmp: {
    readonly status: readonly string[];
    readonly features: readonly string[];
    /** State of the first queues. */
    readonly queues: readonly {
      readonly num: number;
      readonly desc: number;
      readonly avail: number;
      readonly used: number;
      readonly lastAvail: number;
    }[];
  };
  readonly bytes: Uint8Array;
}

function unpack(text: string): Uint8Array {
  const hex = text.split(" ").map((word) => {
    const [bytes = "", times = "1"] = word.split("*");
    return bytes.repeat(Number(times));
  });
  return new Uint8Array(Buffer.from(hex.join(""), "hex"));
}

export function capturedSections(): CapturedSection[] {
  const text = readFileSync(new URL("captured-sections.json", import.meta.url), "utf8");
  const sections = JSON.parse(text) as (Omit<CapturedSection, "bytes"> & { readonly bytes: string })[];
  return sections.map((section) => ({ ...section, bytes: unpack(section.bytes) }));
}
