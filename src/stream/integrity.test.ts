import { describe, expect, test } from "vitest";
import { ByteWriter } from "../base/bytes.ts";
import {
  checkIntegrityLength,
  decodeIntegrity,
  encodeIntegrity,
  integrityBody,
  UnitLog,
  verifyUnits,
} from "./integrity.ts";

function log(): UnitLog {
  const units = new UnitLog();
  units.close("configuration", 0, 17, 0x11);
  units.touch("ram0", 0x3000, 0x1000);
  units.touch("ram0", 0x1000, 0x1000);
  units.touch("rom", 0, 0x1000);
  units.close("ram", 0, 5000, 0x22);
  units.close("cpu", 3, 5100, 0x33);
  return units;
}

function encoded(units: UnitLog): Uint8Array {
  const writer = new ByteWriter();
  const body = integrityBody(new ByteWriter(), {
    units: units.units,
    vmdescLength: 9,
    vmdescHash: 0xffffffff,
  });
  encodeIntegrity(writer, body);
  return writer.finish().subarray(4);
}

describe("the integrity table", () => {
  test("decodes to what was encoded", () => {
    const table = decodeIntegrity(encoded(log()), 4);
    expect(table).toEqual({ units: log().units, vmdescLength: 9, vmdescHash: 0xffffffff });
    expect(table.units[1]?.ranges).toEqual([
      { block: "ram0", first: 0x1000, end: 0x4000 },
      { block: "rom", first: 0, end: 0x1000 },
    ]);
    verifyUnits(table.units, log().units);
  });

  test("detects every flipped bit in it", () => {
    const bytes = encoded(log());
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => decodeIntegrity(bytes, 4)).toThrow(/^section wherry\/integrity\/0 at offset 0x4: /);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
    for (const length of [0, 100, 0xffffffff])
      expect(() => checkIntegrityLength(length, 7)).toThrow(/0x7.*length/);
  });

  test("names the first unit that differs", () => {
    const differ = (change: (units: UnitLog) => void, start = log()) => {
      change(start);
      return () => verifyUnits(log().units, start.units);
    };
    expect(differ((u) => u.units.splice(1, 1, { ...u.units[1]!, hash: 1 }))).toThrow(
      /^RAM chunk 0 \(ram0 0x1000\.\.0x4000, rom 0x0\.\.0x1000\) at offset 0x11: .*hash 0x1, expected 0x22/,
    );
    expect(differ((u) => u.units.splice(2, 1, { ...u.units[2]!, hash: 1 }))).toThrow(
      /^section cpu\/3 at offset 0x1388/,
    );
    expect(differ((u) => u.units.pop())).toThrow(/^section cpu\/3.*found nothing more/);
    expect(differ((u) => u.close("uart", 0, 5200, 1))).toThrow(
      /expected nothing more, found section uart\/0/,
    );
    expect(differ((u) => u.units.splice(1, 1))).toThrow(/^RAM chunk 0.*found section cpu\/3/);
  });

  test("is short for long streams", () => {
    const units = new UnitLog();
    let at = 0;
    const terabyte = 2 ** 40;
    while (at < terabyte) {
      at += 65536 * 4;
      if (units.full(at)) units.close("ram", 0, at, 0);
    }
    expect(units.units.length).toBeLessThan(30_000);
    expect(units.units[0]?.length).toBe(1024 * 1024);
  });
});
