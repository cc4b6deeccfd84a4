// Sections that QEMU 7.2.22 wrote for its virt board (two harts, started with -S) load here and are written
// back byte for byte. They were saved with `migrate exec:…`.
import { describe, expect, it } from "vitest";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { fwCfgState } from "../../src/devices/fw-cfg.ts";
import { goldfishRtcState } from "../../src/devices/goldfish-rtc.ts";
import { gpexRootState, pciBusState, pciHostState } from "../../src/devices/gpex-host.ts";
import { pflashState } from "../../src/devices/pflash-cfi01.ts";
import { serialState } from "../../src/devices/serial.ts";
import type { StateDefinition } from "../../src/state/schema.ts";

const zeros = (bytes: number): string => "00".repeat(bytes);

function roundTrip<T>(definition: StateDefinition<T>, hex: string): string {
  const reader = new ByteReader(new Uint8Array(Buffer.from(hex, "hex")));
  const state = definition.decode(reader, definition.version);
  expect(reader.remaining).toBe(0);
  const writer = new ByteWriter();
  definition.encode(state, writer);
  return Buffer.from(writer.finish()).toString("hex");
}

describe("a section of QEMU", () => {
  const sections: [string, string, (hex: string) => string][] = [
    ["serial", "000c000001000860b00000", (hex) => roundTrip(serialState, hex)],
    ["goldfish_rtc", `${zeros(32)}fffffffffc30c7c0`, (hex) => roundTrip(goldfishRtcState, hex)],
    ["pflash_cfi01", `000080${zeros(8)}`, (hex) => roundTrip(pflashState, hex)],
    [
      "fw_cfg",
      `000000000000050a${Buffer.from("fw_cfg/dma").toString("hex")}00000000${zeros(8)}`,
      (hex) => roundTrip(fwCfgState, hex),
    ],
    [
      "gpex_root",
      `00000002361b080000000000000000060000${zeros(30)}f41a0011${zeros(208)}${zeros(16)}`,
      (hex) => roundTrip(gpexRootState, hex),
    ],
    ["PCIHost", zeros(4), (hex) => roundTrip(pciHostState, hex)],
    ["PCIBUS", `00000004${zeros(16)}`, (hex) => roundTrip(pciBusState, hex)],
  ];
  it.each(sections)("%s", (_name, hex, through) => {
    expect(through(hex)).toBe(hex);
  });
});
