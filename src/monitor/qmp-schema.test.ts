// query-qmp-schema: each type that is named is described once, in QEMU's form; commands and events are those
// that the monitor has, and replies have the described shape.
import { expect, test } from "vitest";
import { fakeMonitor } from "../../test/support/fake-monitor.ts";
import { misfits } from "./qmp-schema.ts";

interface Entry {
  readonly name: string;
  readonly "meta-type": string;
  readonly "arg-type"?: string;
  readonly "ret-type"?: string;
  readonly "element-type"?: string;
  readonly tag?: string;
  readonly values?: readonly string[];
  readonly members?: readonly { readonly name: string; readonly type?: string; readonly default?: null }[];
  readonly variants?: readonly { readonly case: string; readonly type: string }[];
}

async function ask(execute: string) {
  const { connect, migration } = fakeMonitor();
  const client = connect();
  await client.ask('{"execute":"qmp_capabilities"}');
  const [reply] = (await client.ask(JSON.stringify({ execute }))) as [{ return: unknown }];
  return { value: reply.return, migration };
}

test("the schema is closed: each type is there, once", async () => {
  const entries = (await ask("query-qmp-schema")).value as Entry[];
  const names = entries.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  const used = entries.flatMap((it) => [
    ...[it["arg-type"], it["ret-type"], it["element-type"]].filter((type) => type !== undefined),
    ...(it["meta-type"] === "object" ? (it.members ?? []).map(({ type }) => type as string) : []),
    ...(it.variants ?? []).map(({ type }) => type),
  ]);
  expect(used.filter((type) => !names.includes(type))).toEqual([]);
  const described = entries.filter((it) => !["command", "event"].includes(it["meta-type"]));
  expect(described.filter(({ name }) => !used.includes(name))).toEqual([]);
});

test("the schema has all commands and events, with their arguments", async () => {
  const entries = (await ask("query-qmp-schema")).value as Entry[];
  const of = (name: string) => entries.find((it) => it.name === name)!;
  const commands = entries.filter((it) => it["meta-type"] === "command").map(({ name }) => name);
  const listed = (await ask("query-commands")).value as { name: string }[];
  expect(commands).toEqual(listed.map(({ name }) => name));
  const members = (type: string | undefined) => of(type!).members;
  expect(members(of("x-wherry-trace-region")["arg-type"])).toEqual([
    { name: "cpu", default: null, type: "int" },
    { name: "address", type: "str" },
  ]);
  expect(members(of("query-status")["ret-type"])?.map(({ name }) => name)).toEqual(["running", "status"]);
  expect(members(of("stop")["arg-type"])).toEqual([]);
  expect(of(of("query-cpus-fast")["ret-type"]!)).toMatchObject({ "meta-type": "array" });
  expect(of("SHUTDOWN")).toMatchObject({ "meta-type": "event" });
  expect(of("str")).toEqual({ name: "str", "meta-type": "builtin", "json-type": "string" });
  const [channels] = members(of("migrate")["arg-type"])!.filter(({ name }) => name === "channels");
  const address = members(of(channels!.type!)["element-type"])!.find(({ name }) => name === "addr");
  expect(of(address!.type!)).toMatchObject({ tag: "transport" });
  expect(of(address!.type!).variants?.map((it) => it.case)).toEqual(["socket", "file", "exec"]);
});

test("replies have the shapes that the schema says", async () => {
  const { monitor, migration } = fakeMonitor();
  const without = ["quit", "qmp_capabilities"];
  let checked = 0;
  const check = async (name: string) => {
    const { run, returns } = monitor.commands.get(name)!;
    expect(misfits(returns.shape, await run({}), name)).toEqual([]);
    checked++;
  };
  for (const [name, { members }] of monitor.commands) {
    const isOptional = Object.values(members).every(({ optional }) => optional === true);
    if (name.startsWith("query-") && isOptional && !without.includes(name)) await check(name);
  }
  migration.set({
    status: "active",
    setupTimeMs: 1,
    expectedDowntimeMs: 3,
    megabitsPerSecond: 7.5,
    error: "x",
  });
  await check("query-migrate");
  migration.saving = { donePages: 1, totalPages: 2 };
  await check("x-wherry-query-save");
  expect(checked).toBeGreaterThan(14);
});

test("a reply of another shape would be found", () => {
  const { monitor } = fakeMonitor();
  const { shape } = monitor.commands.get("query-status")!.returns;
  expect(misfits(shape, { running: 1, status: "asleep", more: 1 }, "it")).toEqual([
    "it.running: int, expected boolean",
    "it.status: asleep",
    "it.more is not in the schema",
  ]);
  expect(misfits(shape, {}, "it")).toEqual(["it.running is missing", "it.status is missing"]);
});
