import { expect, test } from "vitest";
import { defaultEnvironment, type MigrationEnvironment } from "../environment/migration-environment.ts";
import { Bandwidth, Convergence } from "./move-progress.ts";
import { RateLimiter } from "./rate-limit.ts";

test("bandwidth is measured over windows; before the first, over the time so far", () => {
  const bandwidth = new Bandwidth(1000);
  expect(bandwidth.at(1010, 5000)).toBe(500);
  bandwidth.sample(1020, 10_000);
  bandwidth.sample(1050, 50_000);
  expect(bandwidth.at(1050, 50_000)).toBe(1000);
  bandwidth.sample(1150, 250_000);
  expect(bandwidth.at(1150, 250_000)).toBe(1500);
});

test("advice appears after rounds without progress and disappears with progress", () => {
  const convergence = new Convergence(2);
  expect(convergence.round(1000, 300, 10)).toBeUndefined();
  expect(convergence.round(1200, 300, 10)).toBeUndefined();
  expect(convergence.round(1000, 300, 10)).toMatch(/raise downtime-limit \(now 300 ms\) to 409600 ms/);
  expect(convergence.round(900, 300, 10)).toBeUndefined();
});

test("the rate limit delays writes, follows a change, and allows only a short burst", async () => {
  let now = 0;
  const environment: MigrationEnvironment = {
    ...defaultEnvironment,
    nowMs: () => now,
    setTimer: (ms, fire) => {
      now += ms;
      queueMicrotask(fire);
      return { cancel: () => {} };
    },
  };
  const limiter = new RateLimiter(environment);
  const take = (bytes: number, rate: number) =>
    limiter.take(
      bytes,
      () => rate,
      () => {},
    );
  for (let i = 0; i < 10; i++) await take(1000, 10_000);
  expect(now).toBeCloseTo(900, 0);
  await take(1000, 0);
  expect(now).toBeCloseTo(900, 0);
  now += 100_000;
  const before = now;
  for (let i = 0; i < 12; i++) await take(1000, 10_000);
  expect(now - before).toBeCloseTo(1000, 0);
  const cancelled = limiter.take(
    1000,
    () => 1,
    () => {
      throw new Error("cancelled");
    },
  );
  await expect(cancelled).rejects.toThrow("cancelled");
});
