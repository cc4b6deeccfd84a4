// The ends of connections, and where these are: what a saved machine knows of them.
import { ipText } from "../wire/ip-address.ts";
import { u16 } from "../wire/packet.ts";

/** Two ends as the guest sees them. Addresses have four or sixteen bytes. */
export interface Ends {
  readonly guest: Uint8Array;
  readonly guestPort: number;
  readonly remote: Uint8Array;
  readonly remotePort: number;
}

/** Sequence numbers of a TCP connection, as the network has them. */
export interface TcpPosition {
  /** Behind the last byte that was sent to the guest, and that it has acknowledged. */
  readonly sent: number;
  readonly acked: number;
  /** Behind the last byte that came from the guest. */
  readonly expected: number;
}

/** A guest's port for datagrams; `hostPort`: that of the host's socket, 0 if it is not known. */
export interface DatagramEnds extends Ends {
  readonly hostPort: number;
}

/** Who has sent to a forwarded port for datagrams, by how the guest sees it; `address`: as the host does. */
export interface ForwardPeer extends DatagramEnds {
  readonly address: Uint8Array;
}

/** As messages have it. */
export const placeText = (address: Uint8Array, port: number): string =>
  address.length === 4 ? `${ipText(address)}:${port}` : `[${ipText(address)}]:${port}`;

/** A key for a map. */
export function flowKey(
  guest: Uint8Array,
  guestPort: number,
  remote: Uint8Array,
  remotePort: number,
): string {
  let key = String.fromCharCode(guestPort, remotePort);
  for (let i = 0; i < guest.length; i += 2) key += String.fromCharCode(u16(guest, i), u16(remote, i));
  return key;
}
