// One hart of Wherry's engine with RAM at 0x8000_0000 and nothing else but the test device's power-off: what the
// oracle tests compare with QEMU. The hypervisor around the engine (vcpu-thread.ts) is not in it.
import { HartImage } from "../../src/hypervisor/riscv/hart-image.ts";
import {
  buildEngineModule,
  EXIT,
  type EngineImports,
  initEngineTables,
  instantiateEngine,
} from "../../src/hypervisor/riscv/engine.ts";
import {
  CTL_KICK,
  CTL_SLOT_BANK,
  ENGINE_TABLES_SIZE,
  HART_AREA_BASE,
  HART_AREA_SIZE,
  hartBase,
  SLOT_ENTRIES,
  SLOT_GPA,
  SLOT_HOST_OFFSET,
  SLOT_SIZE,
  VM_SLOT_BANK_0,
} from "../../src/hypervisor/layout.ts";
import { compileModule, createSharedMemory, type WasmModule } from "../../src/wasm/host.ts";
import { testEngine } from "../support/engine.ts";
import { RAM_BASE } from "./layout.ts";

const TABLES = HART_AREA_BASE + HART_AREA_SIZE;
const RAM_OFFSET = TABLES + ENGINE_TABLES_SIZE;
const PAGE = 65536;

const TEST_DEVICE = 0x100000n;
const TEST_DEVICE_PASS = 0x5555n;
const ACLINT = 0x2000000n;
const ACLINT_END = 0x2010000n;

let compiled: WasmModule | undefined;

export interface OracleHart {
  readonly ram: Uint8Array<SharedArrayBuffer>;
  readonly state: HartImage;
  /** Runs until `done` or power-off, asked every so many instructions. Throws after `limit` instructions. */
  run(limit: number, done?: () => boolean): void;
}

/** Reset to the start of RAM in M-mode. */
export function createHart(ramBytes: number, entry = RAM_BASE): OracleHart {
  compiled ??= compileModule(buildEngineModule(TABLES, testEngine));
  const memory = createSharedMemory(Math.ceil((RAM_OFFSET + ramBytes) / PAGE));
  const { buffer } = memory;
  initEngineTables(buffer, TABLES);
  const view = new DataView(buffer);
  view.setUint32(VM_SLOT_BANK_0, 1, true);
  const slot = VM_SLOT_BANK_0 + SLOT_ENTRIES;
  view.setBigUint64(slot + SLOT_GPA, RAM_BASE, true);
  view.setBigUint64(slot + SLOT_SIZE, BigInt(ramBytes), true);
  view.setUint32(slot + SLOT_HOST_OFFSET, RAM_OFFSET, true);
  const base = hartBase(0);
  view.setUint32(base + CTL_SLOT_BANK, VM_SLOT_BANK_0, true);
  let isOff = false;
  const imports: EngineImports = {
    hostTicks: () => 0,
    mmioRead: () => 0,
    mmioWrite: (guestPhys, size, value) => {
      if (guestPhys === TEST_DEVICE && size === 4 && (value & 0xffffn) === TEST_DEVICE_PASS) {
        isOff = true;
        view.setUint32(base + CTL_KICK, 1, true);
        return 1;
      }
      return guestPhys >= ACLINT && guestPhys < ACLINT_END ? 1 : 0;
    },
  };
  const engine = instantiateEngine(compiled, memory, imports, testEngine);
  const state = new HartImage(buffer, 0);
  state.reset(entry);
  return {
    ram: new Uint8Array(buffer, RAM_OFFSET, ramBytes),
    state,
    run: (limit, done = () => false) => {
      const slice = 100_000;
      for (let executed = 0; executed < limit; executed += slice) {
        const reason = engine.run(base, slice);
        if (isOff || done()) return;
        if (reason !== EXIT.SLICE && reason !== EXIT.KICK) {
          throw new Error(`the hart left run() with exit ${reason} at pc ${state.get("pc").toString(16)}`);
        }
      }
      throw new Error(`still running after ${limit} instructions, pc ${state.get("pc").toString(16)}`);
    },
  };
}

/** As runInQemu: an image of RAM to power-off, RAM back. */
export function runInWherry(image: Uint8Array): Uint8Array {
  const hart = createHart(image.length);
  hart.ram.set(image);
  hart.run(image.length * 4);
  return hart.ram;
}
