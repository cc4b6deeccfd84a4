// human-monitor-command: the commands that people type, in QEMU's formats.
import { expect, test } from "vitest";
import { fakeMonitor } from "../../test/support/fake-monitor.ts";
import { memoryText, parseDumpFormat } from "./memory-dump.ts";

async function human(more: Parameters<typeof fakeMonitor>[0] = {}) {
  const fake = fakeMonitor(more);
  const client = fake.connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  const say = async (line: string, cpu?: number): Promise<string> => {
    const args = { "command-line": line, ...(cpu === undefined ? {} : { "cpu-index": cpu }) };
    const request = JSON.stringify({ execute: "human-monitor-command", arguments: args });
    const lines = (await client.ask(request)) as { return?: string; error?: { desc: string } }[];
    const reply = lines.find((it) => "return" in it || "error" in it);
    return reply?.return ?? `error: ${reply?.error?.desc}`;
  };
  return { ...fake, say };
}

test("run state", async () => {
  const { machine, say } = await human();
  expect(await say("info status")).toBe("VM status: paused (prelaunch)\n");
  expect(await say("cont")).toBe("");
  expect(machine.runState.current).toBe("running");
  expect(await say("info status")).toBe("VM status: running\n");
  machine.isSuspended = true;
  expect(await say("info status")).toBe("VM status: paused (suspended)\n");
  expect(await say("system_wakeup")).toBe("");
  expect(machine.isSuspended).toBe(false);
  expect(await say("system_wakeup")).toBe("Error: Unable to wake up: guest is not in suspended state\n");
  expect(await say("s")).toBe("");
  expect(await say("info status")).toBe("VM status: paused\n");
  expect(await say("system_reset")).toBe("");
});

test("queries", async () => {
  const { say } = await human();
  expect(await say("info version")).toBe("10.0.0 (wherry 0.1.0)\n");
  expect(await say("info cpus", 1)).toBe("  CPU #0: thread_id=11\n* CPU #1: thread_id=12\n");
  expect(await say("info uuid")).toBe("00000000-0000-0000-0000-000000000000\n");
  expect(await say("info kvm")).toMatch(/^kvm support: /);
  expect(await say("help stop")).toBe("stop|s -- stop the machine\n");
  expect(await say("?")).toMatch(/^migrate \[-d\] URI -- /m);
  expect(await say("info")).toMatch(/^info registers \[-a\] -- /m);
});

test("registers", async () => {
  const { say } = await human();
  const text = await say("info registers");
  expect(text).toMatch(
    /^\nCPU#0\n pc       0000000080000000\n satp     0000000000000000\n x0\/zero  0{16} x1\/ra    0{14}12 x2\/sp    0{8}80001000\n f0\/ft0   0{14}ff\n$/,
  );
  expect(await say("info registers -a")).toMatch(/CPU#0\n[^]*CPU#1\n/);
  expect(await say("info registers", 2)).toBe("error: Parameter 'cpu-index' expects a CPU number");
});

test("memory", async () => {
  const { say } = await human();
  expect(await say("xp /4xw 0x80000000")).toBe(
    "0000000080000000: 0x03020100 0x07060504 0x0b0a0908 0x0f0e0d0c\n",
  );
  expect(await say("xp/2xg 0x80000000")).toBe("0000000080000000: 0x0706050403020100 0x0f0e0d0c0b0a0908\n");
  expect(await say("x /5xb $sp+0x10-1")).toBe("000000008000100f: 0x80 0x81 0x82 0x83 0x84\n");
  expect(await say("x $pc")).toBe("0000000080000000: 0x83828180\n");
  expect(await say("xp 0")).toBe("Cannot access memory\n");
  expect(await say("x /4xz $pc")).toMatch(/^invalid format '\/4xz': 'z' is none of/);
  expect(await say("x /999999xg $pc")).toMatch(/at most 65536 bytes/);
  expect(await say("x $nosuch")).toBe("unknown register '$nosuch'\n");
  expect(await say("x foo")).toBe("invalid number 'foo'\n");
  expect(await say("x")).toMatch(/^Error: x: expected an address/);
  expect(await say("p $sp + 4")).toBe("0x80001004\n");
  expect(await say("print /d 0-1")).toBe("-1\n");
});

test("formats of memory", () => {
  const bytes = Uint8Array.of(0xff, 0, 0x41, 0x0a, 0x27);
  const text = (format: string) => memoryText(16n, bytes.subarray(0, 4), parseDumpFormat(format));
  expect(text("4db")).toBe("0000000000000010:  -1   0  65  10\n");
  expect(text("4c")).toBe("0000000000000010: '\\xff' '\\x00' 'A' '\\n'\n");
  expect(text("2uh")).toBe("0000000000000010:   255  2625\n");
  expect(text("1o")).toBe("0000000000000010: 01220200377\n");
});

test("moves", async () => {
  const { migration, say } = await human();
  expect(await say("info migrate")).toBe("");
  expect(await say("migrate_set_parameter max-bandwidth 30")).toBe("");
  expect(migration.parameters.maxBandwidthBytesPerSecond).toBe(30 << 20);
  expect(await say("migrate_set_parameter max-bandwidth 1G")).toBe("");
  expect(migration.parameters.maxBandwidthBytesPerSecond).toBe(2 ** 30);
  expect(await say("migrate_set_parameter downtime-limit 77")).toBe("");
  expect(await say("info migrate_parameters")).toMatch(/^downtime-limit: 77$/m);
  expect(await say("migrate_set_parameter nosuch 1")).toBe("Error: Parameter 'nosuch' is unexpected\n");
  expect(await say("migrate_set_capability events on")).toBe("");
  expect(await say("info migrate_capabilities")).toBe("events: on\nreturn-path: on\n");
  expect(await say("migrate -d tcp:localhost:4444")).toBe("");
  expect(migration.started).toEqual([{ transport: "tcp", host: "localhost", port: 4444 }]);
  migration.set({
    status: "active",
    setupTimeMs: 1,
    expectedDowntimeMs: 9,
    megabitsPerSecond: 7.5,
    advice: "slow",
  });
  expect(await say("info migrate")).toMatch(
    /^Migration status: active \(slow\)\ntotal time: 0 ms\nexpected downtime: 9 ms\nsetup: 1 ms\ntransferred ram: 0 kbytes\nthroughput: 7\.50 mbps\n/,
  );
  expect(await say("migrate_cancel")).toBe("");
  expect(await say("migrate foo:bar")).toMatch(/^Error: /);
});

test("errors are text, as in QEMU", async () => {
  const { say, quits } = await human();
  expect(await say("savevm a")).toBe("unknown command: 'savevm'\n");
  expect(await say("info nosuch")).toBe("unknown command: 'info nosuch'\n");
  expect(await say("constructor")).toBe("unknown command: 'constructor'\n");
  expect(await say("info constructor")).toBe("unknown command: 'info constructor'\n");
  expect(await say("")).toBe("");
  expect(await say("stop now")).toMatch(/^Error: stop: extraneous characters/);
  expect(await say("q")).toBe("");
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(quits()).toBe(1);
});

test("forwarded ports", async () => {
  const { say: without } = await human();
  expect(await without("hostfwd_add tcp::1-:2")).toBe("user mode network stack not in use\n");
  expect(await without("info usernet")).toBe("");
  const forwards = ["tcp:127.0.0.1:2222-:22"];
  const { say } = await human({
    network: {
      forwards,
      connections: [
        { protocol: "tcp", state: "established", guest: "10.0.2.15:4000", remote: "192.0.2.1:80" },
      ],
      forward: async (rule) => {
        if (rule === "x") throw new Error("invalid host forwarding rule 'x'");
        forwards.push(rule);
      },
      unforward: (text) => text === "tcp::80",
    },
  });
  expect(await say("hostfwd_add net0 tcp::80-:80")).toBe("");
  expect(forwards[1]).toBe("tcp::80-:80");
  expect(await say("hostfwd_add x")).toBe("invalid host forwarding rule 'x'\n");
  expect(await say("hostfwd_remove tcp::80")).toBe("host forwarding rule for tcp::80 removed\n");
  expect(await say("hostfwd_remove tcp::81")).toBe("host forwarding rule for tcp::81 not found\n");
  expect(await say("info usernet")).toMatch(
    /^ {2}Protocol\[State\] [^]*TCP\[HOST_FORWARD\] +127\.0\.0\.1:2222 +:22\n[^]*TCP\[ESTABLISHED\] +10\.0\.2\.15:4000 +192\.0\.2\.1:80\n$/,
  );
});
