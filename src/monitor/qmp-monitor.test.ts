// A monitor with a fake machine that has only a run state: transcripts recorded from QEMU 7.2 for the same
// requests, and Wherry's own commands.
import fc from "fast-check";
import { expect, test } from "vitest";
import { fakeMonitor } from "../../test/support/fake-monitor.ts";
import { seed } from "../../test/support/seed.ts";

const error = (desc: string, errorClass = "GenericError") => ({ error: { class: errorClass, desc } });
const timestamp = { seconds: 1_700_000_000, microseconds: 123456 };

test("the greeting", () => {
  expect(fakeMonitor().connect().lines).toEqual([
    {
      QMP: {
        version: { qemu: { major: 10, minor: 0, micro: 0 }, package: "wherry 0.1.0" },
        capabilities: [],
      },
    },
  ]);
});

test("before the negotiation only qmp_capabilities is known, after it no more", async () => {
  const { connect } = fakeMonitor();
  const client = connect();
  const expecting = error("Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound");
  expect(await client.ask('{"execute":"query-status"}')).toEqual([expecting]);
  expect(await client.ask('{"execute":"nosuch","id":1}')).toEqual([{ ...expecting, id: 1 }]);
  expect(await client.ask('{"execute":"qmp_capabilities","arguments":{"enable":"x"}}')).toEqual([
    error("Invalid parameter type for 'enable', expected: array"),
  ]);
  expect(await client.ask('{"execute":"qmp_capabilities","id":2}')).toEqual([{ return: {}, id: 2 }]);
  expect(await client.ask('{"execute":"qmp_capabilities"}')).toEqual([
    error("Capabilities negotiation is already complete, command ignored", "CommandNotFound"),
  ]);
});

test("malformed requests get QEMU's messages", async () => {
  const client = fakeMonitor().connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  const transcript: [string, string, string?][] = [
    ["[1]", "QMP input must be a JSON object"],
    ['"x"', "QMP input must be a JSON object"],
    ['{"arguments":{}}', "QMP input lacks member 'execute'"],
    ['{"execute":1}', "QMP input member 'execute' must be a string"],
    ['{"execute":"stop","arguments":[]}', "QMP input member 'arguments' must be an object"],
    ['{"execute":"stop","arguments":null}', "QMP input member 'arguments' must be an object"],
    ['{"execute":"stop","foo":1}', "QMP input member 'foo' is unexpected"],
    ['{"exec-oob":"query-status"}', "QMP input member 'exec-oob' is unexpected"],
    ['{"execute":"stop","arguments":{"x":1}}', "Parameter 'x' is unexpected"],
    ['{"execute":"nosuch"}', "The command nosuch has not been found", "CommandNotFound"],
    [
      '{"execute":"migrate-set-parameters","arguments":{"downtime-limit":"x"}}',
      "Parameter 'downtime-limit' expects uint64",
    ],
    [
      '{"execute":"migrate-set-parameters","arguments":{"downtime-limit":1.5}}',
      "Parameter 'downtime-limit' expects uint64",
    ],
    [
      '{"execute":"migrate-set-parameters","arguments":{"downtime-limit":99999999}}',
      "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms",
    ],
    ['{"execute":"migrate-set-parameters","arguments":{"foo":1}}', "Parameter 'foo' is unexpected"],
    ['{"execute":"migrate-set-capabilities"}', "Parameter 'capabilities' is missing"],
    [
      '{"execute":"migrate-set-capabilities","arguments":{"capabilities":{}}}',
      "Invalid parameter type for 'capabilities', expected: array",
    ],
    [
      '{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"events"}]}}',
      "Parameter 'capabilities[0].state' is missing",
    ],
    [
      '{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"events","state":1}]}}',
      "Invalid parameter type for 'capabilities[0].state', expected: boolean",
    ],
    [
      '{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"nosuch","state":true}]}}',
      "Parameter 'capability' does not accept value 'nosuch'",
    ],
    ['{"execute":"migrate","arguments":{"uri":5}}', "Invalid parameter type for 'uri', expected: string"],
    [
      '{"execute":"migrate","arguments":{"uri":"foo:bar"}}',
      "Parameter 'uri' expects a valid migration protocol",
    ],
    ['{"a" 1}', "JSON parse error, missing : in object pair"],
  ];
  for (const [request, desc, errorClass] of transcript) {
    expect(await client.ask(request), request).toEqual([error(desc, errorClass)]);
  }
});

test("run state: commands, events before their answer, ids of every kind", async () => {
  const { connect } = fakeMonitor();
  const client = connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  expect(await client.ask('{"execute":"query-status","id":{"a":[1,null,1.5]}}')).toEqual([
    { return: { status: "prelaunch", running: false }, id: { a: [1, null, 1.5] } },
  ]);
  expect(await client.ask('{"execute":"cont","id":null}')).toEqual([
    { timestamp, event: "RESUME" },
    { return: {}, id: null },
  ]);
  expect(await client.ask('{"execute":"cont"}')).toEqual([{ return: {} }]);
  // Sent together: the second command sees the effect of the first.
  expect(await client.ask('{"execute":"stop","id":"s"}{"execute":"query-status","id":"q"}')).toEqual([
    { timestamp, event: "STOP" },
    { return: {}, id: "s" },
    { return: { status: "paused", running: false }, id: "q" },
  ]);
  expect(await client.ask('{"execute":"system_reset"}')).toEqual([
    { timestamp, event: "RESET", data: { guest: false, reason: "host-qmp-system-reset" } },
    { return: {} },
  ]);
});

test("a machine that was handed over is not started", async () => {
  const { connect, machine } = fakeMonitor();
  const client = connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  machine.startBlocker = "The machine runs at tcp:127.0.0.1:4444 now";
  expect(await client.ask('{"execute":"cont"}')).toEqual([error(machine.startBlocker)]);
  expect(await client.ask('{"execute":"migrate","arguments":{"uri":"unix:/x"}}')).toEqual([
    error(machine.startBlocker),
  ]);
  expect(machine.runState.current).toBe("prelaunch");
});

test("a stop during a save or a switchover is refused, not lost", async () => {
  for (const state of ["save-vm", "finish-migrate"] as const) {
    const { connect, machine } = fakeMonitor();
    const client = connect();
    await client.ask('{"execute":"qmp_capabilities"}');
    machine.runState.set("running");
    machine.runState.set(state);
    expect(await client.ask('{"execute":"stop"}')).toEqual([error("Migration is not finalized yet")]);
  }
});

test("events go to every client that has negotiated and is still connected", async () => {
  const { connect, machine } = fakeMonitor();
  const [a, b, c] = [connect(), connect(), connect()];
  await a.ask('{"execute":"qmp_capabilities"}');
  await c.ask('{"execute":"qmp_capabilities"}');
  c.session.close();
  for (const client of [a, b, c]) client.lines.splice(0);
  machine.emit({ event: "GUEST_PANICKED", message: "hart 1: no" });
  machine.emit({ event: "X_WHERRY_SHARE_STALE", tag: "t", files: ["a (ENOENT)"] });
  expect(a.lines).toEqual([
    { timestamp, event: "GUEST_PANICKED", data: { action: "pause", "x-wherry-message": "hart 1: no" } },
    { timestamp, event: "X_WHERRY_SHARE_STALE", data: { tag: "t", count: 1, files: ["a (ENOENT)"] } },
  ]);
  expect(b.lines).toEqual([]);
  expect(c.lines).toEqual([]);
});

test("quit: SHUTDOWN, the reply, then the end", async () => {
  const { connect, quits } = fakeMonitor();
  const client = connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  expect(await client.ask('{"execute":"quit","id":9}')).toEqual([
    { timestamp, event: "SHUTDOWN", data: { guest: false, reason: "host-qmp-quit" } },
    { return: {}, id: 9 },
  ]);
  expect(quits()).toBe(1);
});

test("migration: both notations of the address, events only when requested, progress in QAPI's shape", async () => {
  const { connect, migration } = fakeMonitor();
  const client = connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  expect(await client.ask('{"execute":"query-migrate"}')).toEqual([{ return: {} }]);
  const run = (args: object) => client.ask(JSON.stringify({ execute: "migrate", arguments: args }));
  expect(await run({})).toEqual([
    error("'migrate' takes one of the arguments 'uri' and 'channels', found neither"),
  ]);
  expect(await run({ uri: "tcp:[::1]:4444" })).toEqual([{ return: {} }]);
  expect(await run({ uri: "tcp:[::1]:4444" })).toEqual([error("There's a migration process in progress")]);
  expect(await client.ask('{"execute":"migrate_cancel"}')).toEqual([{ return: {} }]);
  const capability = { capability: "events", state: true };
  await client.ask(
    JSON.stringify({ execute: "migrate-set-capabilities", arguments: { capabilities: [capability] } }),
  );
  const channel = (addr: object) => ({ channels: [{ "channel-type": "main", addr }] });
  expect(await run(channel({ transport: "socket", type: "unix", path: "/run/x" }))).toEqual([
    { timestamp, event: "MIGRATION", data: { status: "setup" } },
    { return: {} },
  ]);
  migration.info = undefined;
  await run(channel({ transport: "socket", type: "inet", host: "localhost", port: "4444" }));
  migration.info = undefined;
  await run(channel({ transport: "file", filename: "/tmp/a,b", offset: 4096 }));
  migration.info = undefined;
  await run(channel({ transport: "exec", args: ["/bin/sh", "-c", "cat > 'a b'"] }));
  migration.info = undefined;
  await run(channel({ transport: "exec", args: ["tee", "it's"] }));
  migration.info = undefined;
  expect(await run(channel({ transport: "socket", type: "inet", host: "localhost" }))).toEqual([
    error("Parameter 'channels[0].addr.port' is missing"),
  ]);
  expect(migration.started).toEqual([
    { transport: "tcp", host: "::1", port: 4444 },
    { transport: "unix", path: "/run/x" },
    { transport: "tcp", host: "localhost", port: 4444 },
    { transport: "file", path: "/tmp/a,b", offset: 4096 },
    { transport: "exec", command: "cat > 'a b'" },
    { transport: "exec", command: "'tee' 'it'\\''s'" },
  ]);
  migration.set({
    status: "completed",
    totalTimeMs: 812.4,
    downtimeMs: 31.2,
    normalPages: 2,
    rounds: 4,
    dirtyPagesPerSecond: 3.4,
  });
  const [answer] = (await client.ask('{"execute":"query-migrate"}')) as [{ return: object }];
  expect(answer.return).toMatchObject({
    status: "completed",
    "total-time": 812,
    downtime: 31,
    ram: { "normal-bytes": 8192, "dirty-sync-count": 4, "page-size": 4096, "dirty-pages-rate": 3 },
  });
});

test("a move with unknown outcome: the user decides", async () => {
  const { connect, migration } = fakeMonitor();
  const client = connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  migration.set({ status: "unresolved", error: "look there" });
  expect(await client.ask('{"execute":"query-migrate"}')).toEqual([
    { return: expect.objectContaining({ status: "postcopy-paused", "error-desc": "look there" }) },
  ]);
  const decide = (decision: string) =>
    client.ask(JSON.stringify({ execute: "x-wherry-migrate-decide", arguments: { decision } }));
  expect(await decide("here")).toEqual([{ return: {} }]);
  expect(await decide("everywhere")).toEqual([
    error("Parameter 'decision' does not accept value 'everywhere'"),
  ]);
  expect(migration.decisions).toEqual(["here"]);
});

test("the profile of QEMU's streams: a parameter, and its conditions", async () => {
  const { connect, migration } = fakeMonitor();
  const client = connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  const ask = (execute: string, args: object = {}) =>
    client.ask(JSON.stringify({ execute, arguments: args }));
  await ask("migrate-set-parameters", { "x-wherry-profile": "qemu-1.0" });
  expect(migration.profile).toBe("qemu-1.0");
  expect(await ask("query-migrate-parameters")).toEqual([
    { return: expect.objectContaining({ "x-wherry-profile": "qemu-1.0" }) },
  ]);
  await ask("migrate-set-parameters", { "x-wherry-profile": "" });
  expect(migration.profile).toBeUndefined();
  expect(await ask("x-wherry-explain-profile", { profile: "qemu-1.0" })).toEqual([
    {
      return: {
        refusals: [{ code: "qemu.device", message: "no way to qemu-1.0", cure: "none" }],
        qemu: ["qemu"],
        wherry: ["wherry"],
      },
    },
  ]);
});

test("capabilities that Wherry lacks stay off", async () => {
  const client = fakeMonitor().connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  const set = (capability: string, state: boolean) =>
    client.ask(
      JSON.stringify({
        execute: "migrate-set-capabilities",
        arguments: { capabilities: [{ capability, state }] },
      }),
    );
  expect(await set("xbzrle", false)).toEqual([{ return: {} }]);
  expect(await set("xbzrle", true)).toEqual([error("Capability xbzrle is not supported by Wherry")]);
});

test("libvirt's value for no bandwidth limit is accepted", async () => {
  const client = fakeMonitor().connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  const request = '{"execute":"migrate-set-parameters","arguments":{"max-bandwidth":9223372036853727232}}';
  expect(await client.ask(request)).toEqual([{ return: {} }]);
});

test("registers, and a CPU that does not exist", async () => {
  const client = fakeMonitor().connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  const ask = (cpu: number) => client.ask(`{"execute":"x-wherry-registers","arguments":{"cpu":${cpu}}}`);
  expect(await ask(1)).toMatchObject([{ return: { pc: "0x80000000", x1: "0x12" } }]);
  expect(await ask(2)).toEqual([error("CPU 2 not found: the machine has 2", "DeviceNotFound")]);
});

test("profiling: a report only after it was enabled", async () => {
  const client = fakeMonitor().connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  const query = () => client.ask('{"execute":"x-wherry-query-perf"}');
  expect(await query()).toEqual([error("Profiling is off: enable it with x-wherry-perf")]);
  await client.ask('{"execute":"x-wherry-perf","arguments":{"enable":true}}');
  expect(await query()).toEqual([
    {
      return: {
        "elapsed-ns": 2e9,
        harts: [
          {
            "cpu-index": 0,
            instructions: 1000,
            "translated-instructions": 10,
            "tlb-refills": 3,
            hot: [{ address: "0xffffffff80001234", count: 7 }],
            activities: [
              { name: "engine", count: 4, ns: 1e9 },
              { name: "mmio-read", count: 2, ns: 5000 },
            ],
          },
        ],
        translation: { regions: 7, "live-bytes": 4096 },
      },
    },
  ]);
  await client.ask('{"execute":"x-wherry-perf","arguments":{"enable":false}}');
  expect(await query()).toHaveLength(1);
});

test("a suspended guest: its status, its events, and system_wakeup", async () => {
  const { machine, connect } = fakeMonitor();
  const client = connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  const status = async () => (await client.ask('{"execute":"query-status"}'))[0];
  await machine.start();
  expect(await client.ask('{"execute":"system_wakeup"}')).toEqual([
    error("Unable to wake up: guest is not in suspended state"),
  ]);
  machine.isSuspended = true;
  client.lines.splice(0);
  machine.emit({ event: "SUSPEND" });
  expect(client.lines).toMatchObject([{ event: "SUSPEND" }]);
  expect(await status()).toEqual({ return: { running: false, status: "suspended" } });
  expect(await client.ask('{"execute":"system_wakeup"}')).toMatchObject([
    { event: "WAKEUP" },
    { return: {} },
  ]);
  expect(await status()).toEqual({ return: { running: true, status: "running" } });
  await machine.stop();
  machine.isSuspended = true;
  expect(await status()).toEqual({ return: { running: false, status: "paused" } });
});

test("file descriptors cannot be received, and the reply says so", async () => {
  const { connect } = fakeMonitor();
  const client = connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  const [reply] = await client.ask('{"execute":"getfd","arguments":{"fdname":"a"}}');
  expect(reply).toMatchObject({
    error: { class: "GenericError", desc: expect.stringMatching(/SCM_RIGHTS.*Node\.js.*file:\/dev\/fd\/N/) },
  });
  expect(await client.ask('{"execute":"closefd","arguments":{"fdname":"a"}}')).toEqual([
    error("File descriptor named 'a' not found"),
  ]);
});

test("query-commands lists every command once", async () => {
  const client = fakeMonitor().connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  const [answer] = (await client.ask('{"execute":"query-commands"}')) as [{ return: { name: string }[] }];
  const names = answer.return.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  expect(names).toEqual(
    expect.arrayContaining(["qmp_capabilities", "quit", "query-commands", "migrate_cancel"]),
  );
});

test("whatever a client sends, each request gets one reply", async () => {
  const { monitor, connect } = fakeMonitor();
  const client = connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  const request = fc.oneof(
    fc.jsonValue().filter((value) => typeof value === "object"),
    fc.record(
      { execute: fc.constantFrom(...monitor.commands.keys()), arguments: fc.jsonValue(), id: fc.jsonValue() },
      { requiredKeys: ["execute"] },
    ),
    fc.record({
      execute: fc.constantFrom(
        "migrate",
        "migrate-set-parameters",
        "migrate-set-capabilities",
        "x-wherry-registers",
      ),
      arguments: fc.dictionary(
        fc.constantFrom("uri", "channels", "downtime-limit", "capabilities", "cpu"),
        fc.jsonValue(),
      ),
    }),
  );
  const property = fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 8 }), async (requests) => {
    const answers = await client.ask(requests.map((r) => JSON.stringify(r)).join("\n"));
    const replies = answers.filter((answer) => !("event" in (answer as object)));
    expect(replies).toHaveLength(requests.length);
    for (const reply of replies)
      expect("return" in (reply as object) || "error" in (reply as object)).toBe(true);
  });
  await fc.assert(property, { seed, numRuns: 100 });
});
