// The UART at register level, in a driver's steps.
import { beforeEach, describe, expect, it } from "vitest";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { Random } from "../../test/support/random.ts";
import { CharPipe } from "./char-backend.ts";
import { DeviceClock } from "./device-clock.ts";
import { Serial, serialState } from "./serial.ts";
import { seed } from "../../test/support/seed.ts";

const RBR = 0;
const THR = 0;
const IER = 1;
const IIR = 2;
const FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;

let time: FakeClock;
let clock: DeviceClock;
let sent: number[];
let pipe: CharPipe;
let irq: { level: boolean; set(level: boolean): void };
let uart: Serial;
let shadow: number | undefined;
let sink: (bytes: Uint8Array) => void;

const text = (s: string): Uint8Array => new Uint8Array(Buffer.from(s));
const write = (register: number, value: number): void => uart.write(register, 1, value);
const read = (register: number): number => uart.read(register);

function make(): void {
  time = new FakeClock();
  clock = new DeviceClock(() => time.nowNs, time.setTimer);
  clock.start();
  sent = [];
  sink = (bytes) => void sent.push(...bytes);
  pipe = new CharPipe((bytes) => sink(bytes));
  irq = {
    level: false,
    set(level) {
      this.level = level;
    },
  };
  shadow = undefined;
  const lsrShadow = { set: (value: number | undefined) => void (shadow = value) };
  uart = new Serial({ backend: pipe, irq, clock, clockHz: 3_686_400, lsrShadow });
}

beforeEach(make);

describe("the shadow of LSR", () => {
  it("is set by a read, kept when bytes are sent, and cleared by anything that may change LSR", () => {
    expect(shadow).toBeUndefined();
    const changes: readonly (() => void)[] = [
      () => pipe.push(text("x")),
      () => read(RBR),
      () => write(FCR, 0x07),
      () => write(IER, 0x01),
      () => write(LCR, 0x03),
      () => uart.reset(),
      () => uart.afterLoad(),
    ];
    for (const change of changes) {
      const lsr = read(LSR);
      expect(shadow).toBe(lsr);
      write(THR, 0x41);
      expect(shadow).toBe(lsr);
      change();
      expect(shadow).toBeUndefined();
    }
  });

  it("is not set while reading LSR has a side effect, nor in loopback, where sending receives", () => {
    write(IER, 0x01);
    pipe.push(text("ab"));
    expect(read(LSR) & 0x01).toBe(1);
    expect(shadow).toBe(0x61);
    write(MCR, 0x10);
    for (let i = 0; i < 2; i++) write(THR, 0x41);
    // An overrun, which a read clears.
    expect(read(LSR) & 0x02).toBe(2);
    expect(shadow).toBeUndefined();
    read(LSR);
    expect(shadow).toBeUndefined();
  });

  it("never differs from the register, in random use", () => {
    const random = new Random(seed);
    for (let i = 0; i < 5000; i++) {
      const known = shadow;
      const action = random.int(8);
      if (action < 2) {
        if (known !== undefined) expect([seed, read(LSR)]).toEqual([seed, known]);
      } else if (action === 2) pipe.push(text("abcdefghijklmnopqrstuvwxyz".slice(0, 1 + random.int(20))));
      else if (action === 3) write(random.pick([IER, FCR, MCR]), random.int(256));
      else if (action === 4) read(random.pick([RBR, IIR, MSR]));
      else if (action === 5) write(LCR, 0x03);
      else if (action === 6) write(THR, random.int(256));
      else read(LSR);
    }
  });
});

describe("transmitter", () => {
  it("sends at once and is empty afterwards", () => {
    for (const byte of text("hi")) write(THR, byte);
    expect(Buffer.from(sent).toString()).toBe("hi");
    expect(read(LSR) & 0x60).toBe(0x60);
  });

  it("raises THRE when enabled, drops it when IIR is read, raises it again after the next byte", () => {
    write(IER, 0x02);
    expect(irq.level).toBe(true);
    expect(read(IIR)).toBe(0x02);
    expect(irq.level).toBe(false);
    expect(read(IIR)).toBe(0x01);
    write(THR, 0x41);
    expect(irq.level).toBe(true);
    write(IER, 0);
    expect(irq.level).toBe(false);
    // Setting IER.THRI again: the empty register interrupts again.
    write(IER, 0x02);
    expect(irq.level).toBe(true);
  });

  it("does not change the line between the bytes of a burst", () => {
    write(FCR, 0x01);
    write(IER, 0x02);
    let calls = 0;
    irq.set = () => calls++;
    for (let i = 0; i < 16; i++) write(THR, i);
    expect(calls).toBe(0);
    expect(sent).toHaveLength(16);
  });
});

describe("transmitter whose reader is behind", () => {
  const THRE = 0x20;
  const TEMT = 0x40;
  const fill = (bytes: string): void => text(bytes).forEach((byte) => write(THR, byte));
  const output = (): string => Buffer.from(sent).toString();

  it("is busy until the reader goes on: LSR, the interrupt, and no byte lost or doubled", () => {
    write(FCR, 0x01);
    write(IER, 0x02);
    read(IIR);
    fill("a");
    pipe.writable = false;
    expect(read(LSR) & (THRE | TEMT)).toBe(THRE | TEMT);
    expect(shadow).toBe(read(LSR));
    // One byte in the shift register, sixteen in the FIFO.
    fill("b");
    expect(shadow).toBeUndefined();
    expect(read(LSR) & (THRE | TEMT)).toBe(THRE);
    fill("cdefghijklmnopqr");
    expect(read(LSR) & (THRE | TEMT)).toBe(0);
    expect(shadow).toBe(0);
    expect(irq.level).toBe(false);
    expect(output()).toBe("a");
    pipe.writable = true;
    expect(output()).toBe("abcdefghijklmnopqr");
    expect(shadow).toBeUndefined();
    expect(read(LSR) & (THRE | TEMT)).toBe(THRE | TEMT);
    expect(irq.level).toBe(true);
    expect(read(IIR) & 0x0f).toBe(0x02);
  });

  it("holds two bytes without FIFOs", () => {
    pipe.writable = false;
    fill("a");
    expect(read(LSR) & (THRE | TEMT)).toBe(THRE);
    fill("b");
    expect(read(LSR) & (THRE | TEMT)).toBe(0);
    pipe.writable = true;
    expect(output()).toBe("ab");
    expect(read(LSR) & (THRE | TEMT)).toBe(THRE | TEMT);
  });

  it.each([0x00, 0x01])("keeps what vCPUs had queued before they saw it busy, and no more: FCR %i", (fcr) => {
    write(FCR, fcr);
    pipe.writable = false;
    const queued = Array.from({ length: 128 + 17 }, (_, i) => i);
    for (const byte of queued) write(THR, byte);
    pipe.writable = true;
    expect(sent).toEqual(queued);
    sent.length = 0;
    pipe.writable = false;
    for (let i = 0; i < 100_000; i++) write(THR, i);
    expect(sent.length).toBeLessThan(1000);
  });

  it("stops in the middle of its FIFO if the reader falls behind again", () => {
    write(FCR, 0x01);
    pipe.writable = false;
    fill("abcdef");
    const each = (bytes: Uint8Array): void => {
      sent.push(...bytes);
      if (sent.length % 2 === 0) pipe.writable = false;
    };
    sink = each;
    pipe.writable = true;
    expect(output()).toBe("ab");
    pipe.writable = true;
    pipe.writable = true;
    expect(output()).toBe("abcdef");
  });

  it("sends nothing while the machine is stopped; its bytes are part of the state", () => {
    write(FCR, 0x01);
    pipe.writable = false;
    fill("abc");
    clock.stop();
    const saved = serialState.create();
    serialState.assign(saved, uart.state);
    // As QEMU has it: it refuses a byte in the shift register beside TEMT.
    expect([saved.tsrRetry, saved.tsr, saved.xmitFifo.num, saved.lsr & TEMT]).toEqual([1, 0x61, 2, 0]);
    pipe.writable = true;
    expect(output()).toBe("");
    make();
    serialState.assign(uart.state, saved);
    uart.afterLoad();
    pipe.writable = false;
    uart.unquiesce();
    expect(output()).toBe("");
    pipe.writable = true;
    expect(output()).toBe("abc");
  });

  it("drops its bytes at a reset, and those of the FIFO when the driver clears it", () => {
    write(FCR, 0x01);
    pipe.writable = false;
    fill("abc");
    write(FCR, 0x05);
    expect(read(LSR) & (THRE | TEMT)).toBe(THRE);
    fill("d");
    pipe.writable = true;
    expect(output()).toBe("ad");
    pipe.writable = false;
    fill("e");
    uart.reset();
    pipe.writable = true;
    expect(output()).toBe("ad");
  });
});

describe("receiver", () => {
  it("leaves input with the host until the guest reads", () => {
    pipe.push(text("ab"));
    expect(pipe.pending).toBe(2);
    expect(read(LSR) & 1).toBe(1);
    expect(read(RBR)).toBe(0x61);
    expect(pipe.pending).toBe(1);
    expect(read(LSR) & 1).toBe(1);
    expect(read(RBR)).toBe(0x62);
    expect(read(LSR) & 1).toBe(0);
  });

  it("fills the FIFO, and takes the rest as the guest reads", () => {
    write(FCR, 0xc1);
    write(IER, 0x01);
    const input = Uint8Array.from({ length: 40 }, (_, i) => i);
    let drained = 0;
    pipe.onDrained(() => drained++);
    pipe.push(input);
    expect(irq.level).toBe(true);
    expect(read(IIR)).toBe(0xc4);
    expect(pipe.pending).toBe(24);
    const got: number[] = [];
    while ((read(LSR) & 1) !== 0) got.push(read(RBR));
    expect(got).toEqual([...input]);
    expect(drained).toBe(1);
    expect(read(LSR) & 0x02).toBe(0);
    expect(irq.level).toBe(false);
  });

  it("receives a paste of 1 MB in any pieces, whatever the driver does between, and loses nothing", () => {
    const random = new Random(seed);
    write(FCR, 0x81);
    write(IER, 0x01);
    const paste = Uint8Array.from({ length: 1 << 20 }, () => random.int(256));
    const got = new Uint8Array(paste.length);
    let pushed = 0;
    let read1 = 0;
    while (read1 < paste.length) {
      if (pushed < paste.length && random.int(50) === 0) {
        const to = pushed + random.int(10_000);
        pipe.push(paste.subarray(pushed, to));
        pushed = Math.min(to, paste.length);
      }
      // As a driver does: it reads while there is data, and leaves some now and then.
      const most = random.int(40);
      for (let i = 0; i < most && (read(LSR) & 1) !== 0; i++) got[read1++] = read(RBR);
      if (read1 === pushed) expect(irq.level).toBe(false);
    }
    expect(Buffer.compare(got, paste)).toBe(0);
    expect(read(LSR) & 0x02).toBe(0);
  });

  it("signals a character timeout below the trigger level", () => {
    write(FCR, 0x81);
    write(IER, 0x01);
    pipe.push(text("x"));
    expect(irq.level).toBe(false);
    time.advanceNs(10_000_000n);
    expect(irq.level).toBe(true);
    expect(read(IIR)).toBe(0xcc);
    expect(read(RBR)).toBe(0x78);
    expect(irq.level).toBe(false);
    expect(time.timers).toBe(0);
  });

  it("suspends the timeout while the machine is stopped, and resumes it", () => {
    write(FCR, 0x81);
    write(IER, 0x01);
    pipe.push(text("x"));
    clock.stop();
    expect(time.timers).toBe(0);
    pipe.push(text("y"));
    clock.start();
    uart.unquiesce();
    time.advanceNs(10_000_000n);
    expect(irq.level).toBe(true);
    expect([read(RBR), read(RBR)]).toEqual([0x78, 0x79]);
  });
});

describe("registers", () => {
  it("identify a 16550A to a driver's probe", () => {
    write(FCR, 0x01);
    expect(read(IIR) >> 6).toBe(3);
    write(FCR, 0x00);
    expect(read(IIR) >> 6).toBe(0);
    write(MCR, 0x1a);
    expect(read(MSR) & 0xf0).toBe(0x90);
    write(MCR, 0x08);
    expect(read(MSR)).toBe(0xb0);
  });

  it("loop back in loopback mode", () => {
    write(MCR, 0x10);
    write(THR, 0x5a);
    expect(sent).toEqual([]);
    expect(read(RBR)).toBe(0x5a);
    write(THR, 1);
    write(THR, 2);
    expect(read(LSR) & 0x02).toBe(0x02);
    expect(read(LSR) & 0x02).toBe(0);
  });

  it("keep the divisor behind DLAB", () => {
    write(LCR, 0x83);
    write(0, 0x34);
    write(1, 0x12);
    expect([read(0), read(1)]).toEqual([0x34, 0x12]);
    write(LCR, 0x03);
    expect(read(IER)).toBe(0);
    expect(uart.state.divider).toBe(0x1234);
  });
});

describe("state", () => {
  it("drives the line and the timer again after a load", () => {
    write(FCR, 0x81);
    write(IER, 0x01);
    pipe.push(text("x"));
    const saved = serialState.create();
    serialState.assign(saved, uart.state);
    make();
    serialState.assign(uart.state, saved);
    uart.afterLoad();
    time.advanceNs(10_000_000n);
    expect(irq.level).toBe(true);
    expect(read(RBR)).toBe(0x78);
  });

  it("sends a byte that another VMM's blocked backend did not accept", () => {
    const { state } = uart;
    state.fcr = 0x01;
    state.lsr = 0;
    state.tsrRetry = 1;
    state.tsr = 0x61;
    state.xmitFifo.data.set([0x62, 0x63]);
    state.xmitFifo.num = 2;
    uart.afterLoad();
    expect(sent).toEqual([]);
    uart.unquiesce();
    expect(Buffer.from(sent).toString()).toBe("abc");
    expect(read(LSR)).toBe(0x60);
  });

  it("sends the byte that waits in THR without FIFOs", () => {
    Object.assign(uart.state, { lsr: 0, tsrRetry: 4, tsr: 0x61, thr: 0x62 });
    uart.afterLoad();
    uart.unquiesce();
    expect(Buffer.from(sent).toString()).toBe("ab");
  });
});
