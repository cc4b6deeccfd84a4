// Where package.json is, from each place that the module may be in.
import { expect, test } from "vitest";
import { packageOf } from "./package-version.ts";

test.each([
  ["file:///home/u/src/wherry/dist/node/channels/package-version.js", "file:///home/u/src/wherry/"],
  ["file:///home/u/dist/wherry/src/node/channels/package-version.ts", "file:///home/u/dist/wherry/"],
  ["file:///p/node_modules/wherry/dist/bundle/wherry-shared-a1.js", "file:///p/node_modules/wherry/"],
])("%s is a module of the package in %s", (module, directory) => {
  expect(packageOf(module)).toBe(directory);
});
