import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "vitest";
import { hasExited, ownIdentity } from "./process-identity.ts";

test("a running process is not gone; one that has ended is, and so is one whose PID was reused", async () => {
  const own = ownIdentity() as string;
  expect(hasExited(own)).toBe(false);
  const child = spawn("true");
  await once(child, "close");
  const [boot, space, , start] = own.split(" ");
  expect(hasExited([boot, space, child.pid, start].join(" "))).toBe(true);
  expect(hasExited([boot, space, process.pid, `${start}0`].join(" "))).toBe(true);
});

test("a process of another kernel or namespace, or an invalid identity, is not reported as gone", () => {
  const [boot, space, pid, start] = (ownIdentity() as string).split(" ");
  expect(hasExited([`${boot}0`, space, "1", start].join(" "))).toBe(false);
  expect(hasExited([boot, "pid:[1]", pid, "1"].join(" "))).toBe(false);
  expect(hasExited("")).toBe(false);
  expect(hasExited([boot, space, "../self", "1"].join(" "))).toBe(false);
});
