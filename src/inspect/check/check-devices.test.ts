// Registers of devices and CPUs that must be equal: PCI config space, Arm's system registers; in generated
// streams.
import { describe, expect, test } from "vitest";
import type { ByteWriter } from "../../base/bytes.ts";
import { PAGE, StreamBuilder } from "../../../test/support/stream-builder.ts";
import { systemRegisterProblems } from "./check-arm.ts";
import { pciProblems } from "./check-pci.ts";
import { bytesSource } from "../read/byte-source.ts";
import { readStream } from "../read/read-stream.ts";

function stream(add: (stream: StreamBuilder) => void) {
  const builder = new StreamBuilder().configuration("pc-q35-9.0").ramStart({ "pc.ram": PAGE });
  add(builder.ramPart(() => {}, 3));
  return readStream(bytesSource(builder.end()));
}

/** A device with MSI-X at 0x40. */
function pci(change: (config: DataView) => void = () => {}) {
  const bytes = new Uint8Array(256);
  const config = new DataView(bytes.buffer);
  config.setUint16(0, 0x1af4, true);
  config.setUint16(2, 0x1000, true);
  config.setUint16(6, 0x10, true);
  config.setUint8(0x34, 0x40);
  config.setUint16(0x40, 0x0011, true);
  config.setUint16(0x42, 3, true);
  config.setUint32(0x44, 4, true);
  change(config);
  const fields = [{ name: "config", type: "pci config", size: 256 }];
  return stream((to) => to.device(7, "0000:00:03.0/dev", { fields }, (out) => void out.bytes(bytes)));
}

describe("PCI config space", () => {
  test("registers that the guest writes may differ", async () => {
    const source = await pci((config) => {
      config.setUint16(4, 7, true); // command
      config.setUint32(0x10, 0xfeb00000, true); // a BAR
      config.setUint8(0x3c, 11); // interrupt line
      config.setUint16(0x42, 0x8003, true); // MSI-X is on
    });
    expect(pciProblems(source, await pci())).toEqual([]);
  });
  test("ids, capabilities and the number of vectors may not", async () => {
    const id = pciProblems(await pci((config) => config.setUint16(2, 0x1041, true)), await pci());
    expect(id).toMatchObject([{ code: "check.pci-config", expected: "0x1000", found: "0x1041" }]);
    expect(id[0]?.where).toBe("section 0000:00:03.0/dev/0, config space, device_id");
    const vectors = pciProblems(await pci((config) => config.setUint16(0x42, 0x8001, true)), await pci());
    expect(vectors).toMatchObject([{ expected: "0x3", found: "0x1" }]);
    expect(vectors[0]?.where).toMatch(/MSI-X.*vectors - 1/);
    const none = pciProblems(await pci((config) => config.setUint8(0x34, 0)), await pci());
    expect(none[0]?.where).toMatch(/and \d more registers/);
  });
});

describe("Arm's system registers", () => {
  const cpu = (...registers: bigint[]) =>
    stream((to) => {
      const array = { type: "uint64", size: 8, array_len: registers.length };
      const fields = [
        { name: "cpreg_vmstate_indexes", ...array },
        { name: "cpreg_vmstate_values", ...array },
      ];
      to.device(7, "cpu", { fields }, (out: ByteWriter) => {
        for (const register of registers) out.u64(register);
        for (const register of registers) out.u64(register & 0xffn);
      });
    });
  test("those that only the target has are accepted; those that only the stream has are refused, by name", async () => {
    const [few, many] = [
      await cpu(0x6030_0000_0013_c080n, 1n),
      await cpu(0x6030_0000_0013_c080n, 1n, 2n, 3n),
    ];
    expect(systemRegisterProblems(few, many)).toEqual([]);
    expect(systemRegisterProblems(many, few)).toMatchObject([
      { code: "check.arm-register", where: "section cpu/0, system registers" },
    ]);
    expect(systemRegisterProblems(many, few)[0]?.found).toMatch(/^0x2.*, 0x3/);
  });
});
