// Machines for the loader's cases: small, and with a loader of QEMU's streams that knows the seeds' devices.
import type { ByteReader } from "../../../src/base/bytes.ts";
import { GuestMemory, PAGE_SIZE, type RamBlock } from "../../../src/memory/guest-memory.ts";
import { Machine, type SynchronizeHooks } from "../../../src/vmm/machine.ts";
import type { QemuStreamLoader, QemuStreams } from "../../../src/vmm/qemu-profile.ts";
import { MIG_PRI, type Section } from "../../../src/state/section.ts";
import type { Compression } from "../../../src/migration/environment/page-compression.ts";
import { defaultEnvironment } from "../../../src/migration/environment/migration-environment.ts";
import { MultifdReceiver } from "../../../src/migration/ram/multifd-load.ts";
import { RamTarget } from "../../../src/migration/ram/ram-target.ts";
import { StreamReader } from "../../../src/stream/stream-reader.ts";
import { memorySource } from "../../support/fake-network.ts";
import { fakeVm, toySection } from "../../support/fake-machine.ts";

/** As seed.ts writes it. */
function toy(): Section {
  return {
    idstr: "toy",
    instanceId: 0,
    vmsdName: "toy",
    version: 2,
    minimumVersion: 1,
    priority: MIG_PRI.DEFAULT,
    encode: () => {},
    decode: (reader: ByteReader) => {
      const count = reader.u32();
      reader.bytes(count > 100 ? 4 : 1 + 24 + 18 + 4 + 2);
      while (reader.peekU8() === 5) {
        reader.u8();
        if (!reader.countedString().startsWith("toy/")) throw new Error("not the toy's subsection");
        reader.u32();
        reader.u64();
      }
      return () => {};
    },
    describe: () => ({ fields: [] }),
  };
}

function loader(): QemuStreamLoader {
  return {
    release: undefined,
    sections: [toy()],
    dropped: (idstr) => (idstr === "slirp" ? "connections end" : undefined),
    droppedBlock: (name) => (name.startsWith("/rom@") ? "rebuilt" : undefined),
    rebuild: () => {},
  };
}

const PROFILES: QemuStreams = {
  names: [],
  profile: () => {
    throw new Error("the seeds' machine writes nothing");
  },
  loader,
};

/** Length of the seeds' RAM in pages. */
const BLOCKS: readonly [string, number][] = [
  ["riscv_virt_board.ram", 16],
  ["virt.flash0", 2],
  ["riscv_virt_board.mrom", 3],
];

/** Shared by all cases; its contents do not matter. */
function memory(): GuestMemory {
  const pages = BLOCKS.reduce((sum, [, count]) => sum + count + 1, 1);
  let page = 1;
  const blocks = BLOCKS.map(([name, count], i): RamBlock => {
    const hostOffset = page * PAGE_SIZE;
    page += count + 1;
    const dirty = new Int32Array(new SharedArrayBuffer(4));
    const guestPhys = 0x8000_0000 + i * 0x1000_0000;
    return { name, guestPhys, size: count * PAGE_SIZE, hostOffset, readonly: i === 2, dirty };
  });
  return new GuestMemory(new SharedArrayBuffer(pages * PAGE_SIZE), blocks);
}

const MEMORY = memory();
const CPUS: SynchronizeHooks = {
  synchronizeAllStates: async () => {},
  synchronizeAllPreLoad: () => {},
  synchronizeAllPostInit: () => {},
  synchronizeAllPostReset: () => {},
  resetAll: () => {},
  resumeAll: () => {},
  pauseAll: async () => {},
};
const SECTIONS = [
  toySection("timer", 0, MIG_PRI.DEFAULT, 24),
  toySection("virtio-mmio@0000000010008000/virtio-blk", 0, MIG_PRI.DEFAULT, 100),
];

/** A machine for one case, made in microseconds. Reads Wherry's own streams; with `qemu`, also the seeds. */
export function fuzzMachine(qemu: boolean): Machine {
  // QEMU's machines have their own firmware.
  const vm = { ...fakeVm(MEMORY), builtinFirmware: !qemu };
  const machine = new Machine({ name: "virt", memory: MEMORY, vm, cpus: CPUS });
  for (const section of SECTIONS) machine.addSection(section);
  if (qemu) machine.qemu = PROFILES;
  return machine;
}

/** Ignores its payload: zlib and zstd are Node's. */
const NO_COMPRESSION: Compression = {
  compressor() {
    throw new Error("nothing is compressed");
  },
  decompressor: () => ({ decode: async (_payload, size) => new Uint8Array(size), close() {} }),
};

/** Loads bytes as one multifd channel into the small machine's memory. Rejects as the main stream would. */
export async function loadMultifd(bytes: Uint8Array): Promise<void> {
  const receiver = new MultifdReceiver({
    environment: {
      ...defaultEnvironment,
      compression: NO_COMPRESSION,
      // No other channel comes in place of one with a damaged hello.
      setTimer: (ms, fire) => defaultEnvironment.setTimer(Math.min(ms, 50), fire),
    },
    required: true,
    channels: 1,
    settled: async () => {},
  });
  const targets = MEMORY.blocks.map((block) => new RamTarget(MEMORY, block.name, block.size, block));
  receiver.begin(new Map(targets.map((target) => [target.name, target])));
  const channel = memorySource(bytes);
  const accepted = receiver.accept(channel, new StreamReader(channel));
  try {
    // The main stream's two synchronisation points; a channel that ends before is truncated.
    await receiver.synchronize(true);
    await receiver.synchronize(true);
  } finally {
    receiver.close();
    await accepted;
  }
}
