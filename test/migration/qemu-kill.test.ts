// Either side of a move with QEMU killed at a random moment of the rounds (WHERRY_FULL=1: more of them): the
// source's machine resumes, unless the source died; a destination that has not received all never runs.
// What happens at each byte of the handover is in qemu-protocol.test.ts.
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { fresh, ISA, isInstalled, LIMIT_MS, qemu, reaches, statusOf, wherry } from "./opensbi.ts";
import { until } from "../support/wait.ts";
import { seed } from "../support/seed.ts";
import { random } from "../support/random.ts";

const next = random(seed);
const moments = Array.from({ length: process.env["WHERRY_FULL"] === "1" ? 20 : 2 }, () => next());
/**
 * OpenSBI and its data are half a megabyte: a move takes eight seconds, so it is under way in the first two.
 */
const BANDWIDTH = 64 * 1024;
const WITHIN_MS = 2000;

/** A machine that moves from Wherry to a QEMU, so slowly that it is still under way at that moment. */
async function movingToQemu(moment: number) {
  const uri = `unix:${fresh("stream")}`;
  const source = await wherry(ISA);
  const destination = await qemu(["-incoming", uri]);
  await source.qmp.execute("migrate-set-parameters", { "max-bandwidth": BANDWIDTH });
  await source.qmp.execute("migrate", { uri, "x-wherry-profile": "qemu-7.2" });
  await reaches(source.qmp, "active", "query-migrate");
  await sleep(moment * WITHIN_MS);
  expect(await statusOf(source.qmp, "query-migrate")).toBe("active");
  return { source, destination };
}

describe.runIf(isInstalled())("killed", { timeout: 2 * LIMIT_MS }, () => {
  test.each(moments)("QEMU, which the machine moves to, at %d", async (moment) => {
    const { source, destination } = await movingToQemu(moment);
    await destination.end();
    await reaches(source.qmp, "failed", "query-migrate");
    await reaches(source.qmp, "running");
  });

  test.each(moments)("QEMU, which the machine comes from, at %d", async (moment) => {
    const uri = `unix:${fresh("stream")}`;
    const source = await qemu();
    await reaches(source, "running");
    const destination = await wherry(["--incoming", uri]);
    await source.execute("migrate-set-parameters", { "max-bandwidth": BANDWIDTH });
    await source.execute("migrate", { uri });
    await reaches(destination.qmp, "active", "query-migrate");
    await sleep(moment * WITHIN_MS);
    expect(await statusOf(source, "query-migrate")).toBe("active");
    await source.end();
    // Its process ends, since its machine can never run.
    await destination.exited;
  });

  test.each(moments)("Wherry, which the machine moves to, at %d", async (moment) => {
    const uri = `unix:${fresh("stream")}`;
    const source = await qemu();
    await reaches(source, "running");
    const destination = await wherry(["--incoming", uri]);
    await source.execute("migrate-set-parameters", { "max-bandwidth": BANDWIDTH });
    await source.execute("migrate", { uri });
    await reaches(source, "active", "query-migrate");
    await sleep(moment * WITHIN_MS);
    expect(await statusOf(source, "query-migrate")).toBe("active");
    process.kill(destination.pid as number, "SIGKILL");
    await reaches(source, "failed", "query-migrate");
    await reaches(source, "running");
  });

  test.each(moments)("Wherry, which the machine comes from, at %d", async (moment) => {
    const { source, destination } = await movingToQemu(moment);
    process.kill(source.pid as number, "SIGKILL");
    await until(LIMIT_MS, "QEMU gives up", async () =>
      statusOf(destination).then(
        () => false,
        () => true,
      ),
    );
  });
});
