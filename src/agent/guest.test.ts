// Commands in a guest whose agent never tells that they have ended, or whose shell is late.
import { expect, test } from "vitest";
import { hostAgent } from "../../test/support/host-agent.ts";
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
  const stopped = guest.shell("mkdir", [], { signal: AbortSignal.timeout(20) });
  await expect(stopped).rejects.toMatchObject({ code: "agent.aborted" });
  await expect(guest.shell("rm", [], { timeoutMs: 1000 })).rejects.toMatchObject({
    code: "agent.exec-timeout",
  });
  // Nobody asks any more.
  await new Promise((resolve) => setTimeout(resolve, 50));
  const before = asked;
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect([asked, pids]).toEqual([before, 8]);
});

test.each(["short input", ""])(
  "a command whose shell is late gets its input, and its end: %j",
  async (input) => {
    const late = hostAgent((script) => (script.includes("exec <") ? 0.3 : 0));
    const guest = new Guest(late, (ms, fire) => {
      const timer = setTimeout(fire, ms);
      return { cancel: () => clearTimeout(timer) };
    });
    let text = "";
    const onStdout = (piece: Uint8Array) => void (text += new TextDecoder().decode(piece));
    const result = await guest.exec("cat", { input, onStdout, timeoutMs: 10_000 });
    expect([result.exitCode, text]).toEqual([0, input]);
  },
);
