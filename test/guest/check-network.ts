// `npm run check:network`: Debian guests on user networks: DHCP, a web server of the host by an address that
// is allowed, one that is not, a forwarded port back in, added and removed by the monitor, a transfer in each
// direction, a second guest on a switch, and a restore in another process.
//   --mib N for the transfers
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { type AddressInfo, connect, createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { Cases, directory, options } from "../support/cases.ts";
import { BOOT_MS, debian, debianHardware, prompt, shell } from "../support/debian.ts";
import { killAll, Machine } from "../support/machine.ts";
import { Random } from "../support/random.ts";
import { until } from "../support/wait.ts";

const given = options({ mib: 4 });
const random = new Random(given.seed);
const STEP_MS = 60_000;
const cases = new Cases(`user networks of Debian guests, seed ${given.seed}`, 7);
const contents = Buffer.from(Uint32Array.from({ length: given.mib << 18 }, () => random.u32()).buffer);
const md5 = (data: Uint8Array): string => createHash("md5").update(data).digest("hex");

let uploaded = "";
const server = createServer((question, answer) => {
  if (question.method === "POST") {
    const pieces: Buffer[] = [];
    question.on("data", (piece: Buffer) => pieces.push(piece));
    question.on("end", () => {
      uploaded = Buffer.concat(pieces).toString();
      answer.end("thanks\n");
    });
  } else answer.end(question.url === "/data" ? contents : "hello from the host\n");
}).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const { port } = server.address() as AddressInfo;

function expect(what: string, found: unknown, expected: unknown): void {
  if (found !== expected)
    throw new Error(`${what}: found ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
}

const boot = (...more: string[]): Promise<Machine> =>
  Machine.start(
    [
      ...["run", ...debianHardware(1, "builtin"), "--kernel", debian.kernel, "--initrd", debian.initrd],
      ...["--append", "console=ttyS0 panic=-1", ...more],
    ],
    { fromFirstByte: true },
  );

/** As a user types it; the guest's script of udhcpc sets what the lease says. */
const LEASED =
  "ip link set eth0 up; udhcpc -q -n -i eth0 -O mtu > /tmp/dhcp 2>&1; ip -4 -o addr show dev eth0";

/** Gets the guest its address by DHCP; returns it. */
async function lease(machine: Machine): Promise<string | undefined> {
  await prompt(machine.console);
  await shell(machine.console, "stty cols 2000");
  return /inet ([\d.]+)/.exec(await shell(machine.console, LEASED))?.[1];
}

const hmp = (machine: Machine, line: string): Promise<string> =>
  machine.qmp.execute<string>("human-monitor-command", { "command-line": line });

function get(at: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port: at, path: "/index.html" }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (piece: string) => (text += piece));
      answer.on("end", () => resolve(text));
    });
    asked.once("error", reject);
    asked.end();
  });
}
const refuses = (at: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(at, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(false);
    });
    socket.once("error", () => resolve(true));
  });

/** Accepts connections, and neither reads nor sends. */
async function silentServer(): Promise<{ readonly listening: { count: number }; readonly at: number }> {
  const listening = { count: 0 };
  const silent = createTcpServer((socket) => {
    listening.count++;
    socket.on("error", () => {});
  });
  silent.listen(0, "127.0.0.1").unref();
  await new Promise((resolve) => silent.once("listening", resolve));
  return { listening, at: (silent.address() as AddressInfo).port };
}

const { listening, at } = await silentServer();
const lan = join(directory, "lan");
const log = join(directory, "connections");
const network = `unix:${lan},allow=10.0.2.2:${port},allow=10.0.2.2:${at},hostfwd=tcp:127.0.0.1:0-:80,log=${log}`;
let a!: Machine;
let b!: Machine;
let forwarded = 0;

const booted = await cases.run("two guests boot and have addresses", BOOT_MS, async () => {
  a = await boot("--net", `switch:${network}`);
  b = await boot("--net", `socket:connect=unix:${lan},mac=52:54:00:12:34:57`);
  const addresses = [await lease(a), await lease(b)];
  expect("addresses", addresses.join(), "10.0.2.15,10.0.2.16");
  return addresses.join(", ");
});
if (!booted) {
  killAll();
  cases.end();
}

await cases.run("what is allowed, and what is not", STEP_MS, async () => {
  expect("page", await shell(a.console, `wget -q -O - http://10.0.2.2:${port}/`), "hello from the host");
  expect("page of b", await shell(b.console, `wget -q -O - http://10.0.2.2:${port}/`), "hello from the host");
  const other = await shell(a.console, `wget -q -O - http://10.0.2.2:${port === 9 ? 10 : 9}/ 2>&1; true`);
  if (!other.includes("refused")) throw new Error(`another port: ${other}`);
  const name = await shell(a.console, "nslookup evil.example 10.0.2.3 2>&1; true");
  if (!name.includes("NXDOMAIN")) throw new Error(`a name: ${name}`);
  return "the address and port of the rule only";
});

await cases.run("the guests reach each other and the gateway", STEP_MS, async () => {
  await shell(a.console, "ping -c 2 10.0.2.16");
  await shell(b.console, "ping -c 2 10.0.2.2");
  return "pings";
});

await cases.run("forwarded ports", STEP_MS, async () => {
  await shell(
    a.console,
    "mkdir -p /tmp/www; echo hello from the guest > /tmp/www/index.html; httpd -h /tmp/www",
  );
  const shown = await hmp(a, "info usernet");
  forwarded = Number(/TCP\[HOST_FORWARD\] +127\.0\.0\.1:(\d+)/.exec(shown)?.[1]);
  expect("page", await get(forwarded), "hello from the guest\n");
  expect(
    "remove",
    await hmp(a, `hostfwd_remove tcp:127.0.0.1:${forwarded}`),
    `host forwarding rule for tcp:127.0.0.1:${forwarded} removed\n`,
  );
  expect("a port that is not forwarded refuses", await refuses(forwarded), true);
  expect("add", await hmp(a, `hostfwd_add tcp:127.0.0.1:${forwarded}-:80`), "");
  expect("page", await get(forwarded), "hello from the guest\n");
  return "in, removed, added";
});

await cases.run(`${given.mib} MiB in each direction`, STEP_MS, async () => {
  const sum = await shell(a.console, `wget -q -O /tmp/data http://10.0.2.2:${port}/data; md5sum < /tmp/data`);
  expect("down", sum.split(/\s/)[0], md5(contents));
  await shell(a.console, "base64 /tmp/data > /tmp/text");
  await shell(a.console, `wget -q -O - --post-file=/tmp/text http://10.0.2.2:${port}/`);
  expect("up", md5(Buffer.from(uploaded, "base64")), md5(contents));
  return "same bytes";
});

await cases.run("the log", STEP_MS, async () => {
  const lines = await until(10_000, "it has the refusals", async () => {
    const all = readFileSync(log, "utf8")
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Record<string, string>);
    return all.some(({ kind }) => kind === "refused") ? all : undefined;
  });
  const refused = lines.filter(({ kind }) => kind === "refused").map(({ remote, name }) => remote ?? name);
  expect(
    "refused",
    [...new Set(refused)].toSorted((x, y) => (x! < y! ? -1 : 1)).join(),
    "10.0.2.2:9,evil.example",
  );
  return `${lines.length} events`;
});

await cases.run("a restore in another process", BOOT_MS, async () => {
  await hmp(a, `hostfwd_add tcp:127.0.0.1:0-:8081`);
  const [, added] = /(127\.0\.0\.1:\d+) +:8081/.exec(await hmp(a, "info usernet")) ?? [];
  await shell(a.console, "httpd -p 8081 -h /tmp/www");
  // The guest only waits for the host: nothing but a reset of the new network ends it.
  await shell(a.console, "mkfifo /tmp/open; (sleep 100000 > /tmp/open &)");
  await shell(a.console, `((nc 10.0.2.2 ${at} < /tmp/open; echo ended > /tmp/ended) > /tmp/nc 2>&1 &)`);
  await until(STEP_MS, "a connection is open", async () => listening.count > 0);
  const file = join(directory, "saved");
  await a.qmp.execute("stop");
  await a.qmp.execute("migrate", { uri: `file:${file}` });
  await until(STEP_MS, "it is saved", async () => {
    const { status } = await a.qmp.execute<{ status: string }>("query-migrate");
    if (status === "failed") throw new Error("the save failed");
    return status === "completed" ? status : undefined;
  });
  await a.quit();
  a = await Machine.start(["restore", file, "--net", `user,allow=10.0.2.2:${port},allow=10.0.2.2:${at}`]);
  await a.qmp.execute("cont").catch(() => {});
  await shell(a.console, "for i in 1 2 3 4 5; do [ -e /tmp/ended ] && break; sleep 1; done; cat /tmp/ended");
  expect("connections to the server that does not answer", listening.count, 1);
  expect("page", await shell(a.console, `wget -q -O - http://10.0.2.2:${port}/`), "hello from the host");
  expect("page of the guest", await get(forwarded), "hello from the guest\n");
  expect("by the added port", await get(Number(added?.split(":")[1])), "hello from the guest\n");
  await shell(a.console, "udhcpc -q -n -i eth0 -r 10.0.2.15 -s /bin/true 2>&1 | grep 'lease of 10.0.2.15'");
  return "reset at once, address, forwarded ports, new connections";
});

await Promise.all([a.quit(), b.quit()]);
server.close();
cases.end();
