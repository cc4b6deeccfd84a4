import { expect, test } from "vitest";
import { migrationUri, parseMigrationUri } from "./migration-address.ts";

test.each([
  ["tcp:127.0.0.1:4444", { transport: "tcp", host: "127.0.0.1", port: 4444 }],
  ["tcp::0", { transport: "tcp", host: "", port: 0 }],
  ["tcp:[::1]:1", { transport: "tcp", host: "::1", port: 1 }],
  ["unix:/a b:c", { transport: "unix", path: "/a b:c" }],
  ["file:/a,b", { transport: "file", path: "/a,b", offset: 0 }],
  ["file:/a,offset=0x1000", { transport: "file", path: "/a", offset: 4096 }],
  ["exec:cat > 'a b'", { transport: "exec", command: "cat > 'a b'" }],
])("%s", (uri, address) => {
  const parsed = parseMigrationUri(uri);
  expect(parsed).toEqual(address);
  expect(parseMigrationUri(migrationUri(parsed))).toEqual(parsed);
});

test.each([
  ["nothing", "valid migration protocol"],
  ["tcp:127.0.0.1", "error parsing address '127.0.0.1'"],
  ["tcp:127.0.0.1:x", "error parsing address"],
  ["tcp:127.0.0.1:65536", "up to 65535"],
  ["unix:", "empty"],
  ["file:", "empty"],
  ["file:/a,offset=-1", "number of bytes"],
  ["exec:", "empty"],
  ["fd:3", "file:/dev/fd/N"],
])("%s is refused", (uri, message) => {
  expect(() => parseMigrationUri(uri)).toThrow(message);
});
