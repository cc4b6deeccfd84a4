// Device tree blobs: written, read back, truncated, and checked by dtc where it is installed.
import { spawnSync } from "node:child_process";
import { expect, it } from "vitest";
import { cells, cells64, empty, FdtNode, strings, writeFdt } from "./fdt.ts";
import { FdtError, readFdt } from "../../../test/support/read-fdt.ts";

function sample(): FdtNode {
  const root = new FdtNode("", { compatible: strings("a", "b"), "#address-cells": cells(2) });
  const soc = root.add("soc", { ranges: empty });
  soc.add("uart@10000000", { reg: cells64(0x10000000, 0x100), "odd-size": Uint8Array.of(1, 2, 3) });
  root.add("memory@80000000", { reg: cells64(0x80000000, 2 ** 33 + 4096) });
  return root;
}

it("reads what it writes", () => {
  const blob = writeFdt(sample(), 3);
  expect(new DataView(blob.buffer).getUint32(28)).toBe(3);
  const root = readFdt(blob);
  expect(root).toEqual(sample());
  expect(root.find("/soc/uart@10000000")?.cells("reg")).toEqual([0, 0x10000000, 0, 0x100]);
  expect(root.find("/memory@80000000")?.cells("reg")).toEqual([0, 0x80000000, 2, 4096]);
  expect(root.string("compatible")).toBe("a");
  expect(root.find("/soc/none")).toBeUndefined();
});

it("refuses a blob that is not a device tree or is truncated at any byte", () => {
  const blob = writeFdt(sample());
  for (let length = 0; length < blob.length; length++) {
    expect(() => readFdt(blob.subarray(0, length)), `${length}`).toThrow(FdtError);
  }
  expect(() => readFdt(Uint8Array.of(1, 2, 3, 4))).toThrow("expected 0xd00dfeed, found 0x1020304");
});

const dtc = spawnSync("dtc", ["--version"]).status === 0;
it.skipIf(!dtc)("is accepted by dtc", () => {
  const { status, stdout, stderr } = spawnSync("dtc", ["-I", "dtb", "-O", "dts"], {
    input: writeFdt(sample()),
  });
  expect(status, String(stderr)).toBe(0);
  expect(String(stdout)).toContain("uart@10000000 {");
});
