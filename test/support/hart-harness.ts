// One or more harts on a bare memory, for tests and benches of the engine: RAM at 0x80000000, no devices
// unless given, M-mode at the start of RAM. Programs are words or the table's own assembler.
import {
  codeBitmapSize,
  CTL_KICK,
  CTL_LINES,
  CTL_MMIO_DATA,
  CTL_SLOT_BANK,
  hartBase,
  SLOT_CODE_OFFSET,
  SLOT_DIRTY_OFFSET,
  SLOT_ENTRIES,
  SLOT_ENTRY_SIZE,
  SLOT_FLAG_READONLY,
  SLOT_FLAGS,
  SLOT_GPA,
  SLOT_HOST_OFFSET,
  SLOT_SIZE,
  VM_CLOCK_DELTA,
  VM_CODE_STALE,
  VM_CURRENT_BANK,
  VM_SLOT_BANK_0,
  DECODE_TABLES,
} from "../../src/hypervisor/shared/memory-map.ts";
import { CodePages } from "../../src/memory/guest-memory.ts";
import { CodeCache, IMPROVE } from "../../src/hypervisor/shared/code-cache.ts";
import { RegionModules } from "../../src/hypervisor/translator/region-module.ts";
import { Translations } from "../../src/hypervisor/translator/translations.ts";
import { buildEngineModule } from "../../src/hypervisor/interpreter/engine-module.ts";
import { decodeTables } from "../../src/hypervisor/isa/instruction-decoder.ts";
import type { EngineKind } from "../../src/hypervisor/shared/engine-kind.ts";
import { HartImage } from "../../src/hypervisor/hart/hart-image.ts";
import { PRIV } from "../../src/riscv/privilege.ts";
import { assemble } from "../../src/hypervisor/isa/isa.ts";
import type { Operands } from "../../src/hypervisor/isa/instruction-encoding.ts";
import { compileModule, createSharedMemory, exportNames } from "../../src/wasm/webassembly.ts";
import type { WasmModule } from "../../src/base/runtime-globals.ts";
import { testEngine } from "./engine.ts";
import type { EngineExports, EngineImports } from "../../src/hypervisor/hart/engine-interface.ts";
import { instantiateEngine } from "../../src/hypervisor/vcpu/engine-instance.ts";
import { nodePlatform } from "../../src/node/node-platform.ts";

export const RAM_BASE = 0x80000000n;
export const ROM_BASE = 0x1000n;
const ROM_SIZE = 0x1000;

const DIRTY = hartBase(8);
const CODE = DIRTY + 0x10000;
const ROM = CODE + 0x10000;
const RAM = ROM + 0x10000;

const { hasTotalStoreOrder = false } = nodePlatform;
const compiled = new Map<EngineKind, WasmModule>();

function engineModule(engine: EngineKind): WasmModule {
  let module = compiled.get(engine);
  if (module === undefined) {
    module = compileModule(buildEngineModule(engine, hasTotalStoreOrder));
    compiled.set(engine, module);
  }
  return module;
}

const regionModules = new Map<boolean, RegionModules>();

/** The functions that translated code may import. */
export const engineHelpers = (): ReadonlySet<string> => exportNames(engineModule("translator"));

function regionModulesOf(exact: boolean): RegionModules {
  let modules = regionModules.get(exact);
  if (modules === undefined) {
    modules = new RegionModules(engineHelpers(), { exact, hasTotalStoreOrder });
    regionModules.set(exact, modules);
  }
  return modules;
}

export interface HarnessOptions {
  /** Bytes of RAM, a multiple of 64 KiB. Default 1 MiB. */
  readonly ramSize?: number;
  readonly imports?: Partial<EngineImports>;
  /** Default: testEngine. */
  readonly engine?: EngineKind | undefined;
  /**
   * For the translator: how often code is executed before it is translated, synchronously. Default 0: never
   * interpreted.
   */
  readonly threshold?: number;
  /** For the translator: slices end exactly at their budget. Default true. */
  readonly exact?: boolean;
  /** For the translator: bytes of WebAssembly to keep. */
  readonly codeCacheBytes?: number;
}

export class HartHarness {
  readonly buffer: SharedArrayBuffer;
  readonly view: DataView<SharedArrayBuffer>;
  readonly engine: EngineExports;
  readonly hart: HartImage;
  readonly ramSize: number;
  readonly #codePages: CodePages;
  /** Created on first use: most harts need none. */
  readonly #translations: () => Translations;
  /** Accesses outside memory: reads return from here, writes are stored here. */
  readonly devices = new Map<bigint, bigint>();
  ticks = 0;

  constructor({
    ramSize = 0x100000,
    imports = {},
    engine = testEngine,
    threshold = 0,
    exact = true,
    codeCacheBytes = 1 << 24,
  }: HarnessOptions = {}) {
    this.ramSize = ramSize;
    const pages = (RAM + ramSize) / 0x10000 + 1;
    const memory = createSharedMemory(pages);
    this.buffer = memory.buffer;
    this.view = new DataView(this.buffer);
    new Uint8Array(this.buffer, DECODE_TABLES).set(decodeTables());
    new CodeCache(this.buffer).heat = threshold;
    let translations: Translations | undefined;
    this.#translations = () =>
      (translations ??= new Translations(this.buffer, regionModulesOf(exact), codeCacheBytes));
    const host: EngineImports = {
      hot: (address) => {
        this.#translations().translate([address >>> 0]);
        return 1;
      },
      improve: (address) => this.#improve(address),
      hostTicks: () => this.ticks,
      mmioRead: (address) => {
        const value = this.devices.get(BigInt.asUintN(64, address));
        if (value === undefined) return 0;
        this.view.setBigUint64(hartBase(0) + CTL_MMIO_DATA, value, true);
        return 1;
      },
      mmioWrite: (address, _size, value) => {
        if (!this.devices.has(BigInt.asUintN(64, address))) return 0;
        this.devices.set(BigInt.asUintN(64, address), BigInt.asUintN(64, value));
        return 1;
      },
      ...imports,
    };
    this.engine = instantiateEngine(engineModule(engine), memory, host, engine);
    this.#slot(0, RAM_BASE, ramSize, RAM, 0);
    this.#slot(1, ROM_BASE, ROM_SIZE, ROM, SLOT_FLAG_READONLY);
    this.view.setUint32(VM_SLOT_BANK_0, 2, true);
    this.view.setUint32(VM_CURRENT_BANK, VM_SLOT_BANK_0, true);
    this.#codePages = new CodePages(this.buffer, CODE, codeBitmapSize(ramSize), VM_CODE_STALE);
    this.view.setUint32(hartBase(0) + CTL_SLOT_BANK, VM_SLOT_BANK_0, true);
    this.hart = new HartImage(this.buffer, 0);
    this.hart.set("pc", RAM_BASE);
    this.hart.set("priv", BigInt(PRIV.M));
  }

  #slot(index: number, guestPhys: bigint, size: number, hostOffset: number, flags: number): void {
    const entry = VM_SLOT_BANK_0 + SLOT_ENTRIES + index * SLOT_ENTRY_SIZE;
    this.view.setBigUint64(entry + SLOT_GPA, guestPhys, true);
    this.view.setBigUint64(entry + SLOT_SIZE, BigInt(size), true);
    this.view.setUint32(entry + SLOT_HOST_OFFSET, hostOffset, true);
    this.view.setUint32(entry + SLOT_FLAGS, flags, true);
    this.view.setUint32(entry + SLOT_DIRTY_OFFSET, DIRTY, true);
    this.view.setUint32(entry + SLOT_CODE_OFFSET, index === 0 ? CODE : 0, true);
  }

  /** Byte offset in the shared memory of a guest-physical address in RAM or ROM. */
  offset(guestPhys: bigint): number {
    return guestPhys >= RAM_BASE ? RAM + Number(guestPhys - RAM_BASE) : ROM + Number(guestPhys - ROM_BASE);
  }
  read64(guestPhys: bigint): bigint {
    return this.view.getBigUint64(this.offset(guestPhys), true);
  }
  write64(guestPhys: bigint, value: bigint): void {
    this.view.setBigUint64(this.offset(guestPhys), value, true);
    this.#written(guestPhys, 8);
  }
  /** As for a device's write: translations of the old contents become stale. */
  #written(guestPhys: bigint, length: number): void {
    if (guestPhys >= RAM_BASE) this.#codePages.written(Number(guestPhys - RAM_BASE), length);
  }
  /** True if the page's bit in the dirty log is set. */
  dirty(guestPhys: bigint): boolean {
    const page = Number((guestPhys - RAM_BASE) >> 12n);
    return (this.view.getUint32(DIRTY + (page >>> 5) * 4, true) & (1 << (page & 31))) !== 0;
  }
  clearDirty(): void {
    new Uint8Array(this.buffer, DIRTY, 0x10000).fill(0);
    this.engine.flushTlb(hartBase(0));
  }

  /** Translates a page of RAM again, as if most of the time were spent there. */
  improve(guestPhys: bigint): void {
    this.#improve(this.offset(guestPhys));
  }
  #improve(address: number): void {
    this.#translations().translate([(address | IMPROVE) >>> 0]);
  }

  /** Makes a page of RAM a code page, as a translation of it would. */
  markCode(guestPhys: bigint): void {
    const page = Number((guestPhys - RAM_BASE) >> 12n);
    const at = CODE + (page >>> 5) * 4;
    this.view.setUint32(at, this.view.getUint32(at, true) | (1 << (page & 31)), true);
    this.engine.protectCode(hartBase(0));
  }
  /**
   * The state of the page ("code", "stale" or both), and the number of pages that have become stale so far.
   */
  codeState(guestPhys: bigint): string {
    const page = Number((guestPhys - RAM_BASE) >> 12n);
    const is = (bitmap: number): boolean =>
      (this.view.getUint32(bitmap + (page >>> 5) * 4, true) & (1 << (page & 31))) !== 0;
    const states = [
      ...(is(CODE) ? ["code"] : []),
      ...(is(CODE + codeBitmapSize(this.ramSize)) ? ["stale"] : []),
    ];
    return `${states.join(" and ")} ${this.view.getUint32(VM_CODE_STALE, true)}`;
  }

  /** Instruction words to memory. */
  load(words: readonly number[], guestPhys = RAM_BASE): void {
    words.forEach((word, i) => this.view.setUint32(this.offset(guestPhys) + i * 4, word, true));
    this.#written(guestPhys, words.length * 4);
  }
  /** 16-bit parcels to memory. */
  loadHalves(halves: readonly number[], guestPhys = RAM_BASE): void {
    halves.forEach((half, i) => this.view.setUint16(this.offset(guestPhys) + i * 2, half, true));
    this.#written(guestPhys, halves.length * 2);
  }

  /** Run exactly `count` instructions (traps count as one); returns EXIT.*. */
  run(count: number): number {
    return this.engine.run(hartBase(0), count);
  }
  /** Load instructions at pc (or `at`) and run each once; returns EXIT.*. */
  execute(words: readonly number[], at = this.hart.get("pc")): number {
    this.load(words, at);
    this.hart.set("pc", at);
    return this.run(words.length);
  }

  x(register: number): bigint {
    return this.hart.get("x", register);
  }
  setX(register: number, value: bigint): void {
    this.hart.set("x", value, register);
  }
  set lines(bits: number) {
    this.view.setUint32(hartBase(0) + CTL_LINES, bits, true);
  }
  get lines(): number {
    return this.view.getUint32(hartBase(0) + CTL_LINES, true);
  }
  set kick(value: number) {
    this.view.setUint32(hartBase(0) + CTL_KICK, value, true);
  }
  set clockDelta(ticks: bigint) {
    this.view.setBigInt64(VM_CLOCK_DELTA, ticks, true);
  }
}

/** Shorthand for `assemble`. */
export const asm = (name: string, operands: Operands = {}): number => assemble(name, operands);
