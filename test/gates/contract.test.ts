// The contract suite fails on a device with state outside its schema, and on one that a bad load changes.
import { afterEach, describe, expect, it } from "vitest";
import { type PlantedCopy, plantedCopy } from "../support/planted-copy.ts";

let copy: PlantedCopy | undefined;
afterEach(() => copy?.remove());

const device = (body: string, decode: string): string => `
import { ByteReader } from "../../src/base/bytes.ts";
import { defineState, u8 } from "../../src/state/schema.ts";
import { stateSection } from "../../src/state/section.ts";
import { contractSuite } from "./contract.ts";
const definition = defineState("planted", { version: 1 }, { level: u8.range(0, 7), mode: u8 });
class Planted {
  readonly state = definition.create();
  ${body}
}
contractSuite("planted", () => {
  const device = new Planted();
  const section = stateSection(definition, device.state, { idstr: "planted" });
  const decode = (reader: ByteReader, version: number) => { ${decode} };
  return { device, sections: [{ ...section, decode }] };
}, { arrange: ({ device }) => { device.state.level = 3; }, refuses: ["level"] });
`;
const decodeWell = "return section.decode(reader, version);";

function runPlanted(text: string): { status: number | null; output: string } {
  copy = plantedCopy([
    "tsconfig.base.json",
    "src/base",
    "src/state",
    "test/contract/contract.ts",
    "test/contract/golden.ts",
  ]);
  copy.plant("test/contract/fixtures/planted/planted_0.v1.hex", "0300\n");
  copy.plant("test/contract/planted.test.ts", text);
  return copy.run("vitest", "run", "--no-color", "--reporter=verbose", "test/contract/planted.test.ts");
}

describe("the contract suite", () => {
  it("passes a device that keeps it", () => {
    const { status, output } = runPlanted(
      device("readonly #wiring = 1; get wired() { return this.#wiring; }", decodeWell),
    );
    expect(output).toContain("9 passed");
    expect(status).toBe(0);
  });

  it("fails a device with an unlisted property", () => {
    const { status, output } = runPlanted(device("counter = 0;", decodeWell));
    expect(output).toMatch(/× .*has no state outside its schema/);
    expect(output).toMatch(/1 failed/);
    expect(status).not.toBe(0);
  });

  it("fails a device that changes before its load is applied", () => {
    const { status, output } = runPlanted(
      device("", "device.state.level = reader.peekU8() ?? 0; return section.decode(reader, version);"),
    );
    expect(output).toMatch(/× .*changes only when the load is applied/);
    expect(output).toMatch(/× .*refuses truncation at any byte/);
    expect(status).not.toBe(0);
  });

  it("fails a device whose bytes have changed", () => {
    const { status, output } = runPlanted(
      device("", decodeWell).replace("mode: u8", "mode: u16").replaceAll("u8 }", "u8, u16 }"),
    );
    expect(output).toMatch(/× .*has its golden bytes/);
    expect(output).toMatch(/× .*loads the fixtures of older versions/);
    expect(status).not.toBe(0);
  });
});
