// A whole run of a machine under --icount, in this process: its console output, its end, and a hash of its
// memory.
import { xxh32 } from "../../src/base/xxh32.ts";
import { CharPipe } from "../../src/devices/char-backend.ts";
import { VirtioRng } from "../../src/devices/virtio/virtio-rng.ts";
import { createMachine, type MachineConfig, randomSource } from "../../src/embed/create-machine.ts";
import { type GuestEnd, watchEnd } from "../../src/embed/machine-end.ts";
import type { VirtMachine } from "../../src/machines/virt.ts";
import { nodePlatform } from "../../src/node/node-platform.ts";

export interface Run {
  readonly console: string;
  readonly end: GuestEnd;
  /** XXH32 of all of its memory at the end. */
  readonly memory: number;
}

/**
 * `onLine` is called within the guest's write of the line's end: input that it pushes arrives at the same
 * instruction each time.
 */
export async function runToEnd(
  config: MachineConfig,
  onLine: (line: string, serial: CharPipe, machine: VirtMachine) => void = () => {},
): Promise<Run> {
  let console = "";
  let line = "";
  const serial = new CharPipe((bytes) => {
    for (const byte of bytes) {
      const char = String.fromCharCode(byte);
      console += char;
      line += char;
      if (char !== "\n") continue;
      onLine(line, serial, machine);
      line = "";
    }
  });
  const randomBytes = randomSource(config, nodePlatform);
  const random = (target: Uint8Array): void => target.set(randomBytes(target.length));
  const { machine } = await createMachine(
    config,
    { serial, virtio: [(board) => new VirtioRng(board, { random })] },
    nodePlatform,
  );
  try {
    const ended = new Promise<GuestEnd>((resolve) => watchEnd(machine, resolve));
    await machine.start();
    const end = await ended;
    const { blocks, bytes } = machine.memory;
    const memory = blocks.reduce(
      (hash, { hostOffset, size }) => xxh32(bytes.slice(hostOffset, hostOffset + size), hash),
      0,
    );
    return { console, end, memory };
  } finally {
    await machine.vm.destroy();
  }
}
