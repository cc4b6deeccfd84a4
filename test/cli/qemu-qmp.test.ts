// The same requests to our monitor and to the installed QEMU: same errors, same shapes. QEMU describes the
// shapes itself (query-qmp-schema). Skipped where qemu-system-riscv64 is not installed.
import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { QemuProcess } from "../support/qemu-process.ts";
import type { Json, Reply } from "../support/qmp-client.ts";
import { memoryText, parseDumpFormat } from "../../src/monitor/memory-dump.ts";
import { fakeMonitor } from "../support/fake-monitor.ts";

const QEMU = "qemu-system-riscv64";
const installed = spawnSync(QEMU, ["--version"]).status === 0;

/** Members that every answer of QEMU 7.2 has and that 10.0 dropped (9.0: StatusInfo.singlestep). */
const DROPPED = new Set(["singlestep"]);

const ARGUMENTS = ["-M", "virt", "-m", "64M", "-smp", "2", "-S", "-serial", "none"];

interface SchemaEntry {
  readonly name: string;
  readonly "meta-type": string;
  readonly "json-type"?: string;
  readonly "element-type"?: string;
  readonly "ret-type"?: string;
  readonly values?: readonly string[];
  readonly members?: readonly { readonly name: string; readonly type: string; readonly default?: null }[];
}

/** Reports where `value` does not match `type` of QEMU's schema. */
function mismatch(schema: Map<string, SchemaEntry>, type: string, value: Json, path: string): string[] {
  const entry = schema.get(type);
  switch (entry?.["meta-type"]) {
    case "builtin": {
      const found = typeof value === "number" && Number.isInteger(value) ? "int" : typeof value;
      const expected = entry["json-type"] ?? "";
      return found === expected || (expected === "number" && found === "int")
        ? []
        : [`${path}: ${found}, not ${expected}`];
    }
    case "enum":
      return (entry.values ?? []).includes(String(value)) ? [] : [`${path}: ${String(value)}`];
    case "array":
      if (!Array.isArray(value)) return [`${path}: no array`];
      return value.flatMap((v, i) => mismatch(schema, entry["element-type"] ?? "", v, `${path}[${i}]`));
    case "object": {
      if (typeof value !== "object" || value === null || Array.isArray(value)) return [`${path}: no object`];
      const members = new Map((entry.members ?? []).map((member) => [member.name, member]));
      const required = [...members.values()].filter((m) => !("default" in m) && !DROPPED.has(m.name));
      return [
        ...required.filter(({ name }) => !(name in value)).map(({ name }) => `${path}.${name} is missing`),
        ...Object.entries(value).flatMap(([name, v]) => {
          const member = members.get(name);
          if (name.startsWith("x-wherry-")) return [];
          return member === undefined
            ? [`${path}.${name} is ours alone`]
            : mismatch(schema, member.type, v, `${path}.${name}`);
        }),
      ];
    }
    default:
      return [`${path}: ${type} is not in the schema`];
  }
}

describe.skipIf(!installed)("against the installed QEMU", () => {
  let qemu: QemuProcess;
  let schema: Map<string, SchemaEntry>;
  const { migration, connect } = fakeMonitor();
  const ours = connect();

  beforeAll(async () => {
    qemu = new QemuProcess([QEMU, ...ARGUMENTS]);
    await qemu.execute("qmp_capabilities");
    const entries = (await qemu.execute("query-qmp-schema")) as unknown as SchemaEntry[];
    schema = new Map(entries.map((entry) => [entry.name, entry]));
    await ours.ask('{"execute":"qmp_capabilities"}');
  });
  afterAll(() => qemu.end());

  test.each([
    "query-status",
    "query-version",
    "query-cpus-fast",
    "query-commands",
    "query-name",
    "query-kvm",
    "query-target",
    "query-uuid",
    "query-memory-size-summary",
    "query-migrate",
    "query-migrate-parameters",
    "query-migrate-capabilities",
  ])("the shape of %s", async (command) => {
    const [reply] = (await ours.ask(JSON.stringify({ execute: command }))) as [Reply];
    expect(mismatch(schema, schema.get(command)?.["ret-type"] ?? "", reply.return ?? null, command)).toEqual(
      [],
    );
  });

  test("the shape of query-migrate while it runs", async () => {
    migration.set({
      status: "active",
      setupTimeMs: 1,
      expectedDowntimeMs: 300,
      downtimeMs: 2,
      error: "x",
      megabitsPerSecond: 7.5,
    });
    const [reply] = (await ours.ask('{"execute":"query-migrate"}')) as [Reply];
    migration.info = undefined;
    const type = schema.get("query-migrate")?.["ret-type"] ?? "";
    // `skipped` went in 9.1; the page counts say the same.
    const wrong = mismatch(schema, type, reply.return ?? null, "query-migrate");
    expect(wrong).toEqual(["query-migrate.ram.skipped is missing"]);
  });

  test("QEMU has every command that is not marked as ours", async () => {
    const names = (reply: Json) => (reply as { name: string }[]).map(({ name }) => name);
    const theirs = new Set(names(await qemu.execute("query-commands")));
    const [reply] = (await ours.ask('{"execute":"query-commands"}')) as [Reply];
    const unknown = names(reply.return ?? []).filter((name) => !theirs.has(name));
    expect(unknown.filter((name) => !name.startsWith("x-wherry-"))).toEqual([]);
  });

  test("QEMU's schema has our commands' arguments, in the same form", async () => {
    const [reply] = (await ours.ask('{"execute":"query-qmp-schema"}')) as [Reply];
    const entries = reply.return as unknown as SchemaEntry[];
    const own = new Map(entries.map((entry) => [entry.name, entry]));
    const keys = (entry: object) => Object.keys(entry).sort();
    for (const kind of ["command", "event", "builtin", "array", "enum"]) {
      const [a, b] = [own, schema].map((all) => [...all.values()].find((it) => it["meta-type"] === kind));
      const optional = new Set(["features", "allow-oob"]);
      expect(keys(a!), kind).toEqual(keys(b!).filter((key) => !optional.has(key)));
    }
    const members = (all: Map<string, SchemaEntry>, command: string) => {
      const type = (all.get(command) as { "arg-type"?: string } | undefined)?.["arg-type"] ?? "";
      return (all.get(type)?.members ?? []).map(
        (member) => `${member.name}${"default" in member ? "?" : ""}`,
      );
    };
    const isOurs = (name: string) => /x-wherry-|^X_WHERRY_/.test(name);
    /** Since 8.2 and 9.1. */
    const newer = ["migrate.channels?", "migrate-incoming.channels?", "migrate-incoming.exit-on-error?"];
    /** Alternatives to `channels`, required in 7.2. */
    const now = ["migrate.uri?", "migrate-incoming.uri?"];
    const wrong = entries
      .filter((it) => it["meta-type"] === "command" && !isOurs(it.name) && schema.has(it.name))
      .flatMap(({ name }) => {
        const theirs = members(schema, name);
        return members(own, name)
          .filter((member) => !theirs.includes(member) && !isOurs(member))
          .map((member) => `${name}.${member}`);
      });
    expect(wrong.filter((member) => ![...newer, ...now].includes(member))).toEqual([]);
    const events = entries
      .filter((it) => it["meta-type"] === "event" && !isOurs(it.name))
      .map(({ name }) => name);
    expect(events.filter((name) => schema.get(name)?.["meta-type"] !== "event")).toEqual([]);
  });

  test("memory in the format of QEMU's xp", async () => {
    const human = async (line: string) =>
      (await qemu.execute("human-monitor-command", { "command-line": line })) as string;
    const dumped = (await human("xp /64xb 0x1000")).replaceAll("\r", "");
    const bytes = Uint8Array.from(dumped.matchAll(/0x([0-9a-f]{2})\b/g), ([, digits]) =>
      Number(`0x${digits}`),
    );
    expect(bytes.length).toBe(64);
    // QEMU shows a d of less than 8 bytes without its sign.
    for (const text of ["8xw", "4xg", "3xh", "8uh", "5ub", "11c", "4ow", "2dg"]) {
      const format = parseDumpFormat(text);
      const part = bytes.subarray(0, format.count * format.size);
      const theirs = (await human(`xp /${text} 0x1000`)).replaceAll("\r", "");
      expect(memoryText(0x1000n, part, format), text).toBe(theirs);
    }
  });

  test.each(["info status", "nosuch", "info nosuch", "info kvm", "info name"])(
    "the same text for %s",
    async (line) => {
      const request = { execute: "human-monitor-command", arguments: { "command-line": line } };
      const [reply] = (await ours.ask(JSON.stringify(request))) as [Reply];
      const theirs = (await qemu.ask(JSON.stringify(request))) as { return: string };
      expect(reply.return).toBe(theirs.return.replaceAll("\r", ""));
    },
  );

  test.each([
    "[1]",
    "1",
    '"x"',
    '{"arguments":{}}',
    '{"execute":1}',
    '{"execute":"stop","arguments":[]}',
    '{"execute":"stop","arguments":null}',
    '{"execute":"stop","foo":1}',
    '{"exec-oob":"query-status"}',
    '{"execute":"stop","arguments":{"x":1},"id":5}',
    '{"execute":"nosuch","id":{"a":[1,null,1.5]}}',
    '{"execute":"qmp_capabilities"}',
    '{"a" 1}',
    '{"execute":"stop" "id":1}',
    '{"a":tru}',
    '{"a":1,"a":2}',
    "[}",
    '{"execute":"query-kvm","id":1.0}',
    '{"execute":"query-kvm","id":12345678901234567890}',
    "{'execute':'query-kvm','id':'it\\'s'}",
    '{"execute":"migrate-set-parameters","arguments":{"downtime-limit":"x"}}',
    '{"execute":"migrate-set-parameters","arguments":{"downtime-limit":1.5}}',
    '{"execute":"migrate-set-parameters","arguments":{"downtime-limit":true,"foo":1}}',
    '{"execute":"migrate-set-parameters","arguments":{"downtime-limit":99999999}}',
    '{"execute":"migrate-set-parameters","arguments":{"foo":1}}',
    '{"execute":"migrate-set-parameters"}',
    '{"execute":"migrate-set-capabilities"}',
    '{"execute":"migrate-set-capabilities","arguments":{"capabilities":{}}}',
    '{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"events"}]}}',
    '{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"events","state":1}]}}',
    '{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"nosuch","state":true}]}}',
    '{"execute":"migrate","arguments":{"uri":5}}',
    '{"execute":"migrate","arguments":{"uri":"foo:bar"}}',
    '{"execute":"migrate_cancel"}',
  ])("the same answer to %s", async (request) => {
    const [reply] = (await ours.ask(request)) as [Reply];
    expect(reply).toEqual(await qemu.ask(request));
  });
});
