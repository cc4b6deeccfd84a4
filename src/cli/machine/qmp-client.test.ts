// The commands' QMP client against servers that are no monitor: one that says nothing, one that says
// something else, one that stops in its greeting.
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, test } from "vitest";
import { QmpClient } from "./qmp-client.ts";

const directory = mkdtempSync(join(tmpdir(), "wherry-qmp-client-"));
const servers: Server[] = [];
afterEach(() => servers.splice(0).forEach((server) => server.close()));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test.each([
  ["nothing", "", /accepts connections and says nothing for 0\.2 s: .*not the address of --qmp/],
  ["half a greeting", '{"QMP": {', /says nothing for 0\.2 s/],
  ["something else", "Welcome to Debian\n", /does not speak QMP/],
])("a server that says %s", async (what, text, message) => {
  const path = join(directory, what);
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    if (text !== "") socket.write(text);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  await expect(QmpClient.connect({ kind: "unix", path }, 200)).rejects.toThrow(message);
  for (const socket of sockets) socket.destroy();
});
