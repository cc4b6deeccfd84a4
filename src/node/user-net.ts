// User networks and switches in this process.
import { createWriteStream } from "node:fs";
import { open } from "node:fs/promises";
import type { NetBackend } from "../devices/virtio/net-backend.ts";
import type { ConnectionEvent, OnConnection } from "../usernet/connection-log.ts";
import { EthernetSwitch, plug } from "../usernet/ethernet-switch.ts";
import { UserNetError } from "../usernet/net-rules.ts";
import { SavedNetwork } from "../usernet/saved-network.ts";
import { UserNetwork } from "../usernet/user-network.ts";
import { UserNetworkEnd } from "../usernet/user-network-end.ts";
import type { UserNetOptions } from "../usernet/user-network-options.ts";
import { nodeNetPlatform } from "./net-platform/node-net-platform.ts";
import { SocketNet } from "./net-platform/socket-net.ts";
import { listen } from "./channels/socket-server.ts";
import { listenReason, systemReason } from "./channels/system-reason.ts";
import type { SwitchNetSpec, UserNetSpec } from "./net-platform/net-spec.ts";

/** More guests than this on one switch are turned away. */
const MAX_SOCKETS = 64;
/** Bytes of the log that may wait for the disk; more lines are lost. */
const MAX_UNWRITTEN_LOG = 1 << 20;

/** Opens it with its forwarded ports. Rejects with WherryError; then nothing is left open. */
export function openUserNetwork(options: UserNetOptions = {}): Promise<UserNetwork> {
  return UserNetwork.open(nodeNetPlatform(listenReason), options);
}

interface Opened {
  readonly backend: NetBackend;
  readonly network: UserNetwork | undefined;
  readonly saved: SavedNetwork | UserNetworkEnd | undefined;
  readonly close: () => Promise<void>;
}

export const isUserNetwork = (backend: NetBackend): backend is UserNetwork => backend instanceof UserNetwork;

/** A machine's end of a network that the program has opened. */
export function endOf(network: UserNetwork): Pick<Opened, "backend" | "saved"> {
  const end = new UserNetworkEnd(network);
  return { backend: end, saved: end };
}

/**
 * A user network, or a switch with one. `isAwaiting`: a machine is to arrive from elsewhere, which may have
 * the forwarded ports until then. Rejects with WherryError; then nothing is left open.
 */
export async function openNetwork(
  spec: UserNetSpec | SwitchNetSpec,
  isAwaiting: boolean,
  onWarning?: (message: string) => void,
): Promise<Opened> {
  const log = spec.log === undefined ? undefined : await openLog(spec.log);
  const network =
    spec.user === undefined
      ? undefined
      : await UserNetwork.open(nodeNetPlatform(listenReason), spec.user, isAwaiting);
  network?.onWarning(onWarning);
  network?.onConnection((event) => {
    log?.write(event);
    spec.onConnection?.(event);
  });
  const closeNetwork = async (): Promise<void> => {
    network?.close();
    await log?.close();
  };
  if (!("switch" in spec)) return { ...endOf(network!), network, close: closeNetwork };
  const hub = new EthernetSwitch();
  const own = hub.port();
  if (network !== undefined) plug(network, hub.port());
  network?.joinSwitch((mac) => hub.isAt(own, mac));
  try {
    const server = await serveSwitch(hub, spec.switch);
    const close = async (): Promise<void> => {
      await server.close();
      await closeNetwork();
    };
    return { backend: own, network, saved: network && new SavedNetwork(network), close };
  } catch (error) {
    await closeNetwork();
    throw error;
  }
}

/**
 * Lets others join the switch by a unix socket, with QEMU's framing. Rejects with WherryError if it cannot
 * listen there.
 */
export function serveSwitch(hub: EthernetSwitch, path: string): Promise<{ close(): Promise<void> }> {
  let sockets = 0;
  return listen({ kind: "unix", path }, (socket) => {
    if (sockets >= MAX_SOCKETS) return void socket.destroy();
    sockets++;
    const port = hub.port();
    const net = SocketNet.over(socket, () => {
      sockets--;
      port.close();
    });
    plug(net, port);
  });
}

async function openLog(path: string): Promise<{ write: OnConnection; close(): Promise<void> }> {
  const file = await open(path, "a").catch((cause: unknown) => {
    throw new UserNetError("user-net.log", `log=${path}: ${systemReason(cause)}`, { cause });
  });
  const stream = createWriteStream(path, { fd: file });
  stream.on("error", () => {});
  return {
    write: (event: ConnectionEvent) => {
      if (stream.writableLength > MAX_UNWRITTEN_LOG || stream.destroyed) return;
      stream.write(`${JSON.stringify({ time: new Date().toISOString(), ...event })}\n`);
    },
    close: () =>
      new Promise((resolve) => {
        stream.once("close", resolve);
        if (stream.destroyed) resolve();
        else stream.end();
      }),
  };
}
