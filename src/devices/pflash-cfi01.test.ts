// The flash's command set, as a driver probes, programs and erases.
import { beforeEach, expect, it } from "vitest";
import { PflashCfi01, PFLASH_SECTOR_SIZE } from "./pflash-cfi01.ts";

const bytes = new Uint8Array(32 << 20);
let direct: boolean;
let flash: PflashCfi01;

beforeEach(() => {
  bytes.fill(0, 0, 2 * PFLASH_SECTOR_SIZE);
  direct = true;
  flash = new PflashCfi01({
    size: bytes.length,
    read: (offset) => bytes[offset] as number,
    write: (offset, data) => bytes.set(data, offset),
    setDirectRead: (on) => {
      direct = on;
    },
  });
});

const command = (value: number, offset = 0): void => flash.write(offset, 4, value | (value << 16));

it("answers a CFI query and an identification on both chips", () => {
  command(0x98, 0x55 * 4);
  expect(direct).toBe(false);
  expect([0x10, 0x11, 0x12].map((i) => flash.read(4 * i, 4))).toEqual([0x510051, 0x520052, 0x590059]);
  expect(flash.read(4 * 0x27, 4)).toBe(0x180018);
  expect(flash.read(4 * 0x1000, 4)).toBe(0);
  command(0xff);
  expect(direct).toBe(true);
  command(0x90);
  expect([flash.read(0, 4), flash.read(4, 4), flash.read(5, 1)]).toEqual([0x890089, 0x180018, 0x18]);
});

it("programs words and buffers, and erases sectors", () => {
  command(0x40);
  flash.write(0x10, 4, 0x12345678);
  expect(flash.read(0, 4)).toBe(0x800080);
  command(0xff);
  expect(flash.read(0x10, 4)).toBe(0x12345678);
  command(0xe8, 0x100);
  command(1, 0x100);
  flash.write(0x100, 4, 0x11111111);
  flash.write(0x104, 4, 0x22222222);
  command(0xd0, 0x100);
  command(0xff);
  expect(flash.read(0x104, 4)).toBe(0x22222222);
  command(0x20, PFLASH_SECTOR_SIZE + 0x40);
  command(0xd0, PFLASH_SECTOR_SIZE + 0x40);
  command(0xff);
  expect(flash.read(PFLASH_SECTOR_SIZE, 4)).toBe(0xffffffff);
  expect(flash.read(0x10, 4)).toBe(0x12345678);
});

it("is read directly again after a reset, and after loading a state in read-array mode", () => {
  command(0x70);
  flash.reset();
  expect(direct).toBe(true);
  flash.state.cmd = 0x90;
  flash.afterLoad();
  expect(direct).toBe(false);
});
