// virtio-blk (virtio 1.3 §5.2) over a BlockBackend: read, write, flush, get-id, discard, write-zeroes,
// several queues, write-back and write-through. Secure erase, lifetime, zoned disks and the SCSI pass-through
// of legacy drivers return VIRTIO_BLK_S_UNSUPP.
import type { BlockBackend } from "./block-backend.ts";
import { blkFields, type BlkRequest } from "./virtio-blk-state.ts";
import { VirtioDevice, type VirtioBoard } from "./virtio-device.ts";
import { feature, VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_F_ANY_LAYOUT } from "./virtio-feature-bits.ts";
import type { VirtioState } from "./virtio-state.ts";
import { type Chain, chainProblem, readSegments, segmentsLength, writeSegments } from "./virtqueue.ts";
import { encodeUtf8 } from "../../base/text.ts";

export const VIRTIO_BLK_F_SEG_MAX = 2;
export const VIRTIO_BLK_F_GEOMETRY = 4;
export const VIRTIO_BLK_F_RO = 5;
export const VIRTIO_BLK_F_BLK_SIZE = 6;
export const VIRTIO_BLK_F_SCSI = 7;
export const VIRTIO_BLK_F_FLUSH = 9;
export const VIRTIO_BLK_F_TOPOLOGY = 10;
export const VIRTIO_BLK_F_CONFIG_WCE = 11;
export const VIRTIO_BLK_F_MQ = 12;
export const VIRTIO_BLK_F_DISCARD = 13;
export const VIRTIO_BLK_F_WRITE_ZEROES = 14;

export const VIRTIO_BLK_T_IN = 0;
export const VIRTIO_BLK_T_OUT = 1;
export const VIRTIO_BLK_T_FLUSH = 4;
export const VIRTIO_BLK_T_GET_ID = 8;
export const VIRTIO_BLK_T_DISCARD = 11;
export const VIRTIO_BLK_T_WRITE_ZEROES = 13;

export const VIRTIO_BLK_S_OK = 0;
export const VIRTIO_BLK_S_IOERR = 1;
export const VIRTIO_BLK_S_UNSUPP = 2;

const SECTOR = 512;
const QUEUE_SIZE = 256;
const SEG_MAX = QUEUE_SIZE - 2;
/** QEMU's limit for one request. */
const MAX_SECTORS = 0x3fffff;
const ID_BYTES = 20;
const HEADER_BYTES = 16;
const RANGE_BYTES = 16;
const CONFIG_SIZE = 57;
const CONFIG_WRITEBACK = 32;
/** The piece size of a transfer, so that a request of any size allocates no more. */
const PIECE_BYTES = 1 << 20;
/** The same for transfers that are done at once: it stays in the host's cache. */
const NOW_BYTES = 1 << 17;
/** Buffers of PIECE_BYTES that are kept, since new ones are zeroed and collected. */
const KEPT_BUFFERS = 4;
/** Requests that run concurrently. */
const MAX_RUNNING = 32;

export interface VirtioBlkOptions {
  readonly backend: BlockBackend;
  /** At most 20 bytes of ASCII. */
  readonly serial?: string;
  /** Request queues, 1 to 64. Default: 1. */
  readonly queues?: number;
}

type BlkFields = ReturnType<typeof blkFields>;

export class VirtioBlk extends VirtioDevice<BlkFields> {
  readonly #backend: BlockBackend;
  readonly #serial: string;
  /** Requests in the state's list that have not started. */
  readonly #waiting: BlkRequest[] = [];
  #running = 0;
  /**
   * Running requests that a reset has cancelled. New requests wait for them, so that they reach the disk in
   * order.
   */
  #cancelled = 0;
  readonly #settled: (() => void)[] = [];
  readonly #header = new DataView(new ArrayBuffer(HEADER_BYTES));
  readonly #now = new Uint8Array(NOW_BYTES);
  readonly #buffers: Uint8Array[] = [];
  /** The driver's choice in `writeback` (CONFIG_WCE); a cache of the configuration space. */
  #writeback = true;

  constructor(board: VirtioBoard, options: VirtioBlkOptions) {
    const queues = options.queues ?? 1;
    super(board, {
      deviceId: 2,
      name: "virtio-blk",
      version: 2,
      fields: blkFields(queues),
      features:
        feature(VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_GEOMETRY, VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH) |
        feature(VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_CONFIG_WCE) |
        feature(VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES) |
        (options.backend.readonly ? feature(VIRTIO_BLK_F_RO) : 0n) |
        (queues > 1 ? feature(VIRTIO_BLK_F_MQ) : 0n) |
        (board.legacy ? feature(VIRTIO_BLK_F_SCSI) : 0n),
      // As in QEMU: a legacy driver puts its header in one descriptor.
      withheld: board.legacy ? feature(VIRTIO_F_ANY_LAYOUT) : 0n,
      queues: Array.from({ length: queues }, (_, i) => ({ name: `requestq${i}`, size: QUEUE_SIZE })),
      configSize: CONFIG_SIZE,
    });
    this.#backend = options.backend;
    // A bus acknowledges the device before it has a driver.
    this.#backend.isDriven = () => (this.state.status & ~VIRTIO_CONFIG_S_ACKNOWLEDGE) !== 0;
    this.#serial = options.serial ?? "";
  }

  get #sectors(): number {
    return Math.floor(this.#backend.sizeBytes / SECTOR);
  }

  /** True if writes are durable only after a flush (§5.2.5.1, §5.2.6.2). */
  get #isWriteback(): boolean {
    return this.has(VIRTIO_BLK_F_CONFIG_WCE) ? this.#writeback : this.has(VIRTIO_BLK_F_FLUSH);
  }

  /** The backend has another size: tells the driver. */
  resized(): void {
    this.configChanged();
  }

  protected override fillConfig(config: DataView): void {
    config.setBigUint64(0, BigInt(this.#sectors), true);
    config.setUint32(12, SEG_MAX, true);
    const cylinders = Math.floor(this.#sectors / (16 * 63));
    config.setUint16(16, Math.min(16383, Math.max(2, cylinders)), true);
    config.setUint8(18, 16);
    config.setUint8(19, 63);
    config.setUint32(20, SECTOR, true);
    config.setUint8(CONFIG_WRITEBACK, this.#isWriteback ? 1 : 0);
    config.setUint16(34, this.queues.length, true);
    config.setUint32(36, MAX_SECTORS, true); // max_discard_sectors, max_discard_seg, discard_sector_alignment
    config.setUint32(40, 1, true);
    config.setUint32(44, 1, true);
    config.setUint32(48, MAX_SECTORS, true); // max_write_zeroes_sectors, max_write_zeroes_seg, may_unmap
    config.setUint32(52, 1, true);
    config.setUint8(56, 1);
  }

  protected override configWritten(): void {
    this.#writeback = this.state.config[CONFIG_WRITEBACK] !== 0;
  }

  protected override onReset(): void {
    this.#writeback = true;
    this.#cancel(() => true);
  }
  protected override onQueueReset(index: number): void {
    this.#cancel((request) => request.queue === index);
  }

  /** Removes requests. Running ones may still reach the disk, but never guest memory. */
  #cancel(which: (request: BlkRequest) => boolean): void {
    const { requests } = this.state;
    const waiting = this.#waiting.filter(which).length;
    this.#cancelled += requests.filter(which).length - waiting;
    for (const list of [requests, this.#waiting]) {
      list.splice(0, list.length, ...list.filter((r) => !which(r)));
    }
  }

  protected override handleQueue(index: number): void {
    const queue = this.queue(index);
    let served = 0;
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const lengths = [segmentsLength(chain.readable), segmentsLength(chain.writable)] as const;
      if (lengths[0] < HEADER_BYTES || lengths[1] < 1) {
        this.needsReset(`queue ${index}: a request of ${lengths[0]} bytes with ${lengths[1]} for the answer`);
        break;
      }
      if (this.#executeNow(chain)) {
        const statusAt = lengths[1] - 1;
        writeSegments(this.board.memory, chain.writable, Uint8Array.of(VIRTIO_BLK_S_OK), statusAt);
        queue.push(chain, statusAt + 1);
        if (++served < queue.state.num) continue;
        // The driver adds requests as fast as they are served: other events have their turn.
        this.board.defer(() => this.notify(index));
        break;
      }
      const request = { queue: index, ...chain };
      this.state.requests.push(request);
      this.#waiting.push(request);
    }
    if (served > 0) this.interrupt(queue);
    if (served > 0 && this.state.requests.length === 0) this.board.expectMore?.();
    this.#startWaiting();
  }

  /** Reads or writes, if the backend can do that without a wait. False: nothing of the answer is there. */
  #executeNow(chain: Chain): boolean {
    const { memory } = this.board;
    const backend = this.#backend;
    if (this.#waiting.length > 0 || this.#cancelled > 0) return false;
    readSegments(memory, chain.readable, new Uint8Array(this.#header.buffer));
    const type = this.#header.getUint32(0, true);
    const isRead = type === VIRTIO_BLK_T_IN && backend.readNow !== undefined;
    const isWrite = type === VIRTIO_BLK_T_OUT && backend.writeNow !== undefined && this.#isWriteback;
    if (!isRead && (!isWrite || backend.readonly)) return false;
    const offset = Number(this.#header.getBigUint64(8, true)) * SECTOR;
    const length = isRead
      ? segmentsLength(chain.writable) - 1
      : segmentsLength(chain.readable) - HEADER_BYTES;
    if (length > PIECE_BYTES || !this.#inRange(offset, length)) return false;
    for (let done = 0; done < length; done += NOW_BYTES) {
      const piece = this.#now.subarray(0, length - done);
      if (isRead) {
        if (backend.readNow?.(offset + done, piece) !== true) return false;
        writeSegments(memory, chain.writable, piece, done);
      } else {
        readSegments(memory, chain.readable, piece, HEADER_BYTES + done);
        if (backend.writeNow?.(offset + done, piece) !== true) return false;
      }
    }
    return true;
  }

  #startWaiting(): void {
    while (this.#cancelled === 0 && this.#running < MAX_RUNNING) {
      const request = this.#waiting.shift();
      if (request === undefined) break;
      this.#running++;
      void this.#run(request);
    }
  }

  async #run(request: BlkRequest): Promise<void> {
    let status: number;
    try {
      status = await this.#execute(request);
    } catch {
      status = VIRTIO_BLK_S_IOERR;
    }
    this.#running--;
    if (this.#isLive(request)) this.#complete(request, status);
    else this.#cancelled--;
    this.#startWaiting();
    if (this.#running === 0 && this.#waiting.length === 0) for (const done of this.#settled.splice(0)) done();
  }

  /** False after a reset has cancelled it: guest memory must not be touched any more. */
  #isLive(request: BlkRequest): boolean {
    return this.state.requests.includes(request);
  }

  #complete(request: BlkRequest, status: number): void {
    const { requests } = this.state;
    requests.splice(requests.indexOf(request), 1);
    if (this.broken) return;
    const statusAt = segmentsLength(request.writable) - 1;
    writeSegments(this.board.memory, request.writable, Uint8Array.of(status), statusAt);
    const queue = this.queue(request.queue);
    queue.push(request, statusAt + 1);
    this.interrupt(queue);
  }

  async #execute(request: BlkRequest): Promise<number> {
    const header = new DataView(new ArrayBuffer(HEADER_BYTES));
    readSegments(this.board.memory, request.readable, new Uint8Array(header.buffer));
    const type = header.getUint32(0, true);
    const offset = Number(header.getBigUint64(8, true)) * SECTOR;
    switch (type) {
      case VIRTIO_BLK_T_IN:
        return await this.#read(request, offset);
      case VIRTIO_BLK_T_OUT:
        return await this.#write(request, offset);
      case VIRTIO_BLK_T_FLUSH:
        await this.#backend.flush();
        return VIRTIO_BLK_S_OK;
      case VIRTIO_BLK_T_GET_ID:
        return this.#getId(request);
      case VIRTIO_BLK_T_DISCARD:
      case VIRTIO_BLK_T_WRITE_ZEROES:
        return await this.#clear(request, type);
      default:
        return VIRTIO_BLK_S_UNSUPP;
    }
  }

  /** True if the range is whole sectors, all of them on the disk. */
  #inRange(offset: number, length: number): boolean {
    return length % SECTOR === 0 && offset + length <= this.#sectors * SECTOR;
  }

  async #read(request: BlkRequest, offset: number): Promise<number> {
    const length = segmentsLength(request.writable) - 1;
    if (!this.#inRange(offset, length)) return VIRTIO_BLK_S_IOERR;
    const buffer = this.#takeBuffer(length);
    for (let done = 0; done < length; done += buffer.length) {
      const piece = buffer.subarray(0, length - done);
      await this.#backend.read(offset + done, piece);
      if (!this.#isLive(request)) break;
      writeSegments(this.board.memory, request.writable, piece, done);
    }
    this.#keepBuffer(buffer);
    return VIRTIO_BLK_S_OK;
  }

  async #write(request: BlkRequest, offset: number): Promise<number> {
    const length = segmentsLength(request.readable) - HEADER_BYTES;
    if (this.#backend.readonly || !this.#inRange(offset, length)) return VIRTIO_BLK_S_IOERR;
    const buffer = this.#takeBuffer(length);
    for (let done = 0; done < length && this.#isLive(request); done += buffer.length) {
      const piece = buffer.subarray(0, length - done);
      readSegments(this.board.memory, request.readable, piece, HEADER_BYTES + done);
      await this.#backend.write(offset + done, piece);
    }
    this.#keepBuffer(buffer);
    if (!this.#isWriteback) await this.#backend.flush();
    return VIRTIO_BLK_S_OK;
  }

  /** Of at most PIECE_BYTES, with any contents. */
  #takeBuffer(length: number): Uint8Array {
    if (length <= NOW_BYTES) return new Uint8Array(length);
    return this.#buffers.pop() ?? new Uint8Array(PIECE_BYTES);
  }

  #keepBuffer(buffer: Uint8Array): void {
    if (buffer.length === PIECE_BYTES && this.#buffers.length < KEPT_BUFFERS) this.#buffers.push(buffer);
  }

  #getId(request: BlkRequest): number {
    const id = new Uint8Array(Math.min(ID_BYTES, segmentsLength(request.writable) - 1));
    id.set(encodeUtf8(this.#serial).subarray(0, id.length));
    writeSegments(this.board.memory, request.writable, id);
    return VIRTIO_BLK_S_OK;
  }

  /** Discard or write zeroes: one range (§5.2.6, max_*_seg is 1). */
  async #clear(request: BlkRequest, type: number): Promise<number> {
    const range = new DataView(new ArrayBuffer(RANGE_BYTES));
    const given = segmentsLength(request.readable) - HEADER_BYTES;
    if (this.#backend.readonly || given !== RANGE_BYTES) return VIRTIO_BLK_S_IOERR;
    readSegments(this.board.memory, request.readable, new Uint8Array(range.buffer), HEADER_BYTES);
    const offset = Number(range.getBigUint64(0, true)) * SECTOR;
    const sectors = range.getUint32(8, true);
    const flags = range.getUint32(12, true);
    const mayUnmap = (flags & 1) !== 0;
    if (flags > 1 || (mayUnmap && type === VIRTIO_BLK_T_DISCARD)) return VIRTIO_BLK_S_UNSUPP;
    if (sectors > MAX_SECTORS || !this.#inRange(offset, sectors * SECTOR)) return VIRTIO_BLK_S_IOERR;
    if (type === VIRTIO_BLK_T_DISCARD) await this.#backend.discard(offset, sectors * SECTOR);
    else await this.#backend.writeZeroes(offset, sectors * SECTOR, mayUnmap);
    if (!this.#isWriteback) await this.#backend.flush();
    return VIRTIO_BLK_S_OK;
  }

  /** Waits until all requests are finished, so that the stream carries none. */
  protected override settle(): Promise<void> {
    if (this.#running === 0 && this.#waiting.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#settled.push(resolve));
  }

  /** Requests loaded from a stream start when the drive is active. */
  protected override resume(): void {
    this.#startWaiting();
  }

  protected override inFlight(state: VirtioState<BlkFields>, index: number): number {
    return state.requests.filter((r) => r.queue === index).length;
  }

  protected override checkDevice(state: VirtioState<BlkFields>): string | undefined {
    for (const request of state.requests) {
      const problem = chainProblem(this.board.memory, request);
      if (problem !== undefined) return `queue ${request.queue}: ${problem}`;
      if (segmentsLength(request.readable) < HEADER_BYTES || segmentsLength(request.writable) < 1) {
        return `queue ${request.queue}: request ${request.head} has no room for its header or its status`;
      }
    }
    return undefined;
  }

  protected override loaded(): void {
    const { config, requests } = this.state;
    // QEMU fills the configuration space when the driver reads it: until then the stream has zeros, which
    // mean nothing.
    const touched = config.subarray(0, 8).some((byte) => byte !== 0);
    this.#writeback = !touched || config[CONFIG_WRITEBACK] !== 0;
    this.#waiting.splice(0, this.#waiting.length, ...requests);
  }
}
