// What a machine's network card is connected to, as a program or the command line says it.
import type { NetBackend } from "../../devices/virtio/net-backend.ts";
import type { OnConnection } from "../../usernet/connection-log.ts";
import type { UserNetOptions } from "../../usernet/user-network-options.ts";

/**
 * One end of a link: Ethernet frames over TCP or a unix socket, as QEMU's `-netdev socket` and `-netdev
 * stream`, and passt.
 */
export type SocketNetSpec = {
  /** Six bytes. Default: 52:54:00:12:34:56, or that of the state that is loaded. */
  readonly mac?: Uint8Array | undefined;
  /** Which end accepts the connection; the other one tries until it is there. */
  readonly mode: "listen" | "connect";
} & (
  | {
      /** The address to listen on or to connect to. The wire is not encrypted: use loopback or a tunnel. */
      readonly host: string;
      /** TCP port; 0 listens on any free one. */
      readonly port: number;
      readonly path?: undefined;
    }
  | {
      /** A unix socket. */
      readonly path: string;
      readonly host?: undefined;
      readonly port?: undefined;
    }
);

/** The outside, through this process: no privilege, no second program. docs/networking.md */
export interface UserNetSpec {
  /** Six bytes. Default: 52:54:00:12:34:56, or that of the state that is loaded. */
  readonly mac?: Uint8Array | undefined;
  readonly user: UserNetOptions;
  /** A file to which each connection and refusal is appended, a line of JSON each. */
  readonly log?: string | undefined;
  /** Hears of each connection and refusal. */
  readonly onConnection?: OnConnection | undefined;
}

/**
 * A switch that others join by `mode: "connect"` with its path: machines, QEMU, passt. With `user`, a user
 * network is on it too.
 */
export interface SwitchNetSpec extends Partial<UserNetSpec> {
  /** The path of its unix socket. */
  readonly switch: string;
}

/** A network of the program's own: `openUserNetwork`'s, a port of an `EthernetSwitch`. It is not closed. */
export interface BackendNetSpec {
  /** Six bytes. Default: 52:54:00:12:34:56, or that of the state that is loaded. */
  readonly mac?: Uint8Array | undefined;
  readonly backend: NetBackend;
}

/** What a machine's network card is connected to. */
export type NetSpec = SocketNetSpec | UserNetSpec | SwitchNetSpec | BackendNetSpec;
