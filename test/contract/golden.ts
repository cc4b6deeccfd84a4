// Golden bytes of sections: test/contract/fixtures/<device>/<section>.v<version>.hex, runs of one byte folded
// to `00*4096`. Committed; written only with WHERRY_GOLDEN=write, which does not touch older versions.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const FIXTURES = join(import.meta.dirname, "fixtures");
const LINE = 32;
const FOLD = 16;

export interface GoldenBytes {
  readonly version: number;
  readonly bytes: Uint8Array;
}

function fold(bytes: Uint8Array): string {
  const lines: string[] = [];
  let plain = "";
  const flush = (): void => {
    for (let i = 0; i < plain.length; i += 2 * LINE) lines.push(plain.slice(i, i + 2 * LINE));
    plain = "";
  };
  for (let i = 0; i < bytes.length; ) {
    const byte = bytes[i] as number;
    const end = bytes.findIndex((b, j) => j > i && b !== byte);
    const run = (end < 0 ? bytes.length : end) - i;
    const text = byte.toString(16).padStart(2, "0");
    if (run < FOLD) plain += text.repeat(run);
    else {
      flush();
      lines.push(`${text}*${run}`);
    }
    i += run;
  }
  flush();
  return `${lines.join("\n")}\n`;
}

function unfold(text: string): Uint8Array {
  const plain = text.split("\n").map((line) => {
    const [byte = "", count] = line.split("*");
    return count === undefined ? byte : byte.repeat(Number(count));
  });
  return new Uint8Array(Buffer.from(plain.join(""), "hex"));
}

function stem(device: string, idstr: string, instanceId: number): string {
  return join(device, `${idstr.replaceAll(/[^\w.-]+/g, "_")}_${instanceId}`);
}

/** All committed versions of a section's bytes, the oldest first. */
export function readGolden(device: string, idstr: string, instanceId: number): GoldenBytes[] {
  const path = join(FIXTURES, stem(device, idstr, instanceId));
  const prefix = `${path.slice(dirname(path).length + 1)}.v`;
  let names: string[] = [];
  try {
    names = readdirSync(dirname(path)).filter((name) => name.startsWith(prefix) && name.endsWith(".hex"));
  } catch {
    // No fixture of this device yet.
  }
  return names
    .map((name) => ({
      version: Number(name.slice(prefix.length, -".hex".length)),
      bytes: unfold(readFileSync(join(dirname(path), name), "utf8")),
    }))
    .sort((a, b) => a.version - b.version);
}

export function writeGolden(device: string, idstr: string, instanceId: number, golden: GoldenBytes): void {
  const path = join(FIXTURES, `${stem(device, idstr, instanceId)}.v${golden.version}.hex`);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, fold(golden.bytes));
}
