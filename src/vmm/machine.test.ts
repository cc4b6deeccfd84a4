import { expect, test } from "vitest";
import type { AcceleratorVm } from "../accelerator/accelerator.ts";
import { Machine, type SynchronizeHooks } from "./machine.ts";

/** A machine whose hooks only record their calls; `pauseAll` takes 20 ms. */
function recorded(): { machine: Machine; log: string[] } {
  const log: string[] = [];
  const note = (what: string) => () => void log.push(what);
  const cpus: SynchronizeHooks = {
    synchronizeAllStates: async () => note("states")(),
    synchronizeAllPreLoad: note("pre-load"),
    synchronizeAllPostInit: note("post-init"),
    synchronizeAllPostReset: note("post-reset"),
    resetAll: note("reset-cpus"),
    resumeAll: note("resume"),
    pauseAll: async () => {
      log.push("pausing");
      await new Promise((resolve) => setTimeout(resolve, 20));
      log.push("paused");
    },
  };
  const clock = { start: note("clock-start"), stop: note("clock-stop") };
  const vm = { clock, resetIrqchip: note("reset-irqchip") } as unknown as AcceleratorVm;
  return { machine: new Machine({ name: "test", vm, memory: {} as never, cpus }), log };
}

test("init, reset: every state is synchronised before, and written back afterwards by its one hook", async () => {
  const { machine, log } = recorded();
  await machine.initialize();
  expect(log).toEqual(["states", "reset-irqchip", "reset-cpus", "post-init"]);
  log.length = 0;
  await machine.start();
  await machine.reset();
  expect(log).toEqual([
    ...["clock-start", "resume", "pausing", "paused"],
    ...["states", "reset-irqchip", "reset-cpus", "post-reset", "resume"],
  ]);
});

test("start, stop and reset wait for each other", async () => {
  const { machine, log } = recorded();
  await machine.start();
  log.length = 0;
  await Promise.all([machine.reset(true), machine.stop(), machine.start()]);
  expect(log).toEqual([
    ...["pausing", "paused", "states", "reset-irqchip", "reset-cpus", "post-reset", "resume"],
    ...["pausing", "paused", "clock-stop", "clock-start", "resume"],
  ]);
  expect(machine.runState.current).toBe("running");
});

test("a user cannot reset a machine that is saved or moved, whose guest still can", async () => {
  const { machine, log } = recorded();
  machine.startBlocker = "it is being saved";
  await expect(machine.reset()).rejects.toMatchObject({
    code: "machine.reset",
    message: "it is being saved",
  });
  expect(log).toEqual([]);
  await machine.stop("save-vm");
  await machine.reset(true);
  expect(machine.runState.current).toBe("save-vm");
});

test.each(["paused", "shutdown", "io-error"] as const)(
  "a reset of a %s machine leaves it to be started",
  async (state) => {
    const { machine } = recorded();
    await machine.start();
    await machine.stop(state);
    await machine.reset();
    expect(machine.runState.current).toBe("prelaunch");
  },
);

test("a failing start does not block the next", async () => {
  const { machine } = recorded();
  machine.startBlocker = "it is incoming";
  await expect(machine.start()).rejects.toThrow("it is incoming");
  machine.startBlocker = undefined;
  await machine.start();
  expect(machine.runState.running).toBe(true);
});
