// The closure of dependencies on small archives.
import { describe, expect, it } from "vitest";
import { type Candidate, parseDependencies, Resolver } from "./dependencies.ts";

type Fields = Partial<Record<Parameters<Candidate["field"]>[0] | "Version", string>>;

function resolve(archive: Record<string, Fields>, ...wanted: string[]): string[] {
  const packages = Object.entries(archive).map(([name, fields]): [string, Candidate] => [
    name,
    { name, version: fields.Version ?? "1", field: (field) => fields[field] },
  ]);
  return new Resolver(new Map(packages)).resolve(wanted).map(({ name }) => name);
}

it("reads dependencies", () => {
  expect(parseDependencies("libc6 (>= 2.38), a:any | b (<< 1:2~), perl:any (= 5)")).toEqual([
    [{ name: "libc6", relation: ">=", version: "2.38" }],
    [{ name: "a" }, { name: "b", relation: "<<", version: "1:2~" }],
    [{ name: "perl", relation: "=", version: "5" }],
  ]);
  expect(parseDependencies(undefined)).toEqual([]);
  expect(() => parseDependencies("libc6 (~> 2)")).toThrow(expect.objectContaining({ code: "guest.index" }));
});

describe("a choice", () => {
  it("takes what is needed, dependencies first", () => {
    const archive = { a: { Depends: "b, c", "Pre-Depends": "d" }, b: {}, c: { Depends: "b" }, d: {}, e: {} };
    expect(resolve(archive, "a")).toEqual(["d", "b", "c", "a"]);
  });

  it("takes the first alternative that exists", () => {
    expect(resolve({ a: { Depends: "none | b | c" }, b: {}, c: {} }, "a")).toEqual(["b", "a"]);
  });

  it("takes an alternative that is wanted anyway", () => {
    expect(resolve({ a: { Depends: "b | c" }, b: {}, c: {} }, "a", "c")).toEqual(["c", "a"]);
  });

  it("takes a version that fits", () => {
    const archive = { a: { Depends: "b (>= 2) | c (>= 2)" }, b: { Version: "1.9" }, c: { Version: "2.0-1" } };
    expect(resolve(archive, "a")).toEqual(["c", "a"]);
  });

  it("takes a provider of a virtual package", () => {
    const archive = { a: { Depends: "mta" }, exim: { Provides: "mta" }, postfix: { Provides: "mta, smtp" } };
    expect(resolve(archive, "a")).toEqual(["exim", "a"]);
    expect(resolve(archive, "a", "postfix")).toEqual(["postfix", "a"]);
  });

  it("compares a version with that of Provides", () => {
    const archive = {
      a: { Depends: "v (>= 2)" },
      none: { Provides: "v" },
      old: { Provides: "v (= 1)" },
      good: { Provides: "v (= 3)" },
    };
    expect(resolve(archive, "a")).toEqual(["good", "a"]);
  });

  it("ends with a cycle", () => {
    const archive = { a: { Depends: "b" }, b: { Depends: "c" }, c: { Depends: "a" } };
    expect(resolve(archive, "a").toSorted()).toEqual(["a", "b", "c"]);
  });

  it("goes back over an alternative that conflicts later", () => {
    const archive = { a: { Depends: "b | c, d" }, b: {}, c: {}, d: { Conflicts: "b" } };
    expect(resolve(archive, "a")).toEqual(["c", "d", "a"]);
    const breaks = { a: { Depends: "b | c, d" }, b: {}, c: {}, d: { Breaks: "b (<< 2)" } };
    expect(resolve(breaks, "a")).toEqual(["c", "d", "a"]);
  });

  it("is no conflict with itself", () => {
    const archive = { a: { Provides: "v", Conflicts: "v" }, b: { Breaks: "a (<< 1)" } };
    expect(resolve(archive, "a", "b")).toEqual(["a", "b"]);
  });
});

describe("a refusal says why", () => {
  it("an unknown package, with the nearest name", () => {
    expect(() => resolve({ python3: {} }, "pyhton3")).toThrow(
      expect.objectContaining({
        code: "guest.package",
        message: expect.stringContaining("did you mean python3?"),
      }),
    );
  });

  it("a dependency that nothing satisfies", () => {
    expect(() => resolve({ a: { Depends: "b (>= 2)" }, b: {} }, "a")).toThrow(
      expect.objectContaining({
        code: "guest.dependency",
        message: expect.stringContaining("b (>= 2), and a needs it"),
      }),
    );
  });

  it("packages that conflict", () => {
    const archive = { a: { Conflicts: "v" }, b: { Provides: "v" }, c: { Depends: "b" } };
    expect(() => resolve(archive, "a", "c")).toThrow(
      expect.objectContaining({
        code: "guest.dependency",
        message: expect.stringContaining("a conflicts with v"),
      }),
    );
  });

  it("in bounded time, however many choices there are", () => {
    const choices = Array.from({ length: 60 }, (_, n) => [`x${n}`, { Depends: `y${n} | z${n}` }] as const);
    const leaves = choices.flatMap(
      (_, n) =>
        [
          [`y${n}`, {}],
          [`z${n}`, {}],
        ] as const,
    );
    const archive = {
      ...Object.fromEntries([...choices, ...leaves]),
      bad: { Depends: "none" },
      late: { Depends: "bad" },
    };
    expect(() => resolve(archive, ...choices.map(([name]) => name), "late")).toThrow(
      expect.objectContaining({ code: "guest.dependency" }),
    );
  });
});
