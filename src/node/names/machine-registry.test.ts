// Names of machines: taken once, found, and free again when their process has ended.
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  isMachineName,
  machineNamed,
  machines,
  registerMachine,
  runtimeDirectory,
} from "./machine-registry.ts";

const before = process.env["XDG_RUNTIME_DIR"];
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "wherry-names-"));
  process.env["XDG_RUNTIME_DIR"] = directory;
});
afterEach(() => {
  if (before === undefined) delete process.env["XDG_RUNTIME_DIR"];
  else process.env["XDG_RUNTIME_DIR"] = before;
  rmSync(directory, { recursive: true });
});

const SIZE = { harts: 1, memoryBytes: 1 << 20 };

test("a name is taken once, and free again", () => {
  const web = registerMachine("web");
  web.publish(SIZE);
  expect(machineNamed("web")).toMatchObject({
    ...SIZE,
    pid: process.pid,
    qmp: join(directory, "wherry/web.qmp"),
  });
  expect(() => registerMachine("web")).toThrow(/named web runs already/);
  expect(() => machineNamed("db")).toThrow("no machine is named db; there are web");
  expect(() => machineNamed("../web")).toThrow(/no machine is named/);
  web.remove();
  expect(machines()).toEqual([]);
  registerMachine("web").publish(SIZE);
});

test("the entry of a process that has ended is removed, whatever its process id is now", async () => {
  registerMachine("web").publish(SIZE);
  const path = join(directory, "wherry/web.json");
  const entry = JSON.parse(readFileSync(path, "utf8")) as { identity: string };
  const other = { ...entry, identity: entry.identity.replace(/\d+$/, "1") };
  writeFileSync(path, JSON.stringify(other));
  expect(machines()).toEqual([]);
  expect(existsSync(path)).toBe(false);
  const child = spawn("true");
  const gone = child.pid;
  await new Promise((resolve) => child.on("close", resolve));
  writeFileSync(
    path,
    JSON.stringify({ ...entry, identity: entry.identity.replace(/\d+ (\d+)$/, `${gone} $1`) }),
  );
  expect(() => registerMachine("web").publish(SIZE)).not.toThrow();
});

test.for(["", "null", '{"name": "web"', '{"name": "web"}'])("a damaged entry is removed: %s", (text) => {
  const path = join(directory, "wherry/web.json");
  const [first, second] = [registerMachine("web"), registerMachine("web")];
  first.publish(SIZE);
  writeFileSync(path, text);
  expect(machines()).toEqual([]);
  expect(existsSync(path)).toBe(false);
  first.remove();
  second.publish(SIZE);
  expect(machines().map(({ name }) => name)).toEqual(["web"]);
  second.remove();
});

test("a directory that others can enter is refused; so are names that are addresses", () => {
  chmodSync(runtimeDirectory(), 0o755);
  expect(() => machines()).toThrow(/expected a directory that only user/);
  for (const name of ["", "a/b", "unix:x", ".x", "x".repeat(41)])
    expect(isMachineName(name), name).toBe(false);
  for (const name of ["web", "Web-1.2_3"]) expect(isMachineName(name), name).toBe(true);
});
