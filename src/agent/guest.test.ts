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

const realTime = (ms: number, fire: () => void) => {
  const timer = setTimeout(fire, ms);
  return { cancel: () => clearTimeout(timer) };
};

/** Reads until the text is there. */
async function until(output: AsyncGenerator<Uint8Array>, wanted: string): Promise<string> {
  for (let text = ""; ; ) {
    const { value, done } = await output.next();
    if (done === true) throw new Error(`the end before ${wanted}: ${JSON.stringify(text)}`);
    text += new TextDecoder().decode(value);
    if (text.includes(wanted)) return text;
  }
}

test("a command on a terminal: its size, keys, signals, exit code", async () => {
  const guest = new Guest(hostAgent(), realTime);
  const start = { cwd: "/usr", env: { WORD: "it's" }, pty: { cols: 91, rows: 33 } };
  const shell = await guest.spawn("sh", {
    ...start,
    args: ["-c", 'stty size; pwd; echo "$WORD $TERM"; exec sh'],
  });
  const output = shell.output("out");
  expect(await until(output, "xterm")).toContain("33 91\r\n/usr\r\nit's xterm-256color\r\n");
  await shell.resize(100, 40);
  await shell.write(new TextEncoder().encode("stty size; sleep 1000; echo after $?\n"));
  expect(await until(output, "40 100\r\n")).toContain("stty size; sleep");
  // Ctrl-C interrupts what runs, not the shell.
  await new Promise((resolve) => setTimeout(resolve, 300));
  await shell.write(Uint8Array.of(3));
  await until(output, "^C");
  await shell.write(new TextEncoder().encode("exit 5\n"));
  expect(await shell.exitCode).toBe(5);
  await expect(shell.resize(0, 1)).rejects.toMatchObject({ code: "agent.argument" });
  await shell.close();

  const killed = await guest.spawn("sh", { args: ["-c", "sleep 1000; true"], pty: { cols: 80, rows: 24 } });
  await killed.resize(80, 25);
  await killed.kill();
  expect(await killed.exitCode).toBe(143);
  await killed.close();
  await expect(guest.spawn("sh", { pty: { cols: 80, rows: 1.5 } })).rejects.toMatchObject({
    code: "agent.argument",
  });
  const plain = await guest.spawn("true");
  await expect(plain.resize(80, 24)).rejects.toMatchObject({ code: "agent.argument" });
  await plain.close();
});

test("input that the command does not read waits in the guest, whole and in order", async () => {
  const guest = new Guest(hostAgent(), realTime);
  const late = await guest.spawn("sh", { args: ["-c", "sleep 1; cat"] });
  const pieces = Array.from({ length: 40 }, (_, i) => new Uint8Array(4096).fill(i));
  const written = (async () => {
    for (const piece of pieces) await late.write(piece);
    await late.endInput();
  })();
  let got = Buffer.alloc(0);
  for await (const piece of late.output("out")) got = Buffer.concat([got, piece]);
  await written;
  expect(Buffer.compare(got, Buffer.concat(pieces))).toBe(0);
  await late.close();
});
