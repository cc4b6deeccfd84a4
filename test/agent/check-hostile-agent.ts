// `npm run check:hostile-agent`: an agent in the guest that answers with whatever it likes: broken and
// foreign JSON, wrong shapes, garbage, half replies, silence, a port that closes and opens. Every call must
// settle, with AgentError if it fails, and a proper agent afterwards must be understood.
//   --count N cases (default 20,000), --seed S, --planted: one that does not check a reply must be found
import { AgentClient } from "../../src/agent/agent-client.ts";
import { AgentError } from "../../src/agent/agent-error.ts";
import { Guest } from "../../src/agent/guest.ts";
import { options } from "../support/cases.ts";
import { Random } from "../support/random.ts";

const { seed, count, planted } = options({ count: 20_000, planted: false });
console.log(`check:hostile-agent --seed ${seed} --count ${count}`);
const random = new Random(seed);
const pick = <T>(list: readonly T[]): T => list[random.int(list.length)] as T;

/** Time passes when everybody waits: the next timer fires. */
class VirtualTime {
  now = 0;
  readonly #timers = new Set<{ at: number; fire: () => void }>();
  readonly setTimer = (ms: number, fire: () => void) => {
    const timer = { at: this.now + ms, fire };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  };
  /** Resolves when `work` has settled. */
  async until(work: Promise<unknown>): Promise<void> {
    let isSettled = false;
    const settled = (): void => {
      isSettled = true;
    };
    work.then(settled, settled);
    for (let steps = 0; ; steps++) {
      for (let i = 0; i < 30 && !isSettled; i++) await Promise.resolve();
      if (isSettled) return;
      if (this.#timers.size === 0) await new Promise((resolve) => setImmediate(resolve));
      const next = [...this.#timers].sort((a, b) => a.at - b.at)[0];
      if (next === undefined && steps < 20_000) continue;
      if (next === undefined || steps > 20_000) throw new Error("it waits for nothing, or for ever");
      this.#timers.delete(next);
      this.now = Math.max(this.now, next.at);
      next.fire();
    }
  }
}

const NUMBERS = ["0", "1", "-1", "7", "1e99", "4294967296", "0.5", "-0", "9007199254740993", "null"];
const TEXTS = [
  '""',
  '"x"',
  '"AAAA"',
  '"%%"',
  '"frozen"',
  '"\\u0000/../.."',
  '"81a4 5 0 0 1\\n"',
  `"${"A".repeat(1000)}"`,
];

function value(depth = 0): string {
  const kind = random.int(depth > 3 ? 4 : 7);
  if (kind === 0) return pick(NUMBERS);
  if (kind === 1) return pick(TEXTS);
  if (kind === 2) return pick(["true", "false", "null"]);
  if (kind === 3) return "[".repeat(random.int(50)) + "]".repeat(random.int(50));
  if (kind === 4) return `[${Array.from({ length: random.int(4) }, () => value(depth + 1)).join()}]`;
  const names = [
    ...["pid", "exited", "exitcode", "signal", "out-data", "err-data", "out-truncated", "count", "buf-b64"],
    ...["eof", "__proto__", "constructor", "return", "error", "desc", "class"],
  ];
  const members = Array.from({ length: random.int(7) }, () => `"${pick(names)}": ${value(depth + 1)}`);
  return `{${members.join()}}`;
}

/** What a proper agent says to a command, so that a caller goes on. */
const ANSWERS: Readonly<Record<string, string>> = {
  "guest-exec": '{"return": {"pid": 7}}',
  "guest-exec-status": '{"return": {"exited": true, "exitcode": 0, "out-data": "ZgBk"}}',
  "guest-file-open": '{"return": 5}',
  "guest-file-read": '{"return": {"count": 3, "buf-b64": "YWJj", "eof": true}}',
  "guest-file-write": '{"return": {"count": 1}}',
  "guest-file-close": '{"return": {}}',
};

/** And to others. */
const PROPER = [
  '{"return": 5}',
  '{"return": {}}',
  '{"return": "frozen"}',
  '{"return": {"pid": 7}}',
  '{"return": {"exited": false}}',
  '{"return": {"exited": true, "exitcode": 0}}',
  '{"return": {"exited": true, "signal": 9, "out-data": "ZgBk"}}',
  '{"return": {"count": 3, "buf-b64": "YWJj", "eof": true}}',
  '{"return": {"count": 1}}',
  '{"error": {"class": "GenericError", "desc": "no"}}',
];

class HostileAgent {
  readonly client: AgentClient;
  isProper = false;
  #syncId = "0";
  #command = "";

  constructor(time: VirtualTime) {
    this.client = new AgentClient(time.setTimer, () => time.now);
    this.client.backend.onReadable(() => {
      const request = Buffer.from(this.client.backend.read(1 << 20)).toString("latin1");
      this.#syncId = /"id":(\d+)/.exec(request)?.[1] ?? this.#syncId;
      this.#command = /"execute":"([\w-]+)"/.exec(request)?.[1] ?? "";
      const isSync = request.includes("guest-sync-delimited");
      if (request.includes("execute")) queueMicrotask(() => this.#reply(isSync));
    });
  }
  open(isOpen: boolean): void {
    this.client.backend.guestConnected?.(isOpen);
  }
  #send(text: string): void {
    const bytes = Buffer.from(text, "latin1");
    // In pieces, as the queue has them.
    for (let at = 0; at < bytes.length; ) {
      const end = at + 1 + random.int(bytes.length);
      this.client.backend.write(bytes.subarray(at, end));
      at = end;
    }
  }
  #reply(isSync: boolean): void {
    const sync = `\xff{"return": ${this.#syncId}}\n`;
    if (this.isProper) return this.#send(isSync ? sync : '{"return": "proper"}\n');
    if (isSync && random.int(4) > 0) return this.#send(sync);
    const proper = ANSWERS[this.#command];
    if (proper !== undefined && random.int(3) > 0) return this.#send(`${proper}\n`);
    const way = random.int(20);
    if (way === 0) return this.open(false);
    if (way === 1) return;
    if (way === 2) return this.#send(sync);
    if (way === 3)
      return this.#send(
        String.fromCharCode(...Array.from({ length: random.int(300) }, () => random.int(256))),
      );
    const text = way < 10 ? `{"return": ${value()}}` : way < 12 ? value() : pick(PROPER);
    const cut = random.int(10) === 0 ? text.slice(0, random.int(text.length)) : text;
    this.#send(`${random.int(10) === 0 ? text + "\n" : ""}${cut}${random.int(20) === 0 ? "" : "\n"}`);
  }
}

/** A fault of the kind that the check must find. */
async function unchecked({ agent }: Guest): Promise<string> {
  return ((await agent.execute("guest-exec")) as { pid: number }).pid.toFixed();
}

const codes = new Map<string, number>();

async function oneCase(): Promise<void> {
  const time = new VirtualTime();
  const agent = new HostileAgent(time);
  const guest = new Guest(agent.client, time.setTimer);
  agent.open(random.int(10) > 0);
  const calls: (() => Promise<unknown>)[] = [
    () => guest.exec("x", { timeoutMs: 1000 }),
    () => guest.exec("x", { timeoutMs: 1000, input: "y", onStdout: () => {} }),
    () => guest.status(7),
    () => guest.kill(7),
    () => guest.readFile("/x"),
    () => guest.writeFile("/x", "abc", { mode: 0o600 }),
    () => guest.readdir("/x"),
    () => guest.stat("/x"),
    () => guest.rm("/x"),
    () => guest.freeze(),
    () => guest.thaw(),
  ];
  // An endless process or file is no fault of ours: the agent lies for a while only.
  time.setTimer(5_000, () => {
    agent.isProper = true;
    agent.open(true);
  });
  const call = planted ? unchecked(guest) : pick(calls)();
  await time.until(call);
  const code = await call.then(
    () => "ok",
    (error: unknown) => {
      if (!(error instanceof AgentError)) throw error;
      return error.code;
    },
  );
  codes.set(code, (codes.get(code) ?? 0) + 1);
  agent.isProper = true;
  agent.open(true);
  const last = guest.agent.execute("guest-ping").catch(() => {});
  await time.until(last);
  // What was sent before may be taken for this answer only if nobody asked for a sync since.
  const again = guest.agent.execute("guest-ping");
  await time.until(again);
  const answer = await again;
  if (answer !== "proper") throw new Error(`a proper agent was heard to say ${JSON.stringify(answer)}`);
}

const began = performance.now();
let failed = "";
for (let i = 0; i < count && failed === ""; i++) {
  await oneCase().catch((error: unknown) => {
    failed = `case ${i}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
  });
}
const megabytes = process.memoryUsage().heapUsed >> 20;
console.log(
  [...codes]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([code, times]) => `${code} ${times}`)
    .join(", "),
);
console.log(`${((performance.now() - began) / 1000).toFixed(1)} s, ${megabytes} MiB of heap`);
if (planted) {
  console.log(failed === "" ? "the planted fault was not found" : "the planted fault was found");
  process.exit(failed === "" ? 1 : 0);
}
if (failed !== "") console.log(`FAILED: ${failed}`);
process.exit(failed === "" && megabytes < 500 ? 0 : 1);
