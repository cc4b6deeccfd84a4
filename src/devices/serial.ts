// 16550A UART with 16-byte FIFOs (National Semiconductor PC16550D data sheet); state and quirks of QEMU's
// `serial`. A byte written to THR is sent at once, so the guest sees an empty transmitter, unless the reader
// of the backend is behind: then TSR holds one byte, FIFO or THR more, and the guest waits. Input is read
// from the backend only when the guest wants it. Left out: modem lines of a real port, break, baud-rate
// timing of the transmitter.
import type { IrqLine } from "../memory/irq-line.ts";
import type { MmioDevice } from "../memory/mmio.ts";
import {
  buffer,
  defineState,
  i32,
  type StateOf,
  struct,
  subsection,
  timer,
  u8,
  u16,
  u32,
} from "../state/schema.ts";
import type { CharBackend } from "./char-backend.ts";
import { type DeviceClock, type DeviceTimer, TIMER_OFF } from "./device-clock.ts";

export const UART_FIFO_LENGTH = 16;
/** Offset of the line status register. */
export const UART_LSR = 5;
/**
 * A transmitter that has become busy may still get this many bytes more than it holds: vCPUs queue writes to
 * THR, and see LSR change only afterwards. The backend takes them.
 */
const MAX_LATE_BYTES = 256;

const IER_RDI = 0x01;
const IER_THRI = 0x02;
const IER_RLSI = 0x04;
const IER_MSI = 0x08;

const IIR_NO_INT = 0x01;
const IIR_ID = 0x06;
const IIR_MSI = 0x00;
const IIR_THRI = 0x02;
const IIR_RDI = 0x04;
const IIR_RLSI = 0x06;
const IIR_CTI = 0x0c;
/** Both bits: FIFOs enabled and working. */
const IIR_FE = 0xc0;

const FCR_FE = 0x01;
const FCR_RFR = 0x02;
const FCR_XFR = 0x04;
/** Bits that are kept: trigger level, DMA mode, FIFO enable. */
const FCR_STICKY = 0xc9;
const RECEIVE_TRIGGER = [1, 4, 8, 14] as const;

const LCR_DLAB = 0x80;
const MCR_OUT2 = 0x08;
const MCR_LOOP = 0x10;

const LSR_DR = 0x01;
const LSR_OE = 0x02;
const LSR_BI = 0x10;
const LSR_INT_ANY = 0x1e;
const LSR_THRE = 0x20;
const LSR_TEMT = 0x40;

const MSR_ANY_DELTA = 0x0f;
const MSR_CTS_DSR_DCD = 0xb0;

const fifoState = defineState(
  "Fifo8",
  { version: 1 },
  {
    data: buffer(UART_FIFO_LENGTH),
    head: u32.range(0, UART_FIFO_LENGTH - 1),
    num: u32.range(0, UART_FIFO_LENGTH),
  },
);
type Fifo = StateOf<typeof fifoState>;

function fifoPush(fifo: Fifo, byte: number): void {
  fifo.data[(fifo.head + fifo.num) % UART_FIFO_LENGTH] = byte;
  fifo.num++;
}
function fifoPop(fifo: Fifo): number {
  const byte = fifo.data[fifo.head] as number;
  fifo.head = (fifo.head + 1) % UART_FIFO_LENGTH;
  fifo.num--;
  return byte;
}
function fifoReset(fifo: Fifo): void {
  fifo.head = 0;
  fifo.num = 0;
}

/** The value of thr_ipending until it is derived from IIR, for a stream without it. */
const UNKNOWN = -1;

export const serialState = defineState(
  "serial",
  {
    version: 3,
    minimumVersion: 2,
    postLoad(s) {
      if (s.thrIpending === UNKNOWN) s.thrIpending = (s.iir & IIR_ID) === IIR_THRI ? 1 : 0;
      s.fcr &= FCR_STICKY;
      s.pollMsl = UNKNOWN;
      s.modemStatusPoll = TIMER_OFF;
    },
  },
  {
    divider: u16,
    rbr: u8,
    ier: u8.range(0, 0x0f),
    iir: u8,
    lcr: u8,
    mcr: u8.range(0, 0x1f),
    lsr: u8,
    msr: u8,
    scr: u8,
    fcr: u8.since(3).named("fcr_vmstate"),
  },
  [
    subsection(
      "serial/thr_ipending",
      {
        version: 1,
        needed: (s) => (s.ier & IER_THRI) !== 0 && (s.thrIpending !== 0) !== ((s.iir & IIR_ID) === IIR_THRI),
      },
      { thrIpending: i32.range(-1, 1).init(UNKNOWN) },
    ),
    subsection(
      "serial/tsr",
      { version: 1, needed: (s) => s.tsrRetry !== 0 },
      { tsrRetry: i32, thr: u8, tsr: u8 },
    ),
    subsection(
      "serial/recv_fifo",
      { version: 1, needed: (s) => s.recvFifo.num !== 0 },
      { recvFifo: struct(fifoState) },
    ),
    subsection(
      "serial/xmit_fifo",
      { version: 1, needed: (s) => s.xmitFifo.num !== 0 },
      { xmitFifo: struct(fifoState) },
    ),
    subsection(
      "serial/fifo_timeout_timer",
      { version: 1, needed: (s) => s.fifoTimeoutTimer !== TIMER_OFF },
      { fifoTimeoutTimer: timer.init(TIMER_OFF) },
    ),
    subsection(
      "serial/timeout_ipending",
      { version: 1, needed: (s) => s.timeoutIpending !== 0 },
      { timeoutIpending: i32.range(0, 1) },
    ),
    subsection(
      "serial/poll",
      { version: 1, needed: (s) => s.pollMsl >= 0 },
      { pollMsl: i32.init(UNKNOWN), modemStatusPoll: timer.init(TIMER_OFF) },
    ),
  ],
);

export interface SerialParts {
  readonly backend: CharBackend;
  readonly irq: IrqLine;
  /** The clock of guest time. */
  readonly clock: DeviceClock;
  /** Holds LSR while vCPUs may read it without an exit; undefined: every read exits. */
  readonly lsrShadow?: { set(value: number | undefined): void } | undefined;
  /** Input clock of the baud-rate generator; divisor 1 gives a sixteenth of it. */
  readonly clockHz: number;
}

export class Serial implements MmioDevice {
  readonly state = serialState.create();
  readonly #backend: CharBackend;
  readonly #irq: IrqLine;
  readonly #clock: DeviceClock;
  readonly #clockHz: number;
  readonly #lsrShadow: SerialParts["lsrShadow"];
  readonly #timeout: DeviceTimer;
  readonly #byte = new Uint8Array(1);
  #lateBytes = 0;

  constructor(parts: SerialParts) {
    this.#backend = parts.backend;
    this.#irq = parts.irq;
    this.#clock = parts.clock;
    this.#clockHz = parts.clockHz;
    this.#lsrShadow = parts.lsrShadow;
    this.#timeout = parts.clock.timer(
      () => this.state.fifoTimeoutTimer,
      () => this.#receiveTimeout(),
    );
    this.#backend.onReadable(() => {
      this.#lsrShadow?.set(undefined);
      if (this.#clock.running && (this.state.ier & IER_RDI) !== 0) this.#receive();
    });
    this.#backend.onWritable?.(() => {
      if (this.#clock.running && this.state.tsrRetry !== 0) this.#transmit();
    });
    this.reset();
  }

  reset(): void {
    const s = this.state;
    this.#lateBytes = 0;
    this.#lsrShadow?.set(undefined);
    serialState.assign(s, serialState.create());
    s.iir = IIR_NO_INT;
    s.lsr = LSR_TEMT | LSR_THRE;
    s.msr = MSR_CTS_DSR_DCD;
    s.divider = 12;
    s.mcr = MCR_OUT2;
    s.thrIpending = 0;
    this.#timeout.update();
    this.#updateIrq(true);
  }

  /** Rebuilds the interrupt level and the timer from the state. */
  afterLoad(): void {
    this.#lsrShadow?.set(undefined);
    this.#timeout.update();
    this.#updateIrq(true);
  }

  /** The machine is about to run: goes on sending, and polls for input. */
  unquiesce(): void {
    this.#transmit();
    if ((this.state.ier & IER_RDI) !== 0) this.#receive();
  }

  read(offset: number): number {
    const s = this.state;
    switch (offset & 7) {
      case 0:
        return (s.lcr & LCR_DLAB) !== 0 ? s.divider & 0xff : this.#readRbr();
      case 1:
        return (s.lcr & LCR_DLAB) !== 0 ? s.divider >> 8 : s.ier;
      case 2: {
        const { iir } = s;
        if ((iir & IIR_ID) === IIR_THRI) {
          s.thrIpending = 0;
          this.#updateIrq();
        }
        return iir;
      }
      case 3:
        return s.lcr;
      case 4:
        return s.mcr;
      case UART_LSR:
        return this.#readLsr();
      case 6:
        return this.#readMsr();
      default:
        return s.scr;
    }
  }

  write(offset: number, _size: number, value: number): void {
    const s = this.state;
    const byte = value & 0xff;
    // Sending a byte changes nothing in LSR: the transmitter is empty again.
    if ((offset & 7) !== 0) this.#lsrShadow?.set(undefined);
    switch (offset & 7) {
      case 0:
        if ((s.lcr & LCR_DLAB) !== 0) s.divider = (s.divider & 0xff00) | byte;
        else this.#writeThr(byte);
        break;
      case 1:
        if ((s.lcr & LCR_DLAB) !== 0) s.divider = (s.divider & 0x00ff) | (byte << 8);
        else this.#writeIer(byte & 0x0f);
        break;
      case 2:
        this.#writeFcr(byte);
        break;
      case 3:
        s.lcr = byte;
        break;
      case 4:
        s.mcr = byte & 0x1f;
        break;
      case 7:
        s.scr = byte;
        break;
      default:
        break;
    }
  }

  #readRbr(): number {
    const s = this.state;
    this.#lsrShadow?.set(undefined);
    let byte = s.rbr;
    if ((s.fcr & FCR_FE) === 0) {
      s.lsr &= ~(LSR_DR | LSR_BI);
    } else {
      byte = s.recvFifo.num === 0 ? 0 : fifoPop(s.recvFifo);
      s.timeoutIpending = 0;
      if (s.recvFifo.num === 0) s.lsr &= ~(LSR_DR | LSR_BI);
      this.#setTimeout(s.recvFifo.num !== 0);
    }
    if ((s.ier & IER_RDI) !== 0) this.#receive();
    this.#updateIrq();
    return byte;
  }

  #readLsr(): number {
    const s = this.state;
    // A polling guest reads LSR for input; until then, other consoles of the board may take it.
    if ((s.lsr & LSR_DR) === 0) this.#receive();
    const { lsr } = s;
    if ((lsr & (LSR_BI | LSR_OE)) !== 0) {
      s.lsr &= ~(LSR_BI | LSR_OE);
      this.#updateIrq();
    }
    // The value holds until a write, a received byte, or a read of one. Not in loopback, where sending
    // receives.
    if ((s.mcr & MCR_LOOP) === 0 && s.lsr === lsr) this.#lsrShadow?.set(lsr);
    return lsr;
  }

  #readMsr(): number {
    const s = this.state;
    if ((s.mcr & MCR_LOOP) !== 0) {
      // The outputs OUT2, OUT1, RTS, DTR are looped back as DCD, RI, CTS, DSR.
      return ((s.mcr & 0x0c) << 4) | ((s.mcr & 0x02) << 3) | ((s.mcr & 0x01) << 5);
    }
    const { msr } = s;
    if ((msr & MSR_ANY_DELTA) !== 0) {
      s.msr &= ~MSR_ANY_DELTA;
      this.#updateIrq();
    }
    return msr;
  }

  #writeThr(byte: number): void {
    const s = this.state;
    if ((s.lsr & LSR_TEMT) !== 0 && this.#canShift) {
      s.thr = byte;
      this.#shift(byte);
      s.thrIpending = 1;
      this.#updateIrq();
      return;
    }
    const hasFifo = (s.fcr & FCR_FE) !== 0;
    if (hasFifo ? s.xmitFifo.num === UART_FIFO_LENGTH : (s.lsr & LSR_THRE) === 0) this.#overrun();
    s.thr = byte;
    if (hasFifo) fifoPush(s.xmitFifo, byte);
    s.thrIpending = 0;
    s.lsr &= ~(LSR_THRE | LSR_TEMT);
    this.#transmit();
  }

  /** True if a byte can leave TSR: loopback needs no reader. */
  get #canShift(): boolean {
    return (this.state.mcr & MCR_LOOP) !== 0 || this.#backend.writable !== false;
  }

  #shift(byte: number): void {
    if ((this.state.mcr & MCR_LOOP) !== 0) return this.#accept(byte);
    this.#byte[0] = byte;
    this.#backend.write(this.#byte);
  }

  /** Moves bytes from FIFO or THR to TSR, and out of it as long as the reader keeps up. */
  #transmit(): void {
    const s = this.state;
    this.#lsrShadow?.set(undefined);
    for (;;) {
      if (s.tsrRetry === 0) {
        if (s.xmitFifo.num === 0 && (s.lsr & LSR_THRE) !== 0) break;
        s.tsr = this.#nextByte();
        s.tsrRetry = 1;
        if (s.xmitFifo.num === 0) {
          s.lsr |= LSR_THRE;
          s.thrIpending = 1;
        }
      }
      if (!this.#canShift) break;
      s.tsrRetry = 0;
      this.#shift(s.tsr);
    }
    if (s.tsrRetry === 0) {
      s.lsr |= LSR_TEMT;
      this.#lateBytes = 0;
    }
    this.#updateIrq();
  }

  #nextByte(): number {
    const { xmitFifo, thr } = this.state;
    return xmitFifo.num > 0 ? fifoPop(xmitFifo) : thr;
  }

  /** Makes room for one byte more than the transmitter holds. Above the limit, a byte is lost, as in QEMU. */
  #overrun(): void {
    const s = this.state;
    const next = this.#nextByte();
    if (this.#lateBytes === MAX_LATE_BYTES) return;
    this.#lateBytes++;
    this.#shift(s.tsr);
    s.tsr = next;
  }

  #writeIer(ier: number): void {
    const s = this.state;
    const changed = s.ier ^ ier;
    s.ier = ier;
    // Enabling THRI while THR is empty raises the interrupt again, even if it was acknowledged before.
    if ((changed & IER_THRI) !== 0) {
      s.thrIpending = (ier & IER_THRI) !== 0 && (s.lsr & LSR_THRE) !== 0 ? 1 : 0;
    }
    if ((changed & ier & IER_RDI) !== 0) this.#receive();
    if (changed !== 0) this.#updateIrq();
  }

  #writeFcr(value: number): void {
    const s = this.state;
    const resets = ((value ^ s.fcr) & FCR_FE) !== 0 ? FCR_RFR | FCR_XFR : value;
    if ((resets & FCR_RFR) !== 0) {
      s.lsr &= ~(LSR_DR | LSR_BI);
      s.timeoutIpending = 0;
      fifoReset(s.recvFifo);
      this.#setTimeout(false);
    }
    if ((resets & FCR_XFR) !== 0) {
      s.lsr |= LSR_THRE;
      s.thrIpending = 1;
      fifoReset(s.xmitFifo);
    }
    s.fcr = value & FCR_STICKY;
    s.iir = (s.iir & ~IIR_FE) | ((value & FCR_FE) !== 0 ? IIR_FE : 0);
    if ((s.ier & IER_RDI) !== 0) this.#receive();
    this.#updateIrq();
  }

  /** Takes what fits from the backend. In loopback no input comes from outside. */
  #receive(): void {
    const s = this.state;
    if ((s.mcr & MCR_LOOP) !== 0) return;
    const room = (s.fcr & FCR_FE) !== 0 ? UART_FIFO_LENGTH - s.recvFifo.num : (s.lsr & LSR_DR) === 0 ? 1 : 0;
    if (room === 0) return;
    const bytes = this.#backend.read(room);
    for (const byte of bytes) this.#accept(byte);
    if (bytes.length > 0) this.#updateIrq();
  }

  /** Receives a byte. An overrun leaves the FIFO unchanged. */
  #accept(byte: number): void {
    const s = this.state;
    this.#lsrShadow?.set(undefined);
    if ((s.fcr & FCR_FE) !== 0) {
      if (s.recvFifo.num < UART_FIFO_LENGTH) fifoPush(s.recvFifo, byte);
      else s.lsr |= LSR_OE;
      this.#setTimeout(true);
    } else {
      if ((s.lsr & LSR_DR) !== 0) s.lsr |= LSR_OE;
      s.rbr = byte;
    }
    s.lsr |= LSR_DR;
  }

  /** Four character times without a read or a new byte: the trigger level may never be reached. */
  #setTimeout(on: boolean): void {
    this.state.fifoTimeoutTimer = on ? this.#clock.nowNs() + 4n * this.#characterNs() : TIMER_OFF;
    this.#timeout.update();
  }

  #characterNs(): bigint {
    const { divider, lcr } = this.state;
    const bits = 1 + 5 + (lcr & 3) + ((lcr & 4) !== 0 ? 2 : 1) + ((lcr & 8) !== 0 ? 1 : 0);
    return BigInt(Math.round((bits * 16 * Math.max(divider, 1) * 1e9) / this.#clockHz));
  }

  #receiveTimeout(): void {
    const s = this.state;
    s.fifoTimeoutTimer = TIMER_OFF;
    if (s.recvFifo.num === 0) return;
    s.timeoutIpending = 1;
    this.#updateIrq();
  }

  /** The highest pending interrupt that IER enables (PC16550D table IV). */
  #interruptId(): number {
    const { ier, lsr, msr, fcr, recvFifo, timeoutIpending, thrIpending } = this.state;
    if ((ier & IER_RLSI) !== 0 && (lsr & LSR_INT_ANY) !== 0) return IIR_RLSI;
    if ((ier & IER_RDI) !== 0) {
      if (timeoutIpending !== 0) return IIR_CTI;
      const trigger = (fcr & FCR_FE) !== 0 ? (RECEIVE_TRIGGER[fcr >> 6] as number) : 0;
      if ((lsr & LSR_DR) !== 0 && recvFifo.num >= trigger) return IIR_RDI;
    }
    if ((ier & IER_THRI) !== 0 && thrIpending !== 0) return IIR_THRI;
    if ((ier & IER_MSI) !== 0 && (msr & MSR_ANY_DELTA) !== 0) return IIR_MSI;
    return IIR_NO_INT;
  }

  /** Sets the line to the level that IIR gives; `force` drives it even if it is unchanged. */
  #updateIrq(force = false): void {
    const id = this.#interruptId();
    const changed = ((this.state.iir ^ id) & IIR_NO_INT) !== 0;
    this.state.iir = id | (this.state.iir & 0xf0);
    if (changed || force) this.#irq.set(id !== IIR_NO_INT);
  }
}
