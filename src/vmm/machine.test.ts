import { expect, test } from "vitest";
import type { AcceleratorVm } from "../accelerator/accelerator.ts";
import { Machine, type SynchronizeHooks } from "./machine.ts";

/** A machine whose hooks only write down when they ran; `pauseAll` takes a while. */
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

test("init, reset: every state is synchronised before, and written back by its one hook after", async () => {
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

test("one that fails does not hold up the next", async () => {
  const { machine } = recorded();
  machine.startBlocker = "it arrives";
  await expect(machine.start()).rejects.toThrow("it arrives");
  machine.startBlocker = undefined;
  await machine.start();
  expect(machine.runState.running).toBe(true);
});
