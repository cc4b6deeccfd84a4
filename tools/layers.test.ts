// The layers are what docs/architecture.md draws, and an import against each wall between two rooms fails to
// compile.
import { readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import {
  cycles,
  draw,
  graphOf,
  reachable,
  readRooms,
  type Room,
  shapeProblems,
  sizeProblems,
} from "./layers.ts";
import { type PlantedCopy, plantedCopy } from "../test/support/planted-copy.ts";

const ROOT = join(import.meta.dirname, "..");
const rooms = readRooms(join(ROOT, "src"));
/** The entry points import every room; nothing imports them. */
const inner = rooms.filter(({ name }) => name !== "");

const plantedIn = ({ name }: Room): string => `src/${name}/planted.ts`;
const graph = graphOf(rooms);
const wallsOf = (room: Room): Room[] =>
  inner.filter((other) => other !== room && !reachable(graph, room.name).has(other.name));

let copy: PlantedCopy | undefined;
afterEach(() => copy?.remove());

describe("the rooms", () => {
  it("are those that docs/architecture.md draws", () => {
    const document = readFileSync(join(ROOT, "docs/architecture.md"), "utf8");
    expect(document).toContain("<!-- layers: all -->");
    expect(document).toContain("<!-- layers: hypervisor -->");
    expect(draw(document, rooms)).toBe(document);
  });
  it("have no cycle", () => {
    expect(cycles(graph)).toEqual([]);
    const circle = { a: ["b"], b: ["c"], c: ["a"] };
    expect(cycles(new Map(Object.entries(circle).map(([name, next]) => [name, new Set(next)])))).toEqual([
      "a → b → c → a",
    ]);
  });
  it("have sources, and none of their sub-rooms'", () => {
    expect(shapeProblems(rooms)).toEqual([]);
    const room = (name: string, files: string[], pattern: string): Room => {
      return { name, references: [], files, lines: 1, include: [pattern] };
    };
    expect(shapeProblems([room("a", ["a/b.ts"], "./**/*.ts"), room("a/c", [], "./*.ts")])).toEqual([
      "src/a/tsconfig.json: ./**/*.ts takes in src/a/c: include ./*.ts",
      "src/a/c/tsconfig.json: a project without sources: remove it",
    ]);
  });
  it("have at most 3,000 lines without their sub-rooms", () => {
    expect(sizeProblems(rooms)).toEqual([]);
    expect(
      sizeProblems([{ name: "a", references: [], files: ["a/b.ts"], lines: 3001, include: [] }]),
    ).toEqual(["src/a: 3001 lines, at most 3000: cut it into sub-rooms"]);
  });
});

describe("an import against a wall", () => {
  it("fails to compile, in each room, for each room that it does not reach", () => {
    const rooms = inner.map(({ name }) => name);
    copy = plantedCopy(["tsconfig.base.json", ...rooms.map((name) => `src/${name}/tsconfig.json`)]);
    copy.plant(
      "tsconfig.json",
      JSON.stringify({ files: [], references: rooms.map((name) => ({ path: `src/${name}` })) }),
    );
    // The walls are the tsconfig.json files: one type in each room is enough to try them.
    for (const name of rooms) copy.plant(`src/${name}/wall.ts`, "export type Wall = 1;\n");
    expect(copy.run("tsc", "-b")).toMatchObject({ status: 0, output: "" });
    for (const room of inner) {
      const lines = wallsOf(room).map(({ name }, i) => {
        const path = relative(room.name, `${name}/wall.ts`);
        return `export type { Wall as Wall${i} } from "${path.startsWith(".") ? path : `./${path}`}";\n`;
      });
      copy.plant(plantedIn(room), lines.join(""));
    }
    const { status, output } = copy.run("tsc", "-b", "--pretty", "false");
    const refused = new Set(
      [...output.matchAll(/^(\S+)\((\d+),\d+\): error TS6307/gm)].map(([, file, line]) => `${file}:${line}`),
    );
    const open = inner.flatMap((room) =>
      wallsOf(room)
        .filter((_, i) => !refused.has(`${plantedIn(room)}:${i + 1}`))
        .map((wall) => `src/${room.name} can import src/${wall.name}`),
    );
    expect(open).toEqual([]);
    expect(status).not.toBe(0);
  });
});
