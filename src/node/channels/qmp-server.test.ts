import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { fakeMonitor } from "../../../test/support/fake-monitor.ts";
import type { QmpMonitor } from "../../monitor/qmp-monitor.ts";
import { serveQmp } from "./qmp-server.ts";
import { connectOptions, parseSocketAddress, type SocketAddress } from "./socket-server.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-qmp-"));
});
afterEach(() => rm(directory, { recursive: true }));

/** Sends a greeting, then echoes. */
const echo = {
  connect(send: (bytes: Uint8Array) => void) {
    send(Buffer.from("hello\n"));
    return { receive: (bytes: Uint8Array) => send(bytes), close() {} };
  },
} as unknown as QmpMonitor;

function talk(address: SocketAddress, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(connectOptions(address));
    let got = "";
    socket.on("data", (chunk) => {
      got += chunk;
      if (got === `hello\n${text}`) socket.end();
    });
    socket.on("close", () => resolve(got));
    socket.on("error", reject);
    socket.write(text);
  });
}

test.each([
  ["unix:/run/x.sock", { kind: "unix", path: "/run/x.sock" }],
  ["unix:/run/x.sock,server=on,wait=off", { kind: "unix", path: "/run/x.sock" }],
  ["unix:x,server,nowait", { kind: "unix", path: "x" }],
  ["tcp:127.0.0.1:4444", { kind: "tcp", host: "127.0.0.1", port: 4444 }],
  ["tcp::0,server=on", { kind: "tcp", host: "localhost", port: 0 }],
  ["tcp:[::1]:1", { kind: "tcp", host: "::1", port: 1 }],
])("%s", (text, address) => {
  expect(parseSocketAddress(text)).toEqual(address);
});

test.each([
  ["stdio", "expected unix:PATH or tcp:HOST:PORT"],
  ["unix:", "empty"],
  ["unix:/x,wait=on", "not supported"],
  ["unix:/x,foo", "unknown suffix 'foo'"],
  [`unix:/${"x".repeat(120)}`, "at most"],
  ["tcp:0.0.0.0:1", "loopback"],
  ["tcp:127.0.0.1:99999", "above 65535"],
])("%s is refused", (text, message) => {
  expect(() => parseSocketAddress(text)).toThrow(message);
});

test("several clients over a unix socket that only its owner can open; the path is removed afterwards", async () => {
  const address = { kind: "unix", path: join(directory, "qmp") } as const;
  const server = await serveQmp(address, echo);
  expect((await stat(address.path)).mode & 0o777).toBe(0o600);
  expect(await Promise.all([talk(address, "a"), talk(address, "b")])).toEqual(["hello\na", "hello\nb"]);
  await server.close();
  await expect(stat(address.path)).rejects.toThrow("ENOENT");
});

test("an early client waits for its greeting, and its requests are not lost", async () => {
  const address = { kind: "unix", path: join(directory, "qmp") } as const;
  let isReady = () => {};
  const ready = new Promise<void>((resolve) => {
    isReady = resolve;
  });
  const server = await serveQmp(address, echo, ready);
  const early = talk(address, "x");
  let heard: string | undefined;
  void early.then((text) => (heard = text));
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(heard).toBeUndefined();
  isReady();
  expect(await early).toBe("hello\nx");
  await server.close();
});

test("a client that does not read its answers and events is disconnected; the others are served", async () => {
  const sends: ((bytes: Uint8Array) => void)[] = [];
  let closed = 0;
  const busy = {
    connect(send: (bytes: Uint8Array) => void) {
      sends.push(send);
      send(Buffer.from("hello\n"));
      return { receive: (bytes: Uint8Array) => send(bytes), close: () => closed++ };
    },
  } as unknown as QmpMonitor;
  const address = { kind: "unix", path: join(directory, "qmp") } as const;
  const server = await serveQmp(address, busy);
  const deaf = connect({ path: address.path });
  deaf.on("error", () => {});
  deaf.pause();
  await expect.poll(() => sends.length).toBe(1);
  const event = Buffer.alloc(64 * 1024, "e");
  let events = 0;
  for (; closed === 0 && events < 1000; events++) {
    sends[0]?.(event);
    if (events % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  // 8 MiB and what the kernel keeps.
  expect(events * event.length).toBeLessThan(10 << 20);
  expect(await talk(address, "x")).toBe("hello\nx");
  await server.close();
});

test("port 0 selects a free port", async () => {
  const server = await serveQmp({ kind: "tcp", host: "127.0.0.1", port: 0 }, echo);
  expect(await talk(server.address, "x")).toBe("hello\nx");
  await server.close();
});

test("a web page's HTTP request is not served, whatever its body", async () => {
  const server = await serveQmp({ kind: "tcp", host: "127.0.0.1", port: 0 }, echo);
  const body = '{"execute":"qmp_capabilities"}';
  expect(await talk(server.address, `POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\n${body}`)).toBe("hello\n");
  await server.close();
});

test("clients that stop in a request, or send garbage, disturb no other one; the server closes", async () => {
  const { monitor } = fakeMonitor();
  const address = { kind: "unix", path: join(directory, "qmp") } as const;
  const server = await serveQmp(address, monitor);
  const halves = ["", "{", '{"execute": "qmp_capabilities', "\x16\x03\x01\x02", "[".repeat(5000)];
  const clients = halves.flatMap((text) =>
    Array.from({ length: 10 }, () => {
      const socket = connect(address.path)
        .on("error", () => {})
        .resume();
      socket.write(Buffer.from(text, "latin1"));
      return socket;
    }),
  );
  const reply = await new Promise<string>((resolve) => {
    const socket = connect(address.path);
    let got = "";
    socket.on("data", (chunk) => {
      got += chunk;
      if (got.includes('"running"')) resolve(got);
    });
    socket.write('{"execute":"qmp_capabilities"}{"execute":"query-status"}');
    clients.push(socket);
  });
  expect(reply).toContain('"status": "prelaunch"');
  await server.close();
  for (const socket of clients) socket.destroy();
});

test("a stale socket is replaced; a live one and a file are not", async () => {
  const path = join(directory, "qmp");
  const address = { kind: "unix", path } as const;
  const first = await serveQmp(address, echo);
  await expect(serveQmp(address, echo)).rejects.toThrow("another process listens");
  await first.close();
  await leaveStaleSocket(path);
  expect((await stat(path)).isSocket()).toBe(true);
  const second = await serveQmp(address, echo);
  expect(await talk(address, "y")).toBe("hello\ny");
  await second.close();
  await writeFile(path, "");
  await expect(serveQmp(address, echo)).rejects.toThrow("is not a socket");
});

/** A socket file without a listener, as left by a killed process. */
async function leaveStaleSocket(path: string): Promise<void> {
  const { link, unlink } = await import("node:fs/promises");
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(`${path}.live`, resolve));
  await link(`${path}.live`, path);
  await new Promise((resolve) => server.close(resolve));
  await unlink(`${path}.live`).catch(() => {});
}
