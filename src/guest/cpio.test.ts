// The newc archive, read by the test's own reader and, where installed, by cpio(1).
import { execFileSync } from "node:child_process";
import { expect, it } from "vitest";
import { type CpioEntry, cpio } from "./cpio.ts";

const entries: CpioEntry[] = [
  { name: "bin", type: "directory" },
  { name: "bin/a", type: "file", bytes: Buffer.from("hello"), executable: true },
  { name: "bin/b", type: "link", target: "a" },
  { name: "dev/console", type: "device", major: 5, minor: 1 },
  { name: "empty", type: "file", bytes: new Uint8Array() },
];

it("has every entry, padded to four bytes, and a trailer", () => {
  const archive = cpio(entries);
  const seen: unknown[] = [];
  for (let at = 0; ; ) {
    const field = (n: number): number =>
      Number.parseInt(archive.toString("latin1", at + 6 + n * 8, at + 14 + n * 8), 16);
    expect(archive.toString("latin1", at, at + 6)).toBe("070701");
    const name = archive.toString("utf8", at + 110, at + 110 + field(11) - 1);
    if (name === "TRAILER!!!") break;
    const data = (at + 110 + field(11) + 3) & ~3;
    seen.push([
      name,
      field(1).toString(8),
      archive.toString("utf8", data, data + field(6)),
      field(9),
      field(10),
    ]);
    at = (data + field(6) + 3) & ~3;
  }
  expect(seen).toEqual([
    ["bin", "40755", "", 0, 0],
    ["bin/a", "100755", "hello", 0, 0],
    ["bin/b", "120777", "a", 0, 0],
    ["dev/console", "20600", "", 5, 1],
    ["empty", "100644", "", 0, 0],
  ]);
  expect(archive.length % 4).toBe(0);
});

const CPIO = "cpio";

function cpioIsThere(): boolean {
  try {
    execFileSync(CPIO, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

it.runIf(cpioIsThere())("is read by cpio(1)", () => {
  const list = execFileSync(CPIO, ["-t"], { input: cpio(entries), stdio: ["pipe", "pipe", "ignore"] });
  expect(list.toString().trim().split("\n")).toEqual(entries.map((entry) => entry.name));
});
