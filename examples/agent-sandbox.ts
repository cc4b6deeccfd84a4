// Runs programs that nobody trusts, each in a machine of its own: one Debian boots and is saved, and every
// program gets a copy of it, with a limit of time and memory and no network but one server that is allowed.
// Afterwards nothing is left of the copies.
//   npx node examples/agent-sandbox.ts
// The guest is Debian's kernel with busybox; --kernel and --initrd name another one that has the agent.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { AgentError, createMachine, Machine, type NetSpec } from "wherry/node";

const { values } = parseArgs({
  options: {
    machines: { type: "string", default: "10" },
    parallel: { type: "string", default: String(availableParallelism()) }, // machines at a time
    seconds: { type: "string", default: "20" }, // for each program
    mebibytes: { type: "string", default: "32" }, // for each program
    kernel: { type: "string" }, // with initrd: any guest that has qemu-guest-agent
    initrd: { type: "string" },
  },
});
const machines = Number(values.machines);

// The one server that programs may reach: on this host's loopback, which guests see at the gateway's address.
const server = createServer((_request, response) => response.end("a page of the allowed server\n"));
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const page = `http://10.0.2.2:${(server.address() as AddressInfo).port}/`;
const refused: string[] = [];
const net: NetSpec = {
  user: { allow: [new URL(page).host], ipv6: false },
  onConnection: ({ kind, remote, name }) => void (kind === "refused" && refused.push(remote ?? name ?? "?")),
};

interface Program {
  readonly what: string;
  readonly code: string;
  readonly expects: string;
}
const programs: Program[] = [
  { what: "computes", code: "echo $((6 * 7))", expects: "exit 0: 42" },
  { what: "never ends", code: "while :; do :; done", expects: "agent.exec-timeout" },
  { what: "asks the allowed server", code: `wget -q -O - ${page}`, expects: "exit 0: a page of the allowed" },
  { what: "asks another server", code: "wget -q -T 5 -O - http://192.0.2.1/ 2>&1", expects: "exit 1: wget" },
  { what: "wants memory", code: "awk 'BEGIN { x = 1; for (;;) x = x x }' 2>&1", expects: "exit " },
  { what: "writes a file", code: "echo made here >/tmp/out; cat /tmp/out", expects: "exit 0: made here" },
  { what: "looks for another's file", code: "cat /tmp/out 2>&1", expects: "exit 1: cat: can't open" },
  { what: "reads its input", code: "sort", expects: "exit 0: a b c" },
  { what: "fails", code: "exit 7", expects: "exit 7" },
  {
    what: "prints for ever",
    code: "yes | head -c 100000 | wc -c",
    expects: "exit 0: 100000",
  },
];

const seconds = (since: number) => `${((performance.now() - since) / 1000).toFixed(1)} s`;
const show = (step: string, since: number) => console.log(`${step}: ${seconds(since)}`);
const hardware = { harts: 1, memoryBytes: 128 << 20, rng: true, agent: true };

let began = performance.now();
async function baseMachine() {
  const { kernel, initrd } = values;
  if (kernel === undefined || initrd === undefined)
    return Machine.debian({
      ...{ ...hardware, net, root: "ramdisk" },
      onProgress: ({ step, what, done }) => void (done === 0 && console.error(`${step} ${what}`)),
    });
  const images = { kernel: await readFile(kernel), initrd: await readFile(initrd) };
  return createMachine({ ...hardware, net, ...images, append: "console=ttyS0 quiet" });
}

const failures: string[] = [];
try {
  let snapshot: Uint8Array;
  {
    await using base = await baseMachine();
    await base.start();
    const up = "ip link set eth0 up; udhcpc -i eth0 -n -q";
    const ready = await base.exec("sh", { args: ["-c", up], waitMs: 900_000 });
    if (ready.exitCode !== 0) throw new Error(`the guest has no network: ${ready.stderr}`);
    snapshot = await base.snapshot();
  }
  show(`a guest has booted and was saved (${snapshot.length >> 20} MiB)`, began);

  began = performance.now();
  const run = async ({ what, code, expects }: Program, n: number): Promise<void> => {
    const since = performance.now();
    let outcome: string;
    try {
      await using vm = await Machine.restore(snapshot, { rng: true, agent: true, net });
      await vm.exec("true", { waitMs: 300_000 }); // it answers: the program's time begins
      const { exitCode, stdout } = await vm.exec("sh", {
        args: ["-c", `ulimit -v ${Number(values.mebibytes) * 1024}; eval "$1"`, "sh", code],
        input: "c\nb\na\n",
        timeoutMs: Number(values.seconds) * 1000,
      });
      outcome = `exit ${exitCode}: ${stdout.trim().replaceAll("\n", " ").slice(0, 60)}`;
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      outcome = error.code;
    }
    const isRight = outcome.startsWith(expects);
    if (!isRight) failures.push(what);
    const verdict = isRight ? "" : ` (expected ${expects})`;
    console.log(`${String(n).padStart(2)} ${what}: ${outcome}${verdict}, ${seconds(since)}`);
  };
  let next = 0;
  const work = async (): Promise<void> => {
    for (let n = next++; n < machines; n = next++) await run(programs[n % programs.length] as Program, n);
  };
  await Promise.all(Array.from({ length: Number(values.parallel) }, work));
  show(`${machines} machines`, began);
  console.log(`refused: ${[...new Set(refused)].join(", ") || "nothing"}`);
  if (machines > 3 && !refused.includes("192.0.2.1:80")) failures.push("nothing was refused");
} finally {
  server.close();
}
if (failures.length > 0) {
  console.error(`not as expected: ${failures.join(", ")}`);
  process.exitCode = 1;
}
