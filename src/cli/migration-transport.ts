// How addresses become channels on this host.
import type { MigrationTransport } from "../monitor/migration-service.ts";
import { connectTo, listenAt, openFileSink, openFileSource } from "../node/channels.ts";
import { CliError } from "./cli-error.ts";

export const migrationTransport: MigrationTransport = {
  connect: (address) => connectTo(address),
  listen: (address, onChannel) => listenAt(address, onChannel),
  openSnapshot(path, offset) {
    if (offset !== 0)
      throw new CliError(`file:${path}: an offset other than 0 is not supported, found ${offset}`);
    return openFileSource(path);
  },
  openSink: (path) => openFileSink(path),
};
