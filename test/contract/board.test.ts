// The contract on the devices of the virt board.
import { CharPipe } from "../../src/devices/char-backend.ts";
import { DeviceClock } from "../../src/devices/device-clock.ts";
import { FwCfg, fwCfgState } from "../../src/devices/fw-cfg.ts";
import { GoldfishRtc, goldfishRtcState } from "../../src/devices/goldfish-rtc.ts";
import { GpexHost, gpexRootState, pciBusState, pciHostState } from "../../src/devices/gpex-host.ts";
import { PflashCfi01, pflashState } from "../../src/devices/pflash-cfi01.ts";
import { Serial, serialState } from "../../src/devices/serial.ts";
import { stateSection } from "../../src/state/section.ts";
import { contractSuite } from "./contract.ts";
import { guestMemory } from "../support/guest-memory.ts";

const NOW_NS = 1_700_000_000_123_456_789n;
const stoppedClock = (): DeviceClock =>
  new DeviceClock(
    () => NOW_NS,
    () => ({ cancel() {} }),
  );
const irq = { set(): void {} };

contractSuite(
  "goldfish-rtc",
  () => {
    const device = new GoldfishRtc({ irq, wallClock: stoppedClock() });
    const section = stateSection(goldfishRtcState, device.state, {
      idstr: "goldfish_rtc",
      afterLoad: () => device.afterLoad(),
    });
    return { device, sections: [section] };
  },
  {
    arrange({ device }) {
      device.write(0x10, 4, 1); // IRQ_ENABLED
      device.write(0x0c, 4, 0x1800_0000); // ALARM_HIGH
      device.write(0x08, 4, 0x1234_5678); // ALARM_LOW
      device.write(0x04, 4, 0x1700_0000); // TIME_HIGH
      device.read(0x00); // TIME_LOW latches the high half
    },
    refuses: ["alarm_running", "irq_pending", "irq_enabled"],
  },
);

contractSuite(
  "serial",
  () => {
    const backend = new CharPipe(() => {});
    const device = new Serial({ backend, irq, clock: stoppedClock(), clockHz: 3_686_400 });
    const section = stateSection(serialState, device.state, {
      idstr: "serial",
      afterLoad: () => device.afterLoad(),
    });
    return { device, backend, sections: [section] };
  },
  {
    arrange({ device, backend }) {
      device.write(3, 1, 0x83); // LCR: 8N1, divisor latch
      device.write(0, 1, 2);
      device.write(3, 1, 0x03);
      device.write(2, 1, 0x81); // FCR: FIFOs on, trigger at 8
      device.write(1, 1, 0x0f); // IER
      device.write(4, 1, 0x0b); // MCR
      device.write(7, 1, 0x5a); // SCR
      backend.push(Uint8Array.of(1, 2, 3));
      device.unquiesce();
    },
    refuses: ["ier", "mcr", "recv_fifo.num"],
  },
);

contractSuite(
  "fw-cfg",
  () => {
    const device = new FwCfg(guestMemory());
    const section = stateSection(fwCfgState, device.state, { idstr: "fw_cfg" });
    return { device, sections: [section] };
  },
  {
    arrange({ device }) {
      device.write(8, 2, 0x1900); // the directory's key 0x0019, big-endian
      device.read(0, 4);
      device.write(16, 4, 0x7856_3412);
    },
  },
);

contractSuite(
  "pflash",
  () => {
    const storage = { size: 32 << 20, read: () => 0xff, write() {}, setDirectRead() {} };
    const device = new PflashCfi01(storage);
    const section = stateSection(pflashState, device.state, {
      idstr: "pflash_cfi01",
      afterLoad: () => device.afterLoad(),
    });
    return { device, sections: [section] };
  },
  {
    arrange({ device }) {
      device.write(0, 4, 0x00e8_00e8); // buffered write…
      device.write(0, 4, 0x0003_0003); // …of four words
    },
    refuses: ["wcycle"],
  },
);

contractSuite(
  "gpex",
  () => {
    const device = new GpexHost();
    return {
      device,
      sections: [
        stateSection(gpexRootState, device.root, { idstr: "0000:00:00.0/gpex_root" }),
        stateSection(pciHostState, device.host, { idstr: "PCIHost" }),
        stateSection(pciBusState, device.bus, { idstr: "PCIBUS" }),
      ],
    };
  },
  {
    arrange({ device }) {
      device.write(0x04, 2, 0x0006); // command: memory, bus master
      device.write(0x3c, 1, 0x0b); // interrupt line
      device.host.configReg = 0x8000_0010;
    },
    states: ["root", "host", "bus"],
    refuses: ["parent_obj.version_id", "parent_obj.config", "parent_obj.irq_state", "nirq", "irq_count[0]"],
  },
);
