// Makes the streams of machines.ts: each with a QEMU of Debian, and with it that QEMU's monitor output at the
// same point and its -dump-vmstate. They are kept in the user's cache, or in FOLDER; existing ones are not
// made again.
//   node test/streams/make.ts [--all] [--only REGEX] [FOLDER]
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { fetchDebianGuest } from "../../src/guest/debian-guest.ts";
import { cache, exists, qemu, qemuFile } from "../../tools/unpacked.ts";
import { dirtyLoop } from "../support/dirty-loop.ts";
import { type Place, SPECS, type StreamSpec } from "./machines.ts";
import { type Answers, QemuProcess } from "../support/qemu-process.ts";

/** Format of the files beside a stream; a stream with another is made again. */
const FORMAT = 2;
const DISK_BYTES = 2 ** 24;
/** Initial bytes per second, if a guest must run through several rounds. */
const SLOW = 8_000_000;
const ROUNDS = 4;

export interface MadeStream {
  readonly name: string;
  readonly spec: StreamSpec;
  /** Paths: the first has the stream's head, the others are further connections, in order. */
  readonly files: readonly string[];
  readonly command: readonly string[];
  /** QEMU's answers at the point where the stream was written. */
  readonly answers: Answers;
  /** Path of the machine's -dump-vmstate. */
  readonly dump: string;
}

interface Told {
  readonly key: string;
  readonly connections: number;
  readonly command: readonly string[];
  readonly answers: Answers;
}

export const streamsFolder: string = join(cache, "streams");

const keyOf = (spec: StreamSpec): string =>
  createHash("sha256")
    .update(JSON.stringify([FORMAT, spec]))
    .digest("hex")
    .slice(0, 16);

async function readTold(path: string): Promise<Told | undefined> {
  return readFile(path, "utf8").then(
    (text) => JSON.parse(text) as Told,
    () => undefined,
  );
}

function made(folder: string, spec: StreamSpec, told: Told): MadeStream {
  const file = (suffix: string) => join(folder, `${spec.name}.${suffix}`);
  const files = [file("stream")];
  for (let i = 1; i < told.connections; i++) files.push(file(`stream.${i}`));
  return {
    name: spec.name,
    spec,
    files,
    command: told.command,
    answers: told.answers,
    dump: file("vmstate.json"),
  };
}

/** Arguments of a machine, in a folder of its own. */
async function places(spec: StreamSpec, work: string): Promise<Record<Place, string>> {
  const paths: Record<Place, string> = {
    disk: join(work, "disk"),
    disk2: join(work, "disk2"),
    loop: join(work, "loop"),
    shared: join(work, "shared"),
    folder: work,
    kernel: "",
    initrd: "",
    aavmf: "",
  };
  const disk = Buffer.alloc(DISK_BYTES);
  for (let at = 0; at < disk.length; at += 4096) disk.writeUInt32BE(at, at);
  await writeFile(paths.disk, disk);
  await writeFile(paths.disk2, disk);
  await writeFile(paths.loop, dirtyLoop());
  const used = (place: Place) => spec.args.some((arg) => arg.includes(`{${place}}`));
  if (used("kernel")) Object.assign(paths, await fetchDebianGuest());
  if (used("aavmf")) {
    paths.aavmf = await qemuFile(spec.release, spec.target, "usr/share/AAVMF/AAVMF_CODE.no-secboot.fd");
  }
  return paths;
}

async function booted(spec: StreamSpec, log: string): Promise<void> {
  const end = Date.now() + spec.seconds * 1000;
  while (Date.now() < end) {
    await sleep(100);
    if (spec.until !== undefined && (await readFile(log, "utf8").catch(() => "")).includes(spec.until))
      return;
  }
  if (spec.until !== undefined)
    throw new Error(`${spec.name}: ${JSON.stringify(spec.until)} was not printed`);
}

/** Relays connections to `to` and stores the bytes of their sources, each connection in its own file. */
async function relay(at: string, to: string, file: (connection: number) => string) {
  let connections = 0;
  const ends: Promise<unknown>[] = [];
  const server = createServer((from: Socket) => {
    const kept = createWriteStream(file(connections++));
    const on = connect(to);
    for (const socket of [from, on]) socket.on("error", () => socket.destroy());
    from.pipe(on);
    on.pipe(from);
    from.pipe(kept);
    ends.push(once(kept, "close"));
    from.on("close", () => kept.end());
  });
  await new Promise<void>((resolve) => server.listen(at, resolve));
  return {
    /** Resolves to the number of connections when all have ended. */
    async done(): Promise<number> {
      await Promise.all(ends);
      server.close();
      return connections;
    },
  };
}

/** Slow rounds while the guest runs, then a fast rest. */
async function rounds(machine: QemuProcess): Promise<void> {
  for (;;) {
    const { status, ram } = await machine.status();
    if (status !== "setup" && status !== "active") break;
    const seen = Number((ram as Record<string, number> | undefined)?.["dirty-sync-count"] ?? 0);
    if (seen >= ROUNDS) break;
    await sleep(20);
  }
  await machine.execute("migrate-set-parameters", {
    "max-bandwidth": 10_000_000_000,
    "downtime-limit": 5000,
  });
}

async function migrate(
  spec: StreamSpec,
  machine: QemuProcess,
  command: readonly string[],
  work: string,
): Promise<number> {
  const { by = "exec", capabilities = [], parameters = {} } = spec;
  await machine.capabilities(capabilities);
  if (Object.keys(parameters).length > 0) await machine.execute("migrate-set-parameters", { ...parameters });
  const file = (connection: number) => join(work, connection === 0 ? "stream" : `stream.${connection}`);
  const live = by === "live" || by === "postcopy" || spec.seconds === 0;
  if (!live) await machine.execute("stop");
  else if (!capabilities.includes("background-snapshot")) {
    await machine.execute("migrate-set-parameters", { "max-bandwidth": SLOW, "downtime-limit": 1 });
  }
  if (by !== "relay" && by !== "postcopy") {
    const uri = by === "file" ? `file:${file(0)}` : `exec:cat > ${file(0)}`;
    await machine.execute("migrate", { uri });
    if (live && !capabilities.includes("background-snapshot")) await rounds(machine);
    await machine.migration("completed");
    return 1;
  }
  const target = new QemuProcess([...command, "-incoming", "defer"]);
  try {
    const [from, to] = [join(work, "from"), join(work, "to")];
    await target.execute("qmp_capabilities");
    await target.capabilities(capabilities);
    if (Object.keys(parameters).length > 0) await target.execute("migrate-set-parameters", { ...parameters });
    await target.execute("migrate-incoming", { uri: `unix:${to}` });
    const recorded = await relay(from, to, file);
    await machine.execute("migrate", { uri: `unix:${from}` });
    if (by === "postcopy") {
      await sleep(1000);
      await machine.execute("migrate-start-postcopy");
    }
    await machine.migration("completed");
    return await recorded.done();
  } finally {
    await target.end();
  }
}

/** Makes one, or finds it in `folder`. */
export async function makeStream(spec: StreamSpec, folder: string = streamsFolder): Promise<MadeStream> {
  const key = keyOf(spec);
  const tellsPath = join(folder, `${spec.name}.json`);
  const before = await readTold(tellsPath);
  if (before?.key === key) return made(folder, spec, before);
  await mkdir(folder, { recursive: true });
  const work = await mkdtemp(join(tmpdir(), "wherry-streams-"));
  try {
    const paths = await places(spec, work);
    const log = join(work, "console");
    const command = [
      ...(await qemu(spec.release, spec.target)),
      ...["-chardev", `file,id=con,path=${log}`],
      ...spec.args.map((arg) => arg.replaceAll(/\{(\w+)\}/g, (_, place: string) => paths[place as Place])),
    ];
    const [program = "", ...args] = command;
    const dump = join(work, "dump");
    const dumped = spawnSync(program, [...args, "-display", "none", "-dump-vmstate", dump]);
    if (dumped.status !== 0)
      throw new Error(`-dump-vmstate: ${dumped.signal ?? dumped.status} ${dumped.stderr.toString()}`);
    const machine = new QemuProcess(command);
    try {
      await machine.execute("qmp_capabilities");
      await booted(spec, log);
      const connections = await migrate(spec, machine, command, work);
      const told: Told = { key, connections, command, answers: await machine.answers(join(work, "ram")) };
      const result = made(folder, spec, told);
      for (const [i, path] of result.files.entries())
        await move(join(work, i ? `stream.${i}` : "stream"), path);
      await move(dump, result.dump);
      await writeFile(tellsPath, JSON.stringify(told));
      return result;
    } finally {
      await machine.end();
    }
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function move(from: string, to: string): Promise<void> {
  await rename(from, to).catch(async () => {
    await writeFile(to, await readFile(from));
  });
}

/** Makes all of `specs`, one per processor at once. `failed` has those that failed, with the reason. */
export async function makeStreams(
  specs: readonly StreamSpec[],
  folder: string = streamsFolder,
): Promise<{ streams: MadeStream[]; failed: string[] }> {
  const streams: MadeStream[] = [];
  const failed: string[] = [];
  const waiting = [...specs];
  const worker = async (): Promise<void> => {
    for (let spec = waiting.shift(); spec !== undefined; spec = waiting.shift()) {
      const started = Date.now();
      try {
        streams.push(await makeStream(spec, folder));
        console.log(`${spec.name}: ${((Date.now() - started) / 1000).toFixed(1)} s`);
      } catch (error) {
        failed.push(`${spec.name}: ${error instanceof Error ? error.message : String(error)}`);
        console.log(`FAILED ${failed.at(-1)}`);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, cpus().length) }, worker));
  return { streams, failed };
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    options: { only: { type: "string" }, all: { type: "boolean" } },
    allowPositionals: true,
  });
  const folder = positionals[0] ?? streamsFolder;
  const wanted = SPECS.filter(
    ({ name, extra }) =>
      (values.all === true || extra !== true) && (!values.only || new RegExp(values.only).test(name)),
  );
  const { streams, failed } = await makeStreams(wanted, folder);
  const lines = streams.map(
    ({ name, files, command }) => `${files.join(" ")}\n  ${name}: ${command.join(" ")}\n`,
  );
  await writeFile(join(folder, "LIST"), lines.join(""));
  if (failed.length > 0 || !(await exists(folder))) process.exitCode = 1;
}
