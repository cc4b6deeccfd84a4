import { expect, test } from "vitest";
import { defaultEnvironment, type MigrationEnvironment } from "../environment/migration-environment.ts";
import { defaultParameters } from "./outgoing-move.ts";
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

const limits = { downtimeLimitMs: 300, maxBandwidthBytesPerSecond: 10_000 };

test("advice appears after rounds without progress and disappears with progress", () => {
  const convergence = new Convergence(2);
  expect(convergence.round(1000, 2, 10, limits)).toBeUndefined();
  expect(convergence.round(1200, 2, 10, limits)).toBeUndefined();
  expect(convergence.round(1000, 2, 10, limits)).toMatch(
    /dirties 8\.2 MB\/s, 0\.0 MB\/s are sent.*raise max-bandwidth \(now 10000 .*downtime-limit \(now 300 ms\) to 409600 ms/,
  );
  expect(convergence.round(900, 2, 10, limits)).toBeUndefined();
});

test("a number of dirty pages that varies is no progress: 13 rounds at 30 MB/s are advised on", () => {
  const convergence = new Convergence(defaultParameters.patienceRounds);
  const rate = { downtimeLimitMs: 300, maxBandwidthBytesPerSecond: 30 << 20 };
  const dirty = [9000, 7900, 7700, 7650, 7600, 7900, 7580, 7550, 7700, 7540, 7530, 7520, 7510];
  const advice = dirty.map((pages) => convergence.round(pages, 8, 31_000, rate) !== undefined);
  expect(advice).toEqual(dirty.map((_, round) => round >= 3));
});

test("advice names what holds the move back", () => {
  const stuck = (bytesPerMs: number, maxBandwidthBytesPerSecond: number) => {
    const convergence = new Convergence(1);
    convergence.round(1000, 2, bytesPerMs, limits);
    return convergence.round(1000, 2, bytesPerMs, { ...limits, maxBandwidthBytesPerSecond });
  };
  expect(stuck(30_000, 30_000_000)).toMatch(/raise max-bandwidth/);
  expect(stuck(10_000, 30_000_000)).toMatch(/use a faster network/);
  expect(stuck(10_000, 0)).toMatch(/use a faster network/);
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
