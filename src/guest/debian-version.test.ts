// Versions as dpkg --compare-versions orders them.
import { describe, expect, it } from "vitest";
import { compareVersions, satisfies } from "./debian-version.ts";

describe("compareVersions", () => {
  const ascending = [
    "0~~",
    "0~~a",
    "0~",
    "0",
    "0a",
    "0+",
    "1.0~beta1~svn1245",
    "1.0~beta1",
    "1.0~rc1",
    "1.0",
    "1.0-0+b1",
    "1.0-1",
    "1.0-1+deb13u1",
    "1.0.1",
    "1.2",
    "1.10",
    "10",
    "1:0.1",
    "2:0~",
  ];
  it.each(ascending.map((older, n) => [older, ascending.slice(n + 1)] as const))(
    "%s is older",
    (older, rest) => {
      for (const newer of rest) {
        expect(compareVersions(older, newer), newer).toBeLessThan(0);
        expect(compareVersions(newer, older), newer).toBeGreaterThan(0);
      }
    },
  );

  it("the same", () => {
    expect(compareVersions("1.0", "1.0")).toBe(0);
    expect(compareVersions("1.0", "0:1.0")).toBe(0);
    expect(compareVersions("1.0", "1.0-0")).toBe(0);
    expect(compareVersions("1.00", "1.0")).toBe(0);
    expect(compareVersions("12345678901234567890123", "12345678901234567890124")).toBeLessThan(0);
  });
});

it("relations", () => {
  expect(satisfies("1.5", ">=", "1.5")).toBe(true);
  expect(satisfies("1.5", ">>", "1.5")).toBe(false);
  expect(satisfies("1.5~rc1", "<<", "1.5")).toBe(true);
  expect(satisfies("1.5", "<=", "1.5-1")).toBe(true);
  expect(satisfies("1.5", "=", "1.5-1")).toBe(false);
});
