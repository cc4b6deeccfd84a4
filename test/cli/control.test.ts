// The commands as processes, against a monitor on a unix socket.
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { MigrationProgress } from "../../src/migration/save/move-progress.ts";
import { serveQmp } from "../../src/node/channels/qmp-server.ts";
import type { SocketServer } from "../../src/node/channels/socket-server.ts";
import { fakeMonitor } from "../support/fake-monitor.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

let directory: string;
let server: SocketServer;
let fake: ReturnType<typeof fakeMonitor>;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-cli-"));
  fake = fakeMonitor();
  server = await serveQmp({ kind: "unix", path: join(directory, "qmp") }, fake.monitor);
});
afterEach(async () => {
  await server.close();
  await rm(directory, { recursive: true });
});

const wherry = (...args: string[]) => wherryWith({}, ...args);

function wherryWith(
  env: NodeJS.ProcessEnv,
  ...args: string[]
): Promise<{ code: number | null; out: string; err: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [MAIN, ...args], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      cwd: directory,
    });
    let [out, err] = ["", ""];
    child.stdout.on("data", (text) => (out += text));
    child.stderr.on("data", (text) => (err += text));
    child.on("close", (code) => resolve({ code, out, err }));
  });
}
const control = (...args: string[]) => wherry(...args, "--qmp", "unix:qmp");

/** The result of the next move. */
function afterSetup(info: Partial<MigrationProgress>, ms: number): void {
  const { migration } = fake;
  migration.onChange((change) => {
    if (change.event === "status" && change.status === "setup") setTimeout(() => migration.set(info), ms);
  });
}

const sent = {
  transferredBytes: 3 << 20,
  multifdBytes: 0,
  remainingBytes: 0,
  normalPages: 5,
  zeroPages: 4,
  rounds: 2,
} as const;
const rates = { dirtyPagesPerSecond: 6, megabitsPerSecond: 7 } as const;

test("stop, cont, status, quit", async () => {
  expect(await control("cont")).toEqual({ code: 0, out: "", err: "" });
  expect((await control("status")).out).toBe("status: running\nharts: 2\nmemory: 512.0 MiB\n");
  expect((await control("stop")).code).toBe(0);
  expect((await control("status")).out).toContain("status: paused\n");
  expect((await control("quit")).code).toBe(0);
  expect(fake.quits()).toBe(1);
});

test("ssh goes to the forwarded port, which is added if there is none; its exit code is passed on", async () => {
  const forwards: string[] = ["tcp::8080-:80"];
  const user = {
    forwards,
    connections: [],
    forward: async (rule: string, isTransient?: boolean) => {
      expect(isTransient).toBe(true);
      forwards.push(rule.replace(":0-", ":40022-"));
    },
    unforward: () => false,
    ownGuest: undefined as string | null | undefined,
  };
  const bin = join(directory, "bin");
  await mkdir(bin);
  await writeFile(join(bin, "ssh"), '#!/bin/sh\necho "$@"\nexit 7\n', { mode: 0o755 });
  const path = `${bin}:${process.env["PATH"]}`;
  const refused = await wherryWith({ PATH: path }, "ssh", "unix:qmp");
  expect([refused.code, refused.err]).toEqual([
    1,
    "wherry: unix:qmp: user mode network stack not in use: ssh needs a machine with --net user (or switch:)\n",
  ]);
  const { monitor } = fakeMonitor({ network: user });
  const online = await serveQmp({ kind: "unix", path: join(directory, "net") }, monitor);
  const run = (env: NodeJS.ProcessEnv, ...args: string[]) => wherryWith(env, "ssh", "unix:net", ...args);
  const fixed = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";
  expect(await run({ PATH: path }, "--", "ls", "-l")).toEqual({
    code: 7,
    out: `${fixed} -p 40022 -l root -- 127.0.0.1 ls -l\n`,
    err: "",
  });
  expect(forwards).toEqual(["tcp::8080-:80", "tcp:127.0.0.1:40022-:22"]);
  expect((await run({ PATH: path }, "--port", "80", "--user", "me", "--identity", "key")).out).toBe(
    `${fixed} -o IdentitiesOnly=yes -i key -p 8080 -l me -- 127.0.0.1\n`,
  );
  // Of several guests on a switch, the machine's own.
  user.ownGuest = "10.0.2.16";
  expect((await run({ PATH: path }, "--port", "80")).out).toContain("-p 40022 ");
  expect(forwards[2]).toBe("tcp:127.0.0.1:40022-10.0.2.16:80");
  user.ownGuest = null;
  expect((await run({ PATH: path })).err).toContain("which guest of the switch it is is not known");
  user.ownGuest = undefined;
  for (const [state, why] of [
    ["inmigrate", "the guest has not arrived yet (inmigrate)"],
    ["postmigrate", "the guest has moved away: ask the machine that it moved to (postmigrate)"],
  ] as const) {
    const away = fakeMonitor({ network: user });
    if (state === "postmigrate") away.machine.runState.set("finish-migrate");
    away.machine.runState.set(state);
    const gone = await serveQmp({ kind: "unix", path: join(directory, state) }, away.monitor);
    const { code, err } = await wherryWith({ PATH: path }, "ssh", `unix:${state}`);
    expect([code, err]).toEqual([1, `wherry: unix:${state}: ${why}\n`]);
    await gone.close();
  }
  const without = await run({ PATH: join(directory, "nowhere") });
  expect([without.code, without.err]).toEqual([
    1,
    "wherry: ssh: there is no program ssh: install an OpenSSH client; the guest's port 22 is 127.0.0.1:40022 here\n",
  ]);
  await online.close();
});

test("perf counts for a while, and shows what a machine with --perf has counted", async () => {
  expect((await control("perf", "--seconds", "0")).err).toContain("Profiling is off");
  const { code, out } = await control("perf", "--seconds", "1");
  expect(code).toBe(0);
  expect(out).toContain("perf: 0 ns of 1 hart\n");
  expect(fake.perf.counting).toBe(false);
  fake.perf.start();
  expect((await control("perf", "--seconds", "0")).out).toContain("hart 0: 1000 instructions");
  expect(fake.perf.counting).toBe(true);
});

test("trace asks for the code at an address", async () => {
  expect((await control("trace", "0x80200000")).out).toBe("hart 0 80200000\n");
  expect((await control("trace", "4096", "--cpu", "1")).out).toBe("hart 1 1000\n");
  expect((await control("trace", "main")).code).toBe(2);
});

test("save: the path is ours, not the machine's", async () => {
  await writeFile(join(directory, "state"), "x".repeat(2048));
  const { code, out } = await control("save", "state");
  expect({ code, out }).toEqual({ code: 0, out: "saved state, 2.0 KiB; the machine is prelaunch\n" });
  expect(fake.migration.saved).toEqual([join(directory, "state")]);
});

test("save: its progress ends at 100 %, whatever was seen last", async () => {
  const { migration } = fake;
  await writeFile(join(directory, "state"), "x");
  migration.save = async () => {
    migration.saving = { donePages: 99, totalPages: 200 };
    await delay(400);
    migration.saving = undefined;
  };
  expect((await control("save", "state")).err).toBe(
    "save: 49%  99 of 200 pages\nsave: 100%  200 of 200 pages\n",
  );
  migration.save = async () => {
    migration.saving = { donePages: 99, totalPages: 200 };
    await delay(400);
    throw new Error("no room");
  };
  expect((await control("save", "state")).err).toMatch(/^save: 49% .*\nwherry: no room\n/);
});

test("migrate: parameters, progress, report", async () => {
  const done = { status: "completed", totalTimeMs: 900, downtimeMs: 31, ...sent, ...rates } as const;
  afterSetup(done, 300);
  const { code, out, err } = await control(
    "migrate",
    "unix:x",
    "--downtime-limit",
    "50",
    "--max-bandwidth",
    "10M",
  );
  expect({ code, out }).toEqual({
    code: 0,
    out: "moved to unix:x: 900 ms, downtime 31 ms, 3.0 MiB, 2 rounds\n",
  });
  expect(err).toContain("migrate: 100%  completed, round 2, 9 pages, 0 B left, 6 dirtied/s, 7 Mbit/s\n");
  expect(fake.migration.started).toEqual([{ transport: "unix", path: join(directory, "x") }]);
  expect(fake.migration.parameters).toMatchObject({
    downtimeLimitMs: 50,
    maxBandwidthBytesPerSecond: 10 << 20,
  });
});

test("migrate and save for a QEMU; its conditions are explained", async () => {
  afterSetup({ status: "completed", totalTimeMs: 1, downtimeMs: 1, ...sent, ...rates }, 0);
  expect((await control("migrate", "exec:cat > x", "--profile", "qemu-1.0")).code).toBe(0);
  expect(fake.migration.started).toEqual([{ transport: "exec", command: "cat > x" }]);
  expect(fake.migration.profile).toBe("qemu-1.0");
  afterSetup({ status: "completed", totalTimeMs: 1, downtimeMs: 1, ...sent, ...rates }, 0);
  await control("migrate", "unix:x");
  expect(fake.migration.profile).toBeUndefined();
  expect(await control("migrate", "--explain", "--profile", "qemu-1.0")).toEqual({
    code: 1,
    out:
      "the machine cannot go as it is to qemu-1.0\n  - no way to qemu-1.0\n    none\n" +
      "start QEMU like this:\n  qemu\nand Wherry:\n  wherry\n",
    err: "",
  });
  expect((await control("migrate", "--explain")).err).toContain("--explain needs --profile NAME");
  expect((await control("migrate")).err).toContain("URI is missing");
});

test("a move that fails is exit code 1, with the reason and where the machine is", async () => {
  afterSetup({ status: "failed", error: "no route" }, 0);
  const { code, err } = await control("migrate", "tcp:127.0.0.1:1");
  expect(code).toBe(1);
  expect(err).toContain("wherry: the move failed: no route; the machine is prelaunch here\n");
});

test("usage errors are exit code 2 and one line of advice", async () => {
  const { code, out, err } = await wherry("run", "-smp", "4");
  expect({ code, out }).toEqual({ code: 2, out: "" });
  expect(err).toBe(
    "wherry: unknown option -smp; did you mean --smp?\ntry: wherry --help, or wherry COMMAND --help\n",
  );
  expect((await wherry("status")).err).toContain("--qmp unix:PATH is required");
  expect((await wherry()).code).toBe(2);
  expect((await wherry("--help")).code).toBe(0);
});

test("a socket without a listener is exit code 1", async () => {
  const { code, err } = await wherry("status", "--qmp", "unix:/nonexistent");
  expect({ code, err }).toEqual({
    code: 1,
    err: "wherry: cannot reach unix:/nonexistent: no machine listens there\n",
  });
});
