// virtio-net (virtio 1.3 §5.1) with one pair of queues and a control queue over a NetBackend: mergeable
// receive buffers, link status, receive filter, announcement after a move. On a network that can use them,
// checksum and segmentation offload in both directions; else QEMU's device offers the same features on a
// socket. Left out: segmentation of UDP.
import { defineState, u8, u8Array, u16, u32, u64, varStructArray, buffer } from "../../state/schema.ts";
import { VirtioDevice, type VirtioBoard } from "./virtio-device.ts";
import { feature, VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_F_VERSION_1 } from "./virtio-feature-bits.ts";
import {
  type FrameOffload,
  offloadOf,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_TCP,
  wholeFrames,
} from "./frames/frame-segments.ts";
import type { NetBackend } from "./net-backend.ts";
import {
  accepts,
  control,
  GUEST_OFFLOADS,
  HOST_OFFLOADS,
  MAC_TABLE_ENTRIES,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_S_ANNOUNCE,
} from "./virtio-net-control.ts";
import type { VirtioState } from "./virtio-state.ts";
import { type Chain, readSegments, segmentsLength, type Virtqueue, writeSegments } from "./virtqueue.ts";

export const VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = 2;
export const VIRTIO_NET_F_MAC = 5;
export const VIRTIO_NET_F_GSO = 6;
export const VIRTIO_NET_F_MRG_RXBUF = 15;
export const VIRTIO_NET_F_STATUS = 16;
export const VIRTIO_NET_F_CTRL_VQ = 17;
export const VIRTIO_NET_F_CTRL_RX = 18;
export const VIRTIO_NET_F_CTRL_VLAN = 19;
export const VIRTIO_NET_F_CTRL_RX_EXTRA = 20;
export const VIRTIO_NET_F_GUEST_ANNOUNCE = 21;
export const VIRTIO_NET_F_CTRL_MAC_ADDR = 23;

const VIRTIO_NET_S_LINK_UP = 1;
const VIRTIO_NET_OK = 0;
const VIRTIO_NET_ERR = 1;

const RECEIVEQ = 0;
const TRANSMITQ = 1;
const CONTROLQ = 2;
const CONFIG_SIZE = 8;
const MIN_FRAME = 14;
/** The largest frame sent or received: the result of one segmentation offload. */
const MAX_FRAME = 65550;
/** The maximum number of frames that wait for buffers if the backend cannot keep them; more are lost. */
const MAX_WAITING = 256;
/** The largest control message: more than two full MAC tables. */
const MAX_CONTROL = 65536;

const macEntry = defineState("virtio-net-mac", { version: 1 }, { address: u8Array(6) });

const fields = {
  mac: u8Array(6),
  txWaiting: u32,
  mergeableRxBufs: u32,
  netStatus: u16.init(VIRTIO_NET_S_LINK_UP),
  promisc: u8.init(1),
  allmulti: u8,
  macTableInUse: u32.named("mac_table.in_use").range(0, MAC_TABLE_ENTRIES),
  macs: varStructArray(macEntry, "macTableInUse", MAC_TABLE_ENTRIES).named("mac_table.macs"),
  vlans: buffer(512),
  hasVnetHdr: u32.range(0, 0),
  multiOverflow: u8.named("mac_table.multi_overflow"),
  uniOverflow: u8.named("mac_table.uni_overflow"),
  alluni: u8,
  nomulti: u8,
  nouni: u8,
  nobcast: u8,
  hasUfo: u8.range(0, 0),
  currGuestOffloads: u64
    .check((bits) => ((bits & ~GUEST_OFFLOADS) === 0n ? undefined : `bits of ${GUEST_OFFLOADS}`))
    .when((s) => (s.guestFeaturesLow & (1 << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)) !== 0),
};

export type VirtioNetState = VirtioState<typeof fields>;

export interface VirtioNetOptions {
  readonly backend: NetBackend;
  /** 6 bytes; the lowest bit of the first is clear. Default: QEMU's, or that of the state that is loaded. */
  readonly mac?: Uint8Array | undefined;
}

/** QEMU's default address of the first network device; a second guest on the same link needs another one. */
const DEFAULT_MAC = Uint8Array.of(0x52, 0x54, 0x00, 0x12, 0x34, 0x56);

export function macText(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

export class VirtioNet extends VirtioDevice<typeof fields> {
  readonly #backend: NetBackend;
  /** The address that a reset restores. */
  readonly #mac: Uint8Array;
  readonly #isAddressGiven: boolean;
  /** The address of the card that the next load brings, if its stream has it apart from the driver's. */
  #arriving: Uint8Array | undefined;
  /**
   * Frames received and not yet delivered to the guest: not part of the state, as if still on the network.
   */
  readonly #waiting: { readonly frame: Uint8Array; readonly offload: FrameOffload | undefined }[] = [];
  #announce = false;
  /** The header of the frame that is being delivered, or sent. */
  readonly #header = new DataView(new ArrayBuffer(12));

  constructor(board: VirtioBoard, options: VirtioNetOptions) {
    super(board, {
      deviceId: 1,
      name: "virtio-net",
      version: 11,
      fields,
      features:
        feature(
          VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
          VIRTIO_NET_F_MAC,
          VIRTIO_NET_F_GSO,
          VIRTIO_NET_F_MRG_RXBUF,
        ) |
        feature(VIRTIO_NET_F_STATUS, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_VLAN) |
        feature(VIRTIO_NET_F_CTRL_RX_EXTRA, VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_NET_F_CTRL_MAC_ADDR) |
        (options.backend.setOffloads === undefined ? 0n : GUEST_OFFLOADS | HOST_OFFLOADS),
      // A guest that came from a network with them finds that nothing is left to it here, and what it leaves
      // to the card is done here.
      accepted: GUEST_OFFLOADS | HOST_OFFLOADS,
      queues: [
        { name: "receiveq", size: 256 },
        { name: "transmitq", size: 256 },
        { name: "controlq", size: 64 },
      ],
      configSize: CONFIG_SIZE,
    });
    this.#backend = options.backend;
    this.#isAddressGiven = options.mac !== undefined;
    this.#mac = (options.mac ?? DEFAULT_MAC).slice();
    this.state.mac.set(this.#mac);
    this.state.vlans.fill(0xff);
    this.#backend.onFrame((frame, offload) => this.#arrived(frame, offload));
    this.#backend.onWritable?.(() => this.notify(TRANSMITQ));
  }

  /** The address was chosen by the user. */
  get isAddressGiven(): boolean {
    return this.#isAddressGiven;
  }
  /** The card's own address; the guest may use another. */
  get address(): Uint8Array {
    return this.#mac.slice();
  }
  /** The state to be loaded is that of a card with this address. */
  expectAddress(mac: Uint8Array): void {
    this.#arriving = mac;
  }

  protected override checkDevice({ mac }: VirtioNetState): string | undefined {
    if (this.#arriving !== undefined || !this.isAddressGiven || macText(mac) === macText(this.#mac))
      return undefined;
    return `its address is ${macText(mac)}, this device was given ${macText(this.#mac)}: leave mac= out`;
  }

  protected override fillConfig(config: DataView): void {
    for (const [i, byte] of this.state.mac.entries()) config.setUint8(i, byte);
    config.setUint16(6, this.state.netStatus, true);
  }

  /** §5.1.4.2: without CTRL_MAC_ADDR, a legacy driver sets the address here. */
  protected override configWritten(): void {
    if (!this.has(VIRTIO_F_VERSION_1)) this.state.mac.set(this.state.config.subarray(0, 6));
  }

  protected override featuresChanged(): void {
    this.state.mergeableRxBufs = this.has(VIRTIO_NET_F_MRG_RXBUF) ? 1 : 0;
    // Without the command, every VLAN is accepted.
    if (!this.has(VIRTIO_NET_F_CTRL_VLAN)) this.state.vlans.fill(0xff);
    else if (!this.state.started) this.state.vlans.fill(0);
    if (!this.state.started) this.state.currGuestOffloads = this.state.guestFeatures & GUEST_OFFLOADS;
    this.#tellOffloads();
  }

  /** Tells the network what the driver takes now. */
  #tellOffloads(): void {
    const { currGuestOffloads } = this.state;
    const has = (bit: number): boolean => (currGuestOffloads & feature(bit)) !== 0n;
    const checksum = has(VIRTIO_NET_F_GUEST_CSUM);
    const [v4, v6] = [has(VIRTIO_NET_F_GUEST_TSO4), has(VIRTIO_NET_F_GUEST_TSO6)];
    this.#backend.setOffloads?.({ checksum, segments: { 4: checksum && v4, 6: checksum && v6 } });
  }

  protected override onReset(): void {
    const { state } = this;
    state.mac.set(this.#mac);
    Object.assign(state, { promisc: 1, allmulti: 0, alluni: 0, nomulti: 0, nouni: 0, nobcast: 0 });
    Object.assign(state, { macTableInUse: 0, macs: [], multiOverflow: 0, uniOverflow: 0 });
    state.netStatus = VIRTIO_NET_S_LINK_UP;
    state.txWaiting = 0;
    this.#waiting.length = 0;
    this.#backend.setReceiving?.(true);
  }

  protected override handleQueue(index: number): void {
    if (index === RECEIVEQ) this.#receive();
    else if (index === TRANSMITQ) this.#transmit(this.queue(TRANSMITQ));
    else if (index === CONTROLQ) this.serveAll(this.queue(CONTROLQ), (chain) => this.#control(chain));
  }

  /** §5.1.6.1: num_buffers exists in modern devices and with mergeable buffers. */
  get #headerBytes(): number {
    return this.has(VIRTIO_F_VERSION_1) || this.has(VIRTIO_NET_F_MRG_RXBUF) ? 12 : 10;
  }

  /** Sends the queue's frames until the network is full. QEMU's tx_waiting tells that some wait. */
  #transmit(queue: Virtqueue): void {
    this.state.txWaiting = 0;
    this.serveAll(queue, (chain) => {
      if (this.#backend.writable !== false) return this.#send(chain);
      queue.unpop(1);
      this.state.txWaiting = 1;
      return undefined;
    });
  }

  #send(chain: Chain): number {
    const length = segmentsLength(chain.readable) - this.#headerBytes;
    if (length >= MIN_FRAME && length <= MAX_FRAME) {
      // The backend may keep it.
      const frame = new Uint8Array(length);
      readSegments(this.board.memory, chain.readable, frame, this.#headerBytes);
      if (this.has(VIRTIO_NET_F_CSUM)) this.#sendOffloaded(chain, frame);
      else this.#backend.send(frame);
    }
    return 0;
  }

  #sendOffloaded(chain: Chain, frame: Uint8Array): void {
    const header = this.#header;
    readSegments(this.board.memory, chain.readable, new Uint8Array(header.buffer, 0, this.#headerBytes));
    const offload = offloadOf(header, frame);
    if (offload === "invalid") return;
    if (offload === undefined || this.#backend.setOffloads !== undefined)
      return this.#backend.send(frame, offload);
    for (const each of wholeFrames(frame, offload)) this.#backend.send(each);
  }

  #control(chain: Chain): number {
    const message = new Uint8Array(Math.min(MAX_CONTROL, segmentsLength(chain.readable)));
    readSegments(this.board.memory, chain.readable, message);
    const done = control(this.state, message);
    this.#tellOffloads();
    return writeSegments(
      this.board.memory,
      chain.writable,
      Uint8Array.of(done ? VIRTIO_NET_OK : VIRTIO_NET_ERR),
    );
  }

  #arrived(frame: Uint8Array, offload: FrameOffload | undefined): void {
    if (frame.length < MIN_FRAME || frame.length > MAX_FRAME || this.#waiting.length >= MAX_WAITING) return;
    this.#waiting.push({ frame, offload });
    this.notify(RECEIVEQ);
    if (this.#waiting.length > 0) this.#backend.setReceiving?.(false);
  }

  #receive(): void {
    const queue = this.queue(RECEIVEQ);
    let delivered = false;
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      // What came for a driver that took more than this one is lost.
      const isTaken = first.offload === undefined || this.has(VIRTIO_NET_F_GUEST_CSUM);
      if (isTaken && accepts(this.state, first.frame)) {
        if (!this.#deliver(queue, first.frame, first.offload)) break;
        delivered = true;
      }
      this.#waiting.shift();
    }
    if (delivered) this.interrupt(queue);
    if (this.#waiting.length === 0) this.#backend.setReceiving?.(true);
  }

  /**
   * Writes one frame to as many buffers as it needs (§5.1.6.4). Returns false, and takes none, if there are
   * too few.
   */
  #deliver(queue: Virtqueue, frame: Uint8Array, offload: FrameOffload | undefined): boolean {
    const { memory } = this.board;
    const header = new Uint8Array(this.#header.buffer, 0, this.#headerBytes);
    const length = header.length + frame.length;
    const mergeable = this.has(VIRTIO_NET_F_MRG_RXBUF);
    const chains: Chain[] = [];
    let room = 0;
    while (room < length && (chains.length === 0 || mergeable)) {
      const chain = queue.pop();
      if (chain === undefined) {
        if (!this.broken) queue.unpop(chains.length);
        return false;
      }
      chains.push(chain);
      room += segmentsLength(chain.writable);
      if (segmentsLength(chain.writable) < header.length) {
        this.needsReset(
          `queue ${RECEIVEQ}: a receive buffer smaller than the ${header.length} bytes of the header`,
        );
        return false;
      }
    }
    if (room < length) {
      // Too large for a driver without mergeable buffers: dropped.
      queue.unpop(1);
      return true;
    }
    this.#fillHeader(offload, chains.length);
    let done = 0;
    for (const [i, chain] of chains.entries()) {
      const before = i === 0 ? writeSegments(memory, chain.writable, header) : 0;
      const written = writeSegments(memory, chain.writable, frame.subarray(done), before);
      queue.fill(chain, before + written, i);
      done += written;
    }
    queue.publish(chains.length);
    return true;
  }

  #fillHeader(offload: FrameOffload | undefined, buffers: number): void {
    const header = this.#header;
    const segmentBytes = offload?.segmentBytes ?? 0;
    header.setUint8(0, offload === undefined ? 0 : VIRTIO_NET_HDR_F_NEEDS_CSUM);
    header.setUint8(
      1,
      offload === undefined || segmentBytes === 0 ? 0 : VIRTIO_NET_HDR_GSO_TCP[offload.family],
    );
    header.setUint16(2, segmentBytes === 0 ? 0 : (offload?.headerBytes ?? 0), true);
    header.setUint16(4, segmentBytes, true);
    header.setUint16(6, offload?.sumStart ?? 0, true);
    header.setUint16(8, offload?.sumOffset ?? 0, true);
    header.setUint16(10, buffers, true);
  }

  /** Announces the guest's new place to the switches (§5.1.6.5.4). */
  protected override loaded(): void {
    if (this.#arriving !== undefined || !this.isAddressGiven) this.#mac.set(this.#arriving ?? this.state.mac);
    this.#arriving = undefined;
    // Without the command for it, the stream does not have this.
    if (!this.has(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
      this.state.currGuestOffloads = this.state.guestFeatures & GUEST_OFFLOADS;
    this.#tellOffloads();
    const up = (this.state.status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0;
    this.#announce = up && this.has(VIRTIO_NET_F_GUEST_ANNOUNCE) && this.has(VIRTIO_NET_F_CTRL_VQ);
  }
  protected override resume(): void {
    if (!this.#announce) return;
    this.#announce = false;
    this.state.netStatus |= VIRTIO_NET_S_ANNOUNCE;
    this.configChanged();
  }
}
