// fw_cfg as firmware uses it: selector and data registers, and DMA.
import { beforeEach, expect, it } from "vitest";
import { guestMemory, RAM_BASE } from "../../test/support/guest-memory.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { FW_CFG_FILE_DIR, FwCfg } from "./fw-cfg.ts";

let memory: GuestMemory;
let fwCfg: FwCfg;

beforeEach(() => {
  memory = guestMemory();
  fwCfg = new FwCfg(memory);
  fwCfg.addFile("etc/one", Uint8Array.of(1, 2, 3));
  fwCfg.addFile("etc/two", Uint8Array.of(9));
});

const select = (key: number): void => fwCfg.write(8, 2, ((key & 0xff) << 8) | (key >> 8));
const take = (n: number): Uint8Array => Uint8Array.from({ length: n }, () => fwCfg.read(0, 1));
const swap = (value: number): number => Buffer.from(Uint32Array.of(value).buffer).readUInt32BE();

function dma(control: number, length: number, address: number): number {
  const access = Buffer.alloc(16);
  access.writeUInt32BE(control >>> 0, 0);
  access.writeUInt32BE(length, 4);
  access.writeBigUInt64BE(BigInt(address), 8);
  memory.write(RAM_BASE, access);
  fwCfg.write(0x10, 4, 0);
  fwCfg.write(0x14, 4, swap(RAM_BASE));
  const after = new Uint8Array(4);
  memory.read(RAM_BASE, after);
  return Buffer.from(after).readUInt32BE();
}

it("returns its signature at any width, and zeros past the end", () => {
  select(0);
  expect(Buffer.from(take(6)).toString()).toBe("QEMU\0\0");
  select(0);
  expect(fwCfg.read(0, 4)).toBe(0x554d4551);
  expect(fwCfg.read(0x10, 4)).toBe(0x554d4551);
  expect(fwCfg.read(0x14, 4)).toBe(0x47464320);
  select(0x1fff);
  expect([...take(2)]).toEqual([0, 0]);
});

it("lists its files", () => {
  select(FW_CFG_FILE_DIR);
  const directory = Buffer.from(take(4 + 2 * 64));
  expect(directory.readUInt32BE(0)).toBe(2);
  expect(directory.readUInt32BE(4)).toBe(3);
  const key = directory.readUInt16BE(8);
  expect(directory.toString("latin1", 12, 19)).toBe("etc/one");
  select(key);
  expect([...take(3)]).toEqual([1, 2, 3]);
});

it("reads by DMA, selects and skips", () => {
  expect(dma((0x20 << 16) | 0x08 | 0x04, 1, 0)).toBe(0);
  expect(dma(0x02, 4, RAM_BASE + 0x1000)).toBe(0);
  const got = new Uint8Array(4);
  memory.read(RAM_BASE + 0x1000, got);
  expect([...got]).toEqual([2, 3, 0, 0]);
});

it("sets the error bit for DMA outside memory and for writes, and ignores a control structure outside memory", () => {
  expect(dma((0x20 << 16) | 0x08 | 0x02, 4, 0x1234)).toBe(1);
  expect(dma((0x20 << 16) | 0x08 | 0x02, 0xffff_ffff, RAM_BASE + 0x1000)).toBe(1);
  expect(dma(0x10, 4, RAM_BASE)).toBe(1);
  fwCfg.write(0x10, 4, 0xffff_ffff);
  fwCfg.write(0x14, 4, 0xffff_ffff);
  expect(fwCfg.state.dmaAddr).toBe(0n);
});
