// fw_cfg: named blobs from the VMM to firmware, with the selector, data and DMA registers of QEMU's
// memory-mapped interface (docs/specs/fw_cfg in QEMU's tree). All registers and DMA structures are
// big-endian. State: QEMU's `fw_cfg` version 2; the machine's options determine the entries. Left out:
// writable entries.
import { encodeUtf8 } from "../base/text.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import type { MmioDevice } from "../memory/mmio.ts";
import { defineState, subsection, u16, u32, u64 } from "../state/schema.ts";

export const FW_CFG_SIZE = 0x18;

export const FW_CFG_SIGNATURE = 0x00;
export const FW_CFG_ID = 0x01;
export const FW_CFG_UUID = 0x02;
export const FW_CFG_NB_CPUS = 0x05;
export const FW_CFG_FILE_DIR = 0x19;
const FW_CFG_FILE_FIRST = 0x20;
const FW_CFG_FILE_SLOTS = 0x20;
const FW_CFG_MAX_FILE_PATH = 56;
const FW_CFG_INVALID = 0xffff;

const ID_TRADITIONAL = 1;
const ID_DMA = 2;

const REG_CTL = 0x08;
const REG_DMA_HIGH = 0x10;
const REG_DMA_LOW = 0x14;
/** "QEMU CFG", the value of the DMA register when read. */
const DMA_SIGNATURE = encodeUtf8("QEMU CFG");

const DMA_CTL_ERROR = 0x01;
const DMA_CTL_READ = 0x02;
const DMA_CTL_SKIP = 0x04;
const DMA_CTL_SELECT = 0x08;
const DMA_CTL_WRITE = 0x10;
const DMA_CHUNK = 65536;

export const fwCfgState = defineState(
  "fw_cfg",
  { version: 2, minimumVersion: 2 },
  { curEntry: u16, curOffset: u32 },
  [subsection("fw_cfg/dma", { version: 0, needed: () => true }, { dmaAddr: u64 })],
);

export class FwCfg implements MmioDevice {
  readonly state = fwCfgState.create();
  readonly #memory: GuestMemory;
  readonly #entries = new Map<number, Uint8Array>();
  readonly #files: { name: string; size: number }[] = [];

  constructor(memory: GuestMemory) {
    this.#memory = memory;
    this.add(FW_CFG_SIGNATURE, encodeUtf8("QEMU"));
    this.add(FW_CFG_ID, Uint8Array.of(ID_TRADITIONAL | ID_DMA, 0, 0, 0));
    this.#updateDirectory();
  }

  reset(): void {
    this.#select(0);
  }

  add(key: number, data: Uint8Array): void {
    this.#entries.set(key, data);
  }
  addU16(key: number, value: number): void {
    this.add(key, Uint8Array.of(value & 0xff, value >> 8));
  }
  /** At most 32 files with names of up to 55 bytes. */
  addFile(name: string, data: Uint8Array): void {
    this.add(FW_CFG_FILE_FIRST + this.#files.length, data);
    this.#files.push({ name, size: data.length });
    this.#updateDirectory();
  }

  read(offset: number, size: number): number {
    if (offset < REG_CTL) {
      let value = 0;
      for (let i = 0; i < size; i++) value |= this.#nextByte() << (8 * i);
      return value >>> 0;
    }
    if (offset < REG_DMA_HIGH) return 0;
    let value = 0;
    for (let i = 0; i < size; i++) value |= (DMA_SIGNATURE[offset - REG_DMA_HIGH + i] ?? 0) << (8 * i);
    return value >>> 0;
  }

  write(offset: number, size: number, value: number): void {
    const s = this.state;
    if (offset === REG_CTL && size === 2) {
      this.#select(((value & 0xff) << 8) | (value >> 8));
    } else if (offset === REG_DMA_HIGH && size === 4) {
      s.dmaAddr = BigInt(swap32(value)) << 32n;
    } else if (offset === REG_DMA_LOW && size === 4) {
      s.dmaAddr |= BigInt(swap32(value));
      this.#transfer();
    }
  }

  #select(key: number): void {
    const slot = key & 0x3fff;
    this.state.curOffset = 0;
    this.state.curEntry = slot < FW_CFG_FILE_FIRST + FW_CFG_FILE_SLOTS ? key : FW_CFG_INVALID;
  }

  #current(): Uint8Array | undefined {
    // Bit 14 is the (ignored) write flag, bit 15 selects the architecture's own entries, of which there are
    // none.
    return this.#entries.get(this.state.curEntry & ~0x4000);
  }

  #nextByte(): number {
    const byte = this.#current()?.[this.state.curOffset];
    if (byte !== undefined) this.state.curOffset++;
    return byte ?? 0;
  }

  /** Executes the FWCfgDmaAccess {be32 control, be32 length, be64 address} at dmaAddr. */
  #transfer(): void {
    const at = Number(this.state.dmaAddr);
    this.state.dmaAddr = 0n;
    const access = new Uint8Array(16);
    if (!this.#memory.read(at, access)) return;
    const view = new DataView(access.buffer);
    const control = view.getUint32(0);
    if ((control & DMA_CTL_SELECT) !== 0) this.#select(control >>> 16);
    const done = this.#move(control, view.getUint32(4), Number(view.getBigUint64(8)));
    view.setUint32(0, done ? 0 : DMA_CTL_ERROR);
    this.#memory.write(at, access.subarray(0, 4));
  }

  /** Bytes past the entry's end read as zeros. Returns false if the guest's address is not memory. */
  #move(control: number, length: number, guestPhys: number): boolean {
    const s = this.state;
    const reads = (control & DMA_CTL_READ) !== 0;
    if (!reads && (control & DMA_CTL_WRITE) !== 0) return false;
    if (!reads && (control & DMA_CTL_SKIP) === 0) return true;
    if (reads && !this.#memory.contains(guestPhys, length, true)) return false;
    const data = this.#current() ?? new Uint8Array(0);
    for (let done = 0; reads && done < length; done += DMA_CHUNK) {
      const chunk = new Uint8Array(Math.min(DMA_CHUNK, length - done));
      chunk.set(data.subarray(s.curOffset + done, s.curOffset + done + chunk.length));
      this.#memory.write(guestPhys + done, chunk);
    }
    s.curOffset = Math.min(s.curOffset + length, data.length);
    return true;
  }

  /** Directory: be32 count, then 64-byte slots {be32 size, be16 key, be16 0, name}. */
  #updateDirectory(): void {
    const directory = new Uint8Array(4 + 64 * FW_CFG_FILE_SLOTS);
    const view = new DataView(directory.buffer);
    view.setUint32(0, this.#files.length);
    for (const [i, { name, size }] of this.#files.entries()) {
      const slot = 4 + 64 * i;
      view.setUint32(slot, size);
      view.setUint16(slot + 4, FW_CFG_FILE_FIRST + i);
      directory.set(encodeUtf8(name).subarray(0, FW_CFG_MAX_FILE_PATH - 1), slot + 8);
    }
    this.add(FW_CFG_FILE_DIR, directory);
  }
}

function swap32(value: number): number {
  const pairs = ((value & 0xff00ff) << 8) | ((value >>> 8) & 0xff00ff);
  return ((pairs << 16) | (pairs >>> 16)) >>> 0;
}
