// Parallel NOR flash with Intel's command set (CFI, JESD68; Intel StrataFlash data sheets), wired as on
// QEMU's virt board: two 16-bit chips side by side on a 32-bit bus. In read-array mode the guest reads the
// RAM block behind it directly; a command removes the block from the address space until the guest returns to
// read-array mode. State: QEMU's `pflash_cfi01`. Left out: locking, suspend, timing. As in QEMU, programming
// replaces the data, without the AND of a real chip.
import type { MmioDevice } from "../memory/mmio.ts";
import { buffer, defineState, subsection, u32, u64, u8 } from "../state/schema.ts";

export const PFLASH_SECTOR_SIZE = 256 * 1024;

const BANK_SHIFT = 2;
const CHIPS = 2;

const CMD_READ_ARRAY = 0x00;
const CMD_PROGRAM_ALTERNATE = 0x10;
const CMD_BLOCK_ERASE = 0x20;
const CMD_PROGRAM = 0x40;
const CMD_CLEAR_STATUS = 0x50;
const CMD_LOCK = 0x60;
const CMD_LOCK_BLOCK = 0x01;
const CMD_READ_STATUS = 0x70;
const CMD_READ_ID = 0x90;
const CMD_CFI_QUERY = 0x98;
const CMD_CONFIRM = 0xd0;
const CMD_WRITE_BUFFER = 0xe8;
const CMD_RESET = 0xff;

const STATUS_READY = 0x80;
const STATUS_PROGRAM_ERROR = 0x10;
/** The maximum size of a buffered write, which must not cross a block of this size. */
const WRITE_BLOCK_SIZE = 2048;
const NO_BLOCK = 0xffffffff;
const MANUFACTURER_INTEL = 0x89;
const DEVICE_ID = 0x18;
const CFI_LENGTH = 0x52;

/** The bytes behind a flash, by offset into it. Both kinds of write mark the changed pages dirty. */
export interface FlashStorage {
  readonly size: number;
  read(offset: number): number;
  write(offset: number, bytes: Uint8Array): void;
  /** True: the guest reads the storage directly; false: reads go to the device. */
  setDirectRead(on: boolean): void;
}

export const pflashState = defineState(
  "pflash_cfi01",
  { version: 1, minimumVersion: 1 },
  {
    /** Bus cycles of the current command so far. */
    wcycle: u8.range(0, 3),
    cmd: u8,
    status: u8.init(STATUS_READY),
    /** Remaining words of a buffered write, minus one. */
    counter: u64,
  },
  [
    subsection(
      "pflash_cfi01_blk_write",
      { version: 1, needed: (s) => s.blkOffset !== NO_BLOCK },
      {
        /** The block's contents after the write is confirmed. */
        blkBytes: buffer(WRITE_BLOCK_SIZE),
        blkOffset: u32
          .init(NO_BLOCK)
          .check((at) => (at % WRITE_BLOCK_SIZE === 0 ? undefined : "a block's offset")),
      },
    ),
  ],
);

export class PflashCfi01 implements MmioDevice {
  readonly state = pflashState.create();
  readonly #storage: FlashStorage;
  readonly #cfi: Uint8Array;

  constructor(storage: FlashStorage) {
    this.#storage = storage;
    this.#cfi = cfiTable(storage.size);
  }

  reset(): void {
    pflashState.assign(this.state, pflashState.create());
    this.#storage.setDirectRead(true);
  }

  afterLoad(): void {
    const { wcycle, cmd } = this.state;
    this.#storage.setDirectRead(wcycle === 0 && cmd === CMD_READ_ARRAY);
  }

  read(offset: number, size: number): number {
    const width = (value: number): number => (size === 4 ? value >>> 0 : value & (2 ** (8 * size) - 1));
    switch (this.state.cmd) {
      case CMD_PROGRAM_ALTERNATE:
      case CMD_PROGRAM:
      case CMD_BLOCK_ERASE:
      case CMD_LOCK:
      case CMD_READ_STATUS:
      case CMD_WRITE_BUFFER:
        return width(bothChips(this.state.status));
      case CMD_READ_ID:
        return width(bothChips([MANUFACTURER_INTEL, DEVICE_ID][(offset >>> BANK_SHIFT) & 0xff] ?? 0));
      case CMD_CFI_QUERY:
        return width(bothChips(this.#cfi[offset >>> BANK_SHIFT] ?? 0));
      default: {
        let value = 0;
        for (let i = 0; i < size; i++) value |= this.#storage.read(offset + i) << (8 * i);
        return value >>> 0;
      }
    }
  }

  write(offset: number, size: number, value: number): void {
    const s = this.state;
    if (s.wcycle === 0) this.#command(offset, value & 0xff);
    else if (s.wcycle === 1) this.#secondCycle(offset, size, value);
    else if (s.wcycle === 2) this.#bufferWord(offset, size, value);
    else if ((value & 0xff) === CMD_CONFIRM && (s.status & STATUS_PROGRAM_ERROR) === 0) this.#confirmBuffer();
    else this.#readArray();
  }

  #command(offset: number, cmd: number): void {
    const s = this.state;
    switch (cmd) {
      case CMD_BLOCK_ERASE:
        this.#erase(offset);
        s.status |= STATUS_READY;
        break;
      case CMD_WRITE_BUFFER:
        s.status |= STATUS_READY;
        break;
      case CMD_PROGRAM_ALTERNATE:
      case CMD_PROGRAM:
      case CMD_LOCK:
      case CMD_CFI_QUERY:
        break;
      case CMD_READ_STATUS:
      case CMD_READ_ID:
        s.cmd = cmd;
        this.#storage.setDirectRead(false);
        return;
      case CMD_CLEAR_STATUS:
        s.status = 0;
        this.#readArray();
        return;
      default:
        this.#readArray();
        return;
    }
    s.wcycle = 1;
    s.cmd = cmd;
    this.#storage.setDirectRead(false);
  }

  #secondCycle(offset: number, size: number, value: number): void {
    const s = this.state;
    const byte = value & 0xff;
    switch (s.cmd) {
      case CMD_PROGRAM_ALTERNATE:
      case CMD_PROGRAM:
        this.#storage.write(offset, littleEndian(value, size));
        this.#ready();
        break;
      case CMD_BLOCK_ERASE:
        if (byte === CMD_CONFIRM) this.#ready();
        else this.#readArray();
        break;
      case CMD_WRITE_BUFFER:
        s.counter = BigInt(value & 0xffff);
        s.wcycle = 2;
        break;
      case CMD_LOCK:
        if (byte === CMD_CONFIRM || byte === CMD_LOCK_BLOCK) this.#ready();
        else this.#readArray();
        break;
      case CMD_CFI_QUERY:
        if (byte === CMD_RESET) this.#readArray();
        break;
      default:
        this.#readArray();
        break;
    }
  }

  #bufferWord(offset: number, size: number, value: number): void {
    const s = this.state;
    if (s.blkOffset === NO_BLOCK) {
      s.blkOffset = offset - (offset % WRITE_BLOCK_SIZE);
      for (let i = 0; i < WRITE_BLOCK_SIZE; i++) s.blkBytes[i] = this.#storage.read(s.blkOffset + i);
    }
    const at = offset - s.blkOffset;
    if (at >= 0 && at + size <= WRITE_BLOCK_SIZE) s.blkBytes.set(littleEndian(value, size), at);
    else s.status |= STATUS_PROGRAM_ERROR;
    s.status |= STATUS_READY;
    if (s.counter === 0n) s.wcycle = 3;
    s.counter = BigInt.asUintN(64, s.counter - 1n);
  }

  #confirmBuffer(): void {
    const s = this.state;
    if (s.blkOffset + WRITE_BLOCK_SIZE <= this.#storage.size) this.#storage.write(s.blkOffset, s.blkBytes);
    s.blkOffset = NO_BLOCK;
    this.#ready();
  }

  #ready(): void {
    this.state.wcycle = 0;
    this.state.status |= STATUS_READY;
  }

  #readArray(): void {
    this.state.wcycle = 0;
    this.state.cmd = CMD_READ_ARRAY;
    this.state.blkOffset = NO_BLOCK;
    this.#storage.setDirectRead(true);
  }

  #erase(offset: number): void {
    const start = offset - (offset % PFLASH_SECTOR_SIZE);
    this.#storage.write(start, new Uint8Array(PFLASH_SECTOR_SIZE).fill(0xff));
  }
}

function littleEndian(value: number, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => value >>> (8 * i));
}

function bothChips(value: number): number {
  return value | (value << 16);
}

/** The answer of one chip of `size / 2` bytes to a CFI query, with QEMU's values. */
function cfiTable(size: number): Uint8Array {
  const chipSize = size / CHIPS;
  const blocks = size / PFLASH_SECTOR_SIZE;
  const table = new Uint8Array(CFI_LENGTH);
  // "QRY", Intel extended command set, extended table at 0x31.
  table.set([0x51, 0x52, 0x59, 0x01, 0x00, 0x31, 0x00], 0x10);
  // Vcc 4.5 to 5.5 V.
  table.set([0x45, 0x55], 0x1b);
  // Timeouts: word, buffer, block, chip; and their maxima.
  table.set([0x07, 0x07, 0x0a, 0x00, 0x04, 0x04, 0x04, 0x00], 0x1f);
  // Size, x8/x16 interface, 2 KiB write buffer, one erase region.
  table.set([Math.log2(chipSize), 0x02, 0x00, 0x0b, 0x00, 0x01], 0x27);
  const sector = PFLASH_SECTOR_SIZE / CHIPS / 256;
  table.set([(blocks - 1) & 0xff, (blocks - 1) >> 8, sector & 0xff, sector >> 8], 0x2d);
  // "PRI" version 1.0, one protection field.
  table.set([0x50, 0x52, 0x49, 0x31, 0x30], 0x31);
  table[0x3f] = 0x01;
  return table;
}
