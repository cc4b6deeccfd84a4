// SiFive's test finisher, which the device tree declares as syscon poweroff and reboot. No state.
import type { MmioDevice } from "../memory/mmio.ts";

export const SIFIVE_TEST_SIZE = 0x1000;

export const FINISHER_FAIL = 0x3333;
export const FINISHER_PASS = 0x5555;
export const FINISHER_RESET = 0x7777;

export interface SifiveTestEvents {
  /** The guest powers off; `code` is 0, or the code given with FINISHER_FAIL. */
  shutdown(code: number): void;
  reset(): void;
}

export class SifiveTest implements MmioDevice {
  readonly #events: SifiveTestEvents;

  constructor(events: SifiveTestEvents) {
    this.#events = events;
  }

  read(): number {
    return 0;
  }

  write(offset: number, _size: number, value: number): void {
    if (offset !== 0) return;
    switch (value & 0xffff) {
      case FINISHER_PASS:
        this.#events.shutdown(0);
        break;
      case FINISHER_FAIL:
        this.#events.shutdown(value >>> 16);
        break;
      case FINISHER_RESET:
        this.#events.reset();
        break;
      default:
        break;
    }
  }
}
