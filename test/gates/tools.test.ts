// Each tool of `npm run lint`, and the compiler as the keeper of the layers, fails on a planted violation.
import { afterEach, describe, expect, it } from "vitest";
import { type PlantedCopy, plantedCopy } from "../support/planted-copy.ts";

let copy: PlantedCopy | undefined;
afterEach(() => copy?.remove());

const base = ["tsconfig.base.json", "src/base/tsconfig.json", "src/base/errors.ts"];

describe("layers: tsc -b", () => {
  it.each([
    [
      "an upward import",
      'import { MIG_PRI } from "../state/section.ts";\nexport const a = MIG_PRI;\n',
      /TS6307/,
    ],
    [
      "a type-only upward import",
      'import type { Section } from "../state/section.ts";\nexport type A = Section;\n',
      /TS6307/,
    ],
    [
      "an import of Node",
      'import { readFileSync } from "node:fs";\nexport const a = readFileSync;\n',
      /TS2\d{3}/,
    ],
    ["a Node global", "export const a = process.argv;\n", /TS2\d{3}/],
    ["the DOM", "export const a = document;\n", /TS2\d{3}/],
  ])("refuses %s in a lower layer", (_what, text, error) => {
    copy = plantedCopy([...base, "src/state", "src/base"]);
    expect(copy.run("tsc", "-b", "--force", "src/base")).toMatchObject({ status: 0, output: "" });
    copy.plant("src/base/planted.ts", text);
    const { status, output } = copy.run("tsc", "-b", "--force", "src/base");
    expect(output).toMatch(error);
    expect(output).toContain("src/base/planted.ts");
    expect(status).not.toBe(0);
  });

  it("refuses an import between siblings", () => {
    copy = plantedCopy(["tsconfig.base.json", "src/base", "src/state", "src/memory", "src/wasm"]);
    copy.plant("src/memory/planted.ts", 'import { u8 } from "../state/schema.ts";\nexport const a = u8;\n');
    const { status, output } = copy.run("tsc", "-b", "--force", "src/memory");
    expect(output).toMatch(/src\/memory\/planted\.ts.*TS6307/);
    expect(status).not.toBe(0);
  });
});

describe("oxlint", () => {
  it("refuses a promise that nobody waits for", () => {
    copy = plantedCopy([...base, ".oxlintrc.json"]);
    expect(copy.run("oxlint", "--type-aware", "src").status).toBe(0);
    copy.plant(
      "src/base/planted.ts",
      "async function work(): Promise<void> {}\nexport function go(): void {\n  work();\n}\n",
    );
    const { status, output } = copy.run("oxlint", "--type-aware", "src");
    expect(output).toMatch(/no-floating-promises/);
    expect(status).not.toBe(0);
  });
});

describe("biome", () => {
  it("refuses a file that is not formatted", () => {
    copy = plantedCopy(["biome.json", "src/base/errors.ts"]);
    copy.plant("package.json", "{}\n");
    expect(copy.run("biome", "format", ".").status).toBe(0);
    copy.plant("src/base/planted.ts", "export const a = { b:1 }\n");
    const { status, output } = copy.run("biome", "format", ".");
    expect(output).toContain("planted.ts");
    expect(status).not.toBe(0);
  });
});

describe("knip", () => {
  it("refuses a file and an export that nobody uses", () => {
    copy = plantedCopy([...base, "knip.json"]);
    copy.plant("tsconfig.json", '{ "files": [], "references": [{ "path": "src/base" }] }\n');
    copy.plant("src/cli/main.ts", 'import { used } from "../base/planted.ts";\nused();\n');
    copy.plant("src/base/planted.ts", "export function used(): void {}\nexport function unused(): void {}\n");
    const { status, output } = copy.run("knip");
    expect(output).toMatch(/unused +function +src\/base\/planted\.ts/);
    expect(output).toContain("src/base/errors.ts");
    expect(status).not.toBe(0);
  });

  it("--production refuses an export that only tests use, unless a tool needs it", () => {
    copy = plantedCopy([...base, "knip.json"]);
    copy.plant("tsconfig.json", '{ "files": [], "references": [{ "path": "src/base" }] }\n');
    copy.plant("src/cli/main.ts", 'import { used } from "../base/planted.ts";\nused();\n');
    copy.plant(
      "src/base/planted.ts",
      "export function used(): void {}\nexport function tested(): void {}\n/** @fortools */\nexport function dumped(): void {}\n",
    );
    copy.plant(
      "test/planted.test.ts",
      'import { dumped, tested } from "../src/base/planted.ts";\ntested();\ndumped();\n',
    );
    expect(copy.run("knip").output).not.toMatch(/tested/);
    const { status, output } = copy.run("knip", "--production", "--exclude", "binaries", "--tags=-fortools");
    expect(output).toMatch(/tested +function +src\/base\/planted\.ts/);
    expect(output).not.toMatch(/dumped +function/);
    expect(status).not.toBe(0);
  });
});
