import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { requireNode } from "./node-version.ts";

const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  engines: { node: string };
};

test("refuses versions that package.json's engines exclude, and accepts the others", () => {
  const oldest = Number(/^>=(\d+)$/.exec(manifest.engines.node)?.[1]);
  expect(() => requireNode(`${oldest}.0.0`)).not.toThrow();
  expect(() => requireNode("100.0.0")).not.toThrow();
  expect(() => requireNode(`${oldest - 1}.99.9`)).toThrow(
    `this is Node ${oldest - 1}.99.9; Wherry needs Node ${oldest} or newer`,
  );
});
