// The VM generation ID (Microsoft's specification of that name; device tree binding `microsoft,vmgenid`): 16
// bytes that change when a machine is restored from a saved state, and an interrupt that says so. The guest
// then knows that it may be one of several copies, and reseeds its random number generator. The bytes are in
// the board's ROM: each stream carries them, also through a QEMU, which has no such device. Zero: the machine
// was created without the device.

export const VM_GENERATION_ID_SIZE = 16;

export interface VmGenerationIdParts {
  /** The bytes of guest ROM that hold the ID. */
  readonly rom: { read(): Uint8Array; write(id: Uint8Array): void };
  /** Raises the interrupt; nothing acknowledges it. */
  readonly interrupt: () => void;
  readonly randomBytes: (length: number) => Uint8Array;
}

export class VmGenerationId {
  readonly #parts: VmGenerationIdParts;

  constructor(parts: VmGenerationIdParts) {
    this.#parts = parts;
  }

  /** The machine starts or is reset: a new one gets its first ID, which a reboot keeps. */
  create(): void {
    const { rom, randomBytes } = this.#parts;
    if (isZero(rom.read())) rom.write(randomBytes(VM_GENERATION_ID_SIZE));
  }

  /** The machine has been restored. Random bytes that repeat (--icount) repeat the ID: it is not new then. */
  renew(): void {
    const { rom, interrupt, randomBytes } = this.#parts;
    const old = rom.read();
    if (isZero(old)) return;
    const id = randomBytes(VM_GENERATION_ID_SIZE);
    if (id.every((byte, i) => byte === old[i])) return;
    rom.write(id);
    interrupt();
  }
}

const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);
