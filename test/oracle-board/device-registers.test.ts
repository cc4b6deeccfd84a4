// Random register accesses on our devices and on QEMU's: all reads must return the same values. WHERRY_SEED
// replays a run.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CharPipe } from "../../src/devices/char-backend.ts";
import { DeviceClock } from "../../src/devices/device-clock.ts";
import { FwCfg } from "../../src/devices/fw-cfg.ts";
import { GpexHost } from "../../src/devices/gpex-host.ts";
import { PflashCfi01 } from "../../src/devices/pflash-cfi01.ts";
import { Serial } from "../../src/devices/serial.ts";
import { VIRT_MEMMAP } from "../../src/machines/boot/virt-map.ts";
import type { MmioDevice } from "../../src/memory/mmio.ts";
import { guestMemory } from "../support/guest-memory.ts";
import { noOracle, QemuBoard } from "./qemu-board.ts";
import { seed } from "../support/seed.ts";

interface Access {
  offset: number;
  size: 1 | 2 | 4;
  /** Undefined for a read. */
  value?: number | undefined;
}

let board: QemuBoard;
beforeAll(() => {
  if (noOracle === undefined) board = new QemuBoard(["-smp", "2"]);
});
afterAll(() => board?.close());

/** Resets both devices, runs `prologue` and `accesses` on both, and compares all reads. */
async function compare(
  base: number,
  device: MmioDevice,
  prologue: Access[],
  accesses: Access[],
): Promise<void> {
  await board.reset();
  for (const [i, { offset, size, value }] of [...prologue, ...accesses].entries()) {
    if (value !== undefined) {
      await board.write(base + offset, size, value);
      device.write(offset, size, value);
      continue;
    }
    const theirs = await board.read(base + offset, size);
    expect(device.read(offset, size), `access ${i}: read of ${size} at 0x${offset.toString(16)}`).toBe(
      theirs,
    );
  }
}

const run = (
  base: number,
  make: () => MmioDevice,
  access: fc.Arbitrary<Access>,
  prologue: Access[] = [],
): Promise<void> =>
  fc.assert(
    fc.asyncProperty(fc.array(access, { minLength: 20, maxLength: 120 }), (accesses) =>
      compare(base, make(), prologue, accesses),
    ),
    { seed, numRuns: 60, endOnFailure: true },
  );

describe.skipIf(noOracle)(`registers, seed ${seed}`, () => {
  it("of the UART", async () => {
    const make = (): MmioDevice => {
      const clock = new DeviceClock(
        () => 0n,
        () => ({ cancel() {} }),
      );
      return new Serial({ backend: new CharPipe(() => {}), irq: { set() {} }, clock, clockHz: 3_686_400 });
    };
    const access = fc.record({
      offset: fc.nat(7),
      size: fc.constant<1>(1),
      value: fc.option(
        fc.oneof(fc.nat(255), fc.constantFrom(0x00, 0x01, 0x02, 0x03, 0x0f, 0x10, 0x80, 0xc7)),
        { nil: undefined },
      ),
    });
    // QEMU's reset does not change FCR.
    await run(VIRT_MEMMAP.uart0.base, make, access, [{ offset: 2, size: 1, value: 0 }]);
  });

  it("of the flash", async () => {
    const make = (): MmioDevice => {
      const bytes = new Uint8Array(32 << 20);
      return new PflashCfi01({
        size: bytes.length,
        read: (offset) => bytes[offset] as number,
        write: (offset, data) => bytes.set(data, offset),
        setDirectRead: () => {},
      });
    };
    const commands = [
      0x10, 0x20, 0x28, 0x40, 0x50, 0x60, 0x70, 0x90, 0x98, 0xd0, 0xe8, 0xff, 0x00, 0x01, 0x77,
    ];
    const size = fc.constantFrom<1 | 2 | 4>(1, 2, 4);
    const access = fc
      .record({
        word: fc.nat(0x60),
        size,
        value: fc.option(fc.oneof(fc.constantFrom(...commands), fc.nat(3)), { nil: undefined }),
      })
      .map(({ word, size, value }) => ({ offset: 4 * word, size, value }));
    // QEMU's flash keeps its contents across a reset: erase the sector first.
    const w = (value: number): Access => ({ offset: 0, size: 4, value });
    await run(VIRT_MEMMAP.flash.base, make, access, [w(0x20), w(0xd0), w(0xff)]);
  });

  it("of the PCIe host", async () => {
    const access = fc
      .record({
        device: fc.constantFrom(0, 0, 0, 0, 1 << 12, 1 << 15, 1 << 20, 0x100),
        register: fc.nat(63),
        size: fc.constantFrom<1 | 2 | 4>(1, 2, 4),
        value: fc.option(fc.nat(0xffffffff), { nil: undefined }),
      })
      .map(({ device, register, size, value }) => {
        const masked = value === undefined ? undefined : value % 2 ** (8 * size);
        return { offset: device + 4 * register, size, value: masked };
      });
    // QEMU's reset does not clear config space after the header.
    const behind = Array.from(
      { length: 48 },
      (_, i): Access => ({ offset: 0x40 + 4 * i, size: 4, value: 0 }),
    );
    await run(VIRT_MEMMAP.pcieEcam.base, () => new GpexHost(), access, behind);
  });

  it("of fw_cfg", async () => {
    const make = (): MmioDevice => {
      const fwCfg = new FwCfg(guestMemory());
      fwCfg.addU16(0x05, 2);
      fwCfg.addFile("bios-geometry", new Uint8Array(0));
      fwCfg.addFile("bootorder", new Uint8Array(0));
      fwCfg.addFile("etc/boot-fail-wait", Uint8Array.of(0xff, 0xff, 0xff, 0xff));
      return fwCfg;
    };
    const key = fc.constantFrom(
      0,
      1,
      2,
      4,
      5,
      0x0e,
      0x19,
      0x20,
      0x22,
      0x23,
      0x3f,
      0x40,
      0x4000,
      0x4022,
      0x8000,
    );
    const access = fc.oneof(
      {
        weight: 1,
        arbitrary: key.map((k): Access => ({ offset: 8, size: 2, value: ((k & 0xff) << 8) | (k >> 8) })),
      },
      {
        weight: 6,
        arbitrary: fc.constantFrom<1 | 2 | 4>(1, 2, 4).map((size): Access => ({ offset: 0, size })),
      },
      { weight: 1, arbitrary: fc.constantFrom(0x10, 0x14).map((offset): Access => ({ offset, size: 4 })) },
    );
    await run(VIRT_MEMMAP.fwCfg.base, make, access);
  });
});
