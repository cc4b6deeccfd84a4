// Opens channels for migration addresses on this host.
import type { MigrationTransport } from "../../monitor/migration-service.ts";
import { connectTo, listenAt, openFileSink, openFileSinkAt, openFileSource } from "./node-channels.ts";
import { openCommandSink, openCommandSource } from "./command-channels.ts";

export const migrationTransport: MigrationTransport = {
  connect: (address) => connectTo(address),
  listen: (address, onChannel) => listenAt(address, onChannel),
  async openSource(address) {
    if (address.transport === "exec") return openCommandSource(address.command);
    return await openFileSource(address.path, address.offset);
  },
  async openSink(address) {
    if (address.transport === "exec") return openCommandSink(address.command);
    const { path, offset } = address;
    return await (offset === 0 ? openFileSink(path) : openFileSinkAt(path, offset));
  },
};
