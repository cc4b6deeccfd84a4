// The agent's client against a scripted agent: sync, order, time-outs, restarts, garbage, bounded memory.
import { describe, expect, it } from "vitest";
import { decodeUtf8, encodeUtf8 } from "../base/text.ts";
import { AgentClient } from "./agent-client.ts";
import { Guest } from "./guest.ts";

const setTimer = (ms: number, fire: () => void) => {
  const timer = setTimeout(fire, ms);
  return { cancel: () => clearTimeout(timer) };
};

/** An agent in the guest; `answer` returns its reply to a command, or undefined for none. */
class FakeAgent {
  readonly client = new AgentClient(setTimer);
  readonly heard: string[] = [];
  answer: (command: string, args: Record<string, unknown>) => string | undefined;
  #text = "";

  constructor(answer: FakeAgent["answer"] = (command) => `{"return": "${command}"}\n`) {
    this.answer = answer;
    this.client.backend.onReadable(() => this.#look());
  }
  open(isOpen = true): void {
    this.client.backend.guestConnected?.(isOpen);
    if (isOpen) this.#look();
  }
  send(text: string | Uint8Array): void {
    this.client.backend.write(typeof text === "string" ? encodeUtf8(text) : text);
  }
  #look(): void {
    if (!this.client.isOpen) return;
    setImmediate(() => {
      for (
        let bytes = this.client.backend.read(100);
        bytes.length > 0;
        bytes = this.client.backend.read(100)
      ) {
        const at = bytes.lastIndexOf(0xff);
        if (at >= 0) {
          this.#text = "";
          this.send('{"error": {"class": "GenericError", "desc": "JSON parse error"}}\n');
        }
        this.#text += decodeUtf8(bytes.subarray(at + 1));
      }
      const lines = this.#text.split("\n");
      this.#text = lines.pop() ?? "";
      for (const line of lines) {
        const { execute, arguments: args } = JSON.parse(line) as {
          execute: string;
          arguments: { id: number };
        };
        this.heard.push(execute);
        const reply =
          execute === "guest-sync-delimited" ? `\u00ff{"return": ${args.id}}\n` : this.answer(execute, args);
        if (reply !== undefined) this.send(Uint8Array.from(reply, (c) => c.charCodeAt(0)));
      }
    });
  }
}

const code = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "none",
    (error: { code: string }) => error.code,
  );

describe("commands", () => {
  it("wait for an agent, go one after the other, and are answered in pieces of any size", async () => {
    const agent = new FakeAgent();
    const results = Promise.all(["a", "b", "c"].map((name) => agent.client.execute(name)));
    agent.send('what a getty might print\n{"return": 1}\n');
    agent.open();
    expect(await results).toEqual(["a", "b", "c"]);
    expect(agent.heard).toEqual(["guest-sync-delimited", "a", "b", "c"]);
    agent.answer = () => {
      for (const c of '{"return": {"x": "\\u00fc"}}\n') agent.send(c);
      return undefined;
    };
    expect(await agent.client.execute("d")).toEqual({ x: "ü" });
  });

  it("that fail say so, each with its code", async () => {
    const agent = new FakeAgent(() => '{"error": {"class": "GenericError", "desc": "no such file"}}\n');
    expect(await code(agent.client.execute("a", {}, { waitMs: 20 }))).toBe("agent.unavailable");
    agent.open();
    await expect(agent.client.execute("a")).rejects.toThrow("refuses a: no such file");
    agent.answer = () => undefined;
    expect(await code(agent.client.execute("b", {}, { timeoutMs: 20 }))).toBe("agent.timeout");
    // The late answer belongs to no other command: the next one syncs first.
    agent.send('{"return": "late"}\n');
    agent.answer = () => '{"return": "right"}\n';
    expect(await agent.client.execute("c")).toBe("right");
    agent.answer = () => "garbage\n";
    expect(await code(agent.client.execute("d"))).toBe("agent.protocol");
    agent.answer = () => "[1]\n";
    expect(await code(agent.client.execute("e"))).toBe("agent.protocol");
    agent.answer = () => {
      agent.send('{"return": "ha');
      agent.open(false);
      return undefined;
    };
    expect(await code(agent.client.execute("f"))).toBe("agent.restarted");
    agent.open();
    agent.answer = () => '{"return": "again"}\n';
    expect(await agent.client.execute("g")).toBe("again");
    const abort = new AbortController();
    agent.answer = () => undefined;
    const aborted = code(agent.client.execute("h", {}, { signal: abort.signal, timeoutMs: 30 }));
    const queued = code(agent.client.execute("i", {}, { signal: abort.signal }));
    abort.abort();
    expect([await aborted, await queued]).toEqual(["agent.aborted", "agent.aborted"]);
    const last = code(agent.client.execute("j", {}, { timeoutMs: 60_000 }));
    agent.client.close();
    expect([await last, await code(agent.client.execute("k"))]).toEqual(["agent.closed", "agent.closed"]);
  });

  it("keep no more of an endless reply than a limit, and nothing that nobody waits for", async () => {
    const agent = new FakeAgent();
    agent.open();
    await agent.client.execute("a");
    const piece = new Uint8Array(1 << 20).fill(0x20);
    agent.answer = () => {
      for (let i = 0; i < 70; i++) agent.send(piece);
      return undefined;
    };
    expect(await code(agent.client.execute("b"))).toBe("agent.protocol");
    agent.send("\n");
    agent.answer = () => '{"return": 5}\n';
    expect(await agent.client.execute("c")).toBe(5);
  });
});

describe("replies of the wrong shape end in agent.protocol", () => {
  const bad = [
    "null",
    '"text"',
    "[]",
    "5",
    "{}",
    '{"pid": "7"}',
    '{"pid": 7, "exited": 1}',
    '{"exited": true, "exitcode": "0"}',
    '{"exited": true, "out-data": "%%%"}',
    '{"count": -1}',
    '{"count": 1e99}',
    '{"buf-b64": 5, "eof": true}',
  ];
  it.each(bad)("%s", async (value) => {
    const agent = new FakeAgent(() => `{"return": ${value}}\n`);
    agent.open();
    const guest = new Guest(agent.client, setTimer);
    const found = await Promise.all([
      code(guest.status(7)),
      code(guest.read(1)),
      code(guest.write(1, Uint8Array.of(1))),
    ]);
    for (const one of found) expect(["agent.protocol", "none"]).toContain(one);
    expect(found).toContain("agent.protocol");
  });
});
