// A peer that stands still is noticed after the limit, however many waits there are; one that moves is not.
import { expect, test } from "vitest";
import { defaultEnvironment, type MigrationEnvironment } from "./migration-environment.ts";
import { StallWatch } from "./stall-watch.ts";

/** Time that passes when the test says so. */
function fakeTime(): { environment: MigrationEnvironment; pass: (ms: number) => Promise<void> } {
  const timers = new Map<() => void, number>();
  let now = 0;
  const environment: MigrationEnvironment = {
    ...defaultEnvironment,
    nowMs: () => now,
    setTimer: (ms, fire) => {
      timers.set(fire, now + ms);
      return { cancel: () => void timers.delete(fire) };
    },
  };
  const pass = async (ms: number) => {
    const end = now + ms;
    for (;;) {
      const next = [...timers].sort((a, b) => a[1] - b[1])[0];
      if (next === undefined || next[1] > end) break;
      [, now] = next;
      timers.delete(next[0]);
      next[0]();
      await defaultEnvironment.yieldToEventLoop();
    }
    now = end;
  };
  return { environment, pass };
}

const never = () => new Promise<never>(() => {});

test("a wait that nothing ends is rejected after the limit, and says what was waited for", async () => {
  const { environment, pass } = fakeTime();
  const watch = new StallWatch(environment, "destination", () => 30_000);
  const wait = watch.during(never(), "has accepted no data").catch((error: Error) => error.message);
  expect(watch.report(5000)).toBeUndefined();
  await pass(6000);
  expect(watch.report(5000)).toMatch(/^the destination has accepted no data for 6 s: its process is stopped/);
  await pass(24_000);
  expect(await wait).toMatch(/for 30 s/);
  expect(watch.report(0)).toMatch(/for 0 s/);
});

test("any progress counts for all waits", async () => {
  const { environment, pass } = fakeTime();
  const watch = new StallWatch(environment, "source", () => 1000);
  let failed = 0;
  watch.during(never(), "has sent nothing").catch(() => failed++);
  for (let i = 0; i < 10; i++) {
    await pass(900);
    await watch.during(Promise.resolve(), "has sent nothing");
  }
  expect(failed).toBe(0);
  await pass(1100);
  expect(failed).toBe(1);
});

test("limit 0 is no limit, and a limit may be set while something is waited for", async () => {
  const { environment, pass } = fakeTime();
  let limit = 0;
  const watch = new StallWatch(environment, "source", () => limit);
  let failed = 0;
  watch.during(never(), "has sent nothing").catch(() => failed++);
  await pass(1_000_000);
  expect(failed).toBe(0);
  limit = 2000;
  await pass(1000);
  expect(failed).toBe(1);
});

test("a process that was itself stopped finds the bytes that came meanwhile", async () => {
  const { environment, pass } = fakeTime();
  const watch = new StallWatch(environment, "source", () => 1000);
  let arrive: () => void = () => {};
  const wait = watch.during(new Promise<void>((resolve) => (arrive = resolve)), "has sent nothing");
  // However late a tick comes, it is one.
  await pass(50);
  arrive();
  await expect(wait).resolves.toBeUndefined();
  await pass(10_000);
  expect(watch.stalledMs).toBe(0);
});
