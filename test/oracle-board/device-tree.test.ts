// Our device tree against that of the installed QEMU: the same nodes and properties, with phandles resolved,
// except for the differences that src/machines/boot/virt-fdt.ts states.
import { expect, it } from "vitest";
import { EXTENSION_NAMES } from "../../src/riscv/extensions.ts";
import { type FdtNode, writeFdt } from "../../src/machines/boot/fdt.ts";
import { virtFdt } from "../../src/machines/boot/virt-fdt.ts";
import { MIB } from "../../src/machines/boot/virt-map.ts";
import { noOracle, qemuDeviceTree } from "./qemu-board.ts";
import { readFdt } from "../support/read-fdt.ts";

/** The cells of a property that are phandles: their position within an entry of `stride` cells. */
const PHANDLES: Record<string, { stride: number; at: number }> = {
  "interrupt-parent": { stride: 1, at: 0 },
  "interrupts-extended": { stride: 2, at: 0 },
  "interrupt-map": { stride: 6, at: 4 },
  regmap: { stride: 1, at: 0 },
  cpu: { stride: 1, at: 0 },
};

/** Every property by path, with each phandle replaced by the path of its node. */
function flatten(root: FdtNode): Map<string, string> {
  const named = new Map<number, string>();
  const out = new Map<string, string>();
  const visit = (node: FdtNode, path: string, use: (node: FdtNode, path: string) => void): void => {
    use(node, path);
    for (const child of node.children) visit(child, `${path}/${child.name}`, use);
  };
  visit(root, "", (node, path) => {
    const phandle = node.cells("phandle")?.[0];
    if (phandle !== undefined) named.set(phandle, path);
  });
  visit(root, "", (node, path) => {
    out.set(`${path}/`, "");
    for (const [key, value] of node.properties) {
      if (key === "phandle") continue;
      const phandles = PHANDLES[key];
      const cells = phandles === undefined ? undefined : node.cells(key);
      const text =
        cells === undefined || phandles === undefined
          ? Buffer.from(value).toString("hex")
          : cells.map((c, i) => (i % phandles.stride === phandles.at ? named.get(c) : c)).join(" ");
      out.set(`${path}/${key}`, text);
    }
  });
  return out;
}

/** True for an intended difference from QEMU 7.2. */
function isStated(path: string): boolean {
  return (
    /^\/cpus\/cpu@\d+\/(riscv,isa|riscv,isa-base|riscv,isa-extensions|riscv,cbo[mz]-block-size|mmu-type)$/.test(
      path,
    ) ||
    /^\/(pmu|platform-bus@4000000|soc\/rng@f000)\//.test(path) ||
    path === "/soc/plic@c000000/riscv,ndev" ||
    path === "/chosen/rng-seed"
  );
}

for (const harts of [1, 4]) {
  it.skipIf(noOracle)(`is QEMU's with ${harts} harts, but for what is stated`, () => {
    const append = "console=ttyS0 quiet";
    const theirs = flatten(readFdt(qemuDeviceTree(append, ["-smp", `${harts}`, "-m", "512M"])));
    const tree = virtFdt({
      harts,
      memorySize: 512 * MIB,
      isaExtensions: EXTENSION_NAMES,
      timebaseHz: 10_000_000,
      mmuType: "riscv,sv57",
      builtinFirmware: false,
      bootargs: append,
      rngSeed: new Uint8Array(32),
    });
    const ours = flatten(readFdt(writeFdt(tree)));
    const differences: string[] = [];
    for (const path of new Set([...ours.keys(), ...theirs.keys()])) {
      if (ours.get(path) === theirs.get(path) || isStated(path)) continue;
      differences.push(`${path}: ours ${ours.get(path)}, QEMU's ${theirs.get(path)}`);
    }
    expect(differences).toEqual([]);
    expect(theirs.size).toBeGreaterThan(100);
  });
}

it("shows a guest of the built-in firmware nothing of machine mode", () => {
  const options = {
    harts: 2,
    memorySize: 512 * MIB,
    isaExtensions: ["i"],
    mmuType: "riscv,sv57",
    timebaseHz: 10_000_000,
  };
  const tree = virtFdt({ ...options, builtinFirmware: true });
  expect(tree.find("/soc/clint@2000000")).toBeUndefined();
  const plic = tree.find("/soc/plic@c000000")?.cells("interrupts-extended") ?? [];
  expect(plic.filter((_, i) => i % 2 === 1)).toEqual([0xffffffff, 9, 0xffffffff, 9]);
});
