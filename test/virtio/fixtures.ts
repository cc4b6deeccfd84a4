// Sections that QEMU 7.2 saved after the scenarios (made by test/virtio/make-fixtures.ts).
import { readFileSync } from "node:fs";

interface Fixture {
  readonly idstr: string;
  readonly version: number;
  readonly bytes: Uint8Array;
}

/** Hex with runs: `00*16384` is that many zero bytes. */
function unpacked(text: string): Uint8Array {
  const parts = text.split(" ").map((part) => {
    const [hex = "", count] = part.split("*");
    return Buffer.from(count === undefined ? hex : hex.repeat(Number(count)), "hex");
  });
  return new Uint8Array(Buffer.concat(parts));
}

const file = JSON.parse(readFileSync(new URL("./fixtures/qemu-virtio.json", import.meta.url), "utf8")) as {
  fixtures: Record<string, { idstr: string; version: number; bytes: string }>;
};

export function qemuFixture(name: string): Fixture {
  const found = file.fixtures[name];
  if (found === undefined) throw new Error(`no fixture ${name}: run test/virtio/make-fixtures.ts`);
  return { ...found, bytes: unpacked(found.bytes) };
}
