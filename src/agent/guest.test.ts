// Commands in a guest whose agent never tells that they have ended.
import { expect, test } from "vitest";
import type { Agent } from "./agent-client.ts";
import { Guest } from "./guest.ts";

const setTimer = (ms: number, fire: () => void) => {
  // Time passes 100 times as fast.
  const timer = setTimeout(fire, ms / 100);
  return { cancel: () => clearTimeout(timer) };
};

test("a time-out and an abort end the wait, although another process has the command's output", async () => {
  let asked = 0;
  let pids = 0;
  const agent: Agent = {
    async execute(command, args) {
      if (command === "guest-exec") return { pid: ++pids };
      asked++;
      return { exited: (args as { pid: number }).pid % 2 === 0, exitcode: 0 };
    },
  };
  const guest = new Guest(agent, setTimer);
  const late = guest.exec("daemon", { timeoutMs: 1000 });
  await expect(late).rejects.toMatchObject({ code: "agent.exec-timeout" });
  const abort = new AbortController();
  const aborted = guest.exec("daemon", { signal: abort.signal });
  setTimeout(() => abort.abort(), 20);
  await expect(aborted).rejects.toMatchObject({ code: "agent.aborted" });
  // Nobody asks any more.
  await new Promise((resolve) => setTimeout(resolve, 50));
  const before = asked;
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect([asked, pids]).toEqual([before, 4]);
});
