// The receive filter of virtio-net and the control commands that set it (virtio 1.3 §5.1.6.5): promiscuous
// modes, MAC tables, VLAN filter, MAC address, announce acknowledgement, offloads.
import { feature } from "./virtio-feature-bits.ts";
import type { VirtioNetState } from "./virtio-net.ts";

const VIRTIO_NET_CTRL_RX = 0;
const VIRTIO_NET_CTRL_MAC = 1;
const VIRTIO_NET_CTRL_MAC_TABLE_SET = 0;
const VIRTIO_NET_CTRL_MAC_ADDR_SET = 1;
const VIRTIO_NET_CTRL_VLAN = 2;
const VIRTIO_NET_CTRL_VLAN_ADD = 0;
const VIRTIO_NET_CTRL_VLAN_DEL = 1;
const VIRTIO_NET_CTRL_ANNOUNCE = 3;
const VIRTIO_NET_CTRL_GUEST_OFFLOADS = 5;

export const VIRTIO_NET_F_CSUM = 0;
export const VIRTIO_NET_F_GUEST_CSUM = 1;
export const VIRTIO_NET_F_GUEST_TSO4 = 7;
export const VIRTIO_NET_F_GUEST_TSO6 = 8;
export const VIRTIO_NET_F_HOST_TSO4 = 11;
export const VIRTIO_NET_F_HOST_TSO6 = 12;
export const VIRTIO_NET_F_HOST_ECN = 13;
/** What the guest's kernel can be left to do with frames that arrive. */
export const GUEST_OFFLOADS: bigint =
  feature(VIRTIO_NET_F_GUEST_CSUM) | feature(VIRTIO_NET_F_GUEST_TSO4) | feature(VIRTIO_NET_F_GUEST_TSO6);
/** What the guest's kernel can leave to the card with frames that it sends. */
export const HOST_OFFLOADS: bigint =
  feature(VIRTIO_NET_F_CSUM) | feature(VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN);

export const VIRTIO_NET_S_ANNOUNCE = 2;
export const MAC_TABLE_ENTRIES = 64;
const MAC_BYTES = 6;
const MAX_VLAN = 4096;
const ETHERTYPE_VLAN = 0x8100;

/** CTRL_RX commands by number. */
const RX_MODES = ["promisc", "allmulti", "alluni", "nomulti", "nouni", "nobcast"] as const;

/** Executes a command: class, command and data as the driver sent them. Returns false for VIRTIO_NET_ERR. */
export function control(state: VirtioNetState, message: Uint8Array): boolean {
  const [kind, command] = message;
  const data = message.subarray(2);
  switch (kind) {
    case VIRTIO_NET_CTRL_RX:
      return setRxMode(state, command, data);
    case VIRTIO_NET_CTRL_MAC:
      if (command === VIRTIO_NET_CTRL_MAC_TABLE_SET) return setMacTable(state, data);
      if (command !== VIRTIO_NET_CTRL_MAC_ADDR_SET || data.length !== MAC_BYTES) return false;
      state.mac.set(data);
      return true;
    case VIRTIO_NET_CTRL_VLAN:
      return setVlan(state, command, data);
    case VIRTIO_NET_CTRL_ANNOUNCE:
      if (command !== 0 || (state.netStatus & VIRTIO_NET_S_ANNOUNCE) === 0) return false;
      state.netStatus &= ~VIRTIO_NET_S_ANNOUNCE;
      return true;
    case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
      return command === 0 && setOffloads(state, data);
    default:
      return false;
  }
}

/** le64: some of the offloads that were negotiated. */
function setOffloads(state: VirtioNetState, data: Uint8Array): boolean {
  if (data.length !== 8) return false;
  const wanted = new DataView(data.buffer, data.byteOffset, 8).getBigUint64(0, true);
  if ((wanted & ~(state.guestFeatures & GUEST_OFFLOADS)) !== 0n) return false;
  state.currGuestOffloads = wanted;
  return true;
}

function setRxMode(state: VirtioNetState, command = -1, data: Uint8Array): boolean {
  const mode = RX_MODES[command];
  const [on] = data;
  if (mode === undefined || on === undefined) return false;
  state[mode] = on === 0 ? 0 : 1;
  return true;
}

/**
 * Two tables, unicast then multicast: le32 count, then the addresses. A table that does not fit is marked as
 * overflowed.
 */
function setMacTable(state: VirtioNetState, data: Uint8Array): boolean {
  const unicast = macList(data);
  const multicast = unicast && macList(data.subarray(4 + unicast.length * MAC_BYTES));
  if (unicast === undefined || multicast === undefined) return false;
  state.uniOverflow = unicast.length > MAC_TABLE_ENTRIES ? 1 : 0;
  const kept = state.uniOverflow ? [] : unicast;
  state.multiOverflow = kept.length + multicast.length > MAC_TABLE_ENTRIES ? 1 : 0;
  state.macs = [...kept, ...(state.multiOverflow ? [] : multicast)].map((address) => ({ address }));
  state.macTableInUse = state.macs.length;
  return true;
}

function macList(data: Uint8Array): Uint8Array[] | undefined {
  if (data.length < 4) return undefined;
  const count = new DataView(data.buffer, data.byteOffset, 4).getUint32(0, true);
  if (count * MAC_BYTES > data.length - 4) return undefined;
  return Array.from({ length: count }, (_, i) => data.slice(4 + i * MAC_BYTES, 4 + (i + 1) * MAC_BYTES));
}

function setVlan(state: VirtioNetState, command = -1, data: Uint8Array): boolean {
  const id = (data[0] ?? 0) | ((data[1] ?? 0) << 8);
  if (data.length !== 2 || id >= MAX_VLAN) return false;
  // QEMU stores 32-bit words in host order: on a little-endian host bit n is in byte n / 8.
  const byte = state.vlans[id >> 3] ?? 0;
  if (command === VIRTIO_NET_CTRL_VLAN_ADD) state.vlans[id >> 3] = byte | (1 << (id & 7));
  else if (command === VIRTIO_NET_CTRL_VLAN_DEL) state.vlans[id >> 3] = byte & ~(1 << (id & 7));
  else return false;
  return true;
}

/** True if the filter accepts `frame`. */
export function accepts(state: VirtioNetState, frame: Uint8Array): boolean {
  if (state.promisc) return true;
  if (((frame[12] ?? 0) << 8) + (frame[13] ?? 0) === ETHERTYPE_VLAN) {
    const id = (((frame[14] ?? 0) & 0x0f) << 8) | (frame[15] ?? 0);
    if (((state.vlans[id >> 3] ?? 0) & (1 << (id & 7))) === 0) return false;
  }
  const address = frame.subarray(0, MAC_BYTES);
  if ((frame[0] ?? 0) & 1) {
    if (address.every((byte) => byte === 0xff)) return state.nobcast === 0;
    if (state.nomulti) return false;
    return state.allmulti !== 0 || state.multiOverflow !== 0 || inTable(state, address);
  }
  if (state.nouni) return false;
  return state.alluni !== 0 || state.uniOverflow !== 0 || same(state.mac, address) || inTable(state, address);
}

function inTable(state: VirtioNetState, address: Uint8Array): boolean {
  return state.macs.some((mac) => same(mac.address, address));
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, i) => byte === b[i]);
}
