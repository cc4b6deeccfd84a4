// The built-in SBI firmware, tested through a whole vCPU thread: every extension, its errors, and its
// requests to other harts.
import { describe, expect, test } from "vitest";
import { RAM, ScriptedVm } from "../../../test/support/scripted-vm.ts";
import { HfenceQueue } from "../requests/hfence-queue.ts";
import {
  CTL_LINES,
  CTL_MP_STATE,
  CTL_RUN,
  HFENCE_CAPACITY,
  SBI_STA_SHMEM,
  SBI_START_ADDRESS,
  SBI_START_ARGUMENT,
  SBI_SUSPEND_TYPE,
} from "../shared/memory-map.ts";
import { MP_STATE } from "../../accelerator/mp-state.ts";
import { REQ, type VcpuRequests } from "../requests/vcpu-requests.ts";
import { RUN } from "../shared/run-page.ts";
import type { HartImage } from "../hart/hart-image.ts";
import { startHart } from "./sbi.ts";
import { EXIT } from "../hart/engine-interface.ts";

const SUCCESS = 0n;
const FAILED = -1n;
const NOT_SUPPORTED = -2n;
const INVALID_PARAM = -3n;
const DENIED = -4n;
const INVALID_ADDRESS = -5n;
const ALREADY_AVAILABLE = -6n;

const BASE = 0x10;
const TIME = 0x54494d45;
const IPI = 0x735049;
const RFENCE = 0x52464e43;
const HSM = 0x48534d;
const SRST = 0x53525354;
const DBCN = 0x4442434e;
const SUSP = 0x53555350;
const STA = 0x535441;
const PMU = 0x504d55;
const FWFT = 0x46574654;
const DBTR = 0x44425452;
const SSE = 0x535345;
const MPXY = 0x4d505859;
const CPPC = 0x43505043;
const NACL = 0x4e41434c;
const ALL = 2n ** 64n - 1n;
const SSIP = 2n;
const slice = (): number => EXIT.SLICE;

function machine(harts = 3, steal = false): ScriptedVm {
  const s = new ScriptedVm({ harts, steal });
  // Requests from the VM's creation are not part of these tests.
  for (let hart = 0; hart < harts; hart++) {
    s.run(hart, slice);
    (s.images[hart] as HartImage).set("pc", BigInt(RAM));
  }
  s.log.length = 0;
  return s;
}
const requestsOf = (s: ScriptedVm, hart: number): VcpuRequests => s.requests[hart] as VcpuRequests;
const imageOf = (s: ScriptedVm, hart: number): HartImage => s.images[hart] as HartImage;
const pending = (s: ScriptedVm): bigint[] => s.images.map((i) => i.get("mip"));

test("an unknown extension or function is not supported, and pc advances after every call", () => {
  const s = machine(1);
  expect(s.ecall(0, 0x0a000000, 0)).toEqual([NOT_SUPPORTED, 0n]);
  for (const extension of [BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN, SUSP, STA, PMU, FWFT, DBTR]) {
    expect([extension, ...s.ecall(0, extension, 99)]).toEqual([extension, NOT_SUPPORTED, 0n]);
  }
  expect(imageOf(s, 0).get("pc")).toBe(BigInt(RAM) + 52n);
  imageOf(s, 0).set("x", 1n << 40n, 17);
  s.run(0, () => EXIT.ECALL);
  expect(BigInt.asIntN(64, imageOf(s, 0).get("x", 10))).toBe(NOT_SUPPORTED);
});

describe("BASE", () => {
  test("reports version 3.0 and its implementation", () => {
    const s = machine(1);
    expect([0, 1, 2, 4, 5, 6].map((f) => s.ecall(0, BASE, f))).toEqual([
      [SUCCESS, 0x03000000n],
      [SUCCESS, 0x57n],
      [SUCCESS, 1n],
      ...Array.from({ length: 3 }, () => [SUCCESS, 0n]),
    ]);
  });

  test("extensions that it reports respond, others do not", () => {
    for (const steal of [false, true]) {
      const s = machine(1, steal);
      const probe = (extension: number): bigint => s.ecall(0, BASE, 3, [BigInt(extension)])[1];
      const there = [BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN, SUSP, PMU, FWFT, ...(steal ? [STA] : [])];
      expect(there.map(probe)).toEqual(there.map(() => 1n));
      expect([DBTR, SSE, MPXY, CPPC, NACL, 9, ...(steal ? [] : [STA])].map(probe)).not.toContain(1n);
      const legacy = [0, 1, 2, 3, 4, 5, 6, 7];
      const answers = legacy.map((extension) => (s.ecall(0, extension, 0)[0] === NOT_SUPPORTED ? 0n : 1n));
      expect(legacy.map(probe)).toEqual(answers);
    }
  });
});

test("TIME sets stimecmp; an expired timer is pending at once, one in the future is not", () => {
  const s = machine(1);
  s.vm.clock.write(1000n);
  s.vm.clock.start();
  const stip = (): number => requestsOf(s, 0).load(CTL_LINES) & (1 << 5);
  expect(s.ecall(0, TIME, 0, [1000n])[0]).toBe(SUCCESS);
  expect([imageOf(s, 0).get("stimecmp"), stip()]).toEqual([1000n, 1 << 5]);
  expect(s.ecall(0, TIME, 0, [ALL])[0]).toBe(SUCCESS);
  expect([imageOf(s, 0).get("stimecmp"), stip()]).toEqual([ALL, 0]);
});

/** Bits above the 32 of an argument of type uint32_t. */
const UPPER = 0xdeadbeefn << 32n;

describe("arguments of 32 bits: the upper bits are ignored", () => {
  const others = (s: ScriptedVm): void => {
    for (const hart of [1, 2]) requestsOf(s, hart).store(CTL_MP_STATE, MP_STATE.STOPPED);
  };
  test("HSM's suspend_type", () => {
    const s = machine();
    expect(s.ecall(1, HSM, 3, [UPPER, 1n, 2n])[0]).toBe(SUCCESS);
    expect(requestsOf(s, 1).load(CTL_MP_STATE)).toBe(MP_STATE.SUSPENDED);
    expect(s.ecall(0, HSM, 3, [UPPER | 1n, 1n, 2n])[0]).toBe(INVALID_PARAM);
  });
  test("SUSP's sleep_type", () => {
    const s = machine();
    others(s);
    expect(s.ecall(0, SUSP, 0, [UPPER | 1n, BigInt(RAM), 0n])[0]).toBe(INVALID_PARAM);
    s.ecall(0, SUSP, 0, [UPPER, BigInt(RAM), 0n]);
    expect(s.log).toContain("suspend");
  });
  test("SRST's reset_type and reset_reason", () => {
    const s = machine();
    s.ecall(0, SRST, 0, [UPPER | 1n, UPPER]);
    s.ecall(0, SRST, 0, [UPPER, UPPER | 1n]);
    expect(s.log.filter((l) => l !== "run")).toEqual(["reset", "crash"]);
    for (const [type, reason] of [
      [3n, 0n],
      [0xf0000000n, 0n],
      [0n, 2n],
      [0n, 0xe0000000n],
    ] as const)
      expect(s.ecall(0, SRST, 0, [UPPER | type, UPPER | reason])[0]).toBe(INVALID_PARAM);
  });
});

describe("IPI", () => {
  test("goes to the harts of the mask, from its base, and wakes them", () => {
    const s = machine();
    expect(s.ecall(0, IPI, 0, [0b11n, 1n])[0]).toBe(SUCCESS);
    expect(pending(s)).toEqual([0n, SSIP, SSIP]);
    expect([1, 2].map((h) => requestsOf(s, h).test(REQ.UNBLOCK))).toEqual([true, true]);
    expect(requestsOf(s, 0).test(REQ.UNBLOCK)).toBe(false);
  });
  test("a base of all ones means every hart, whatever the mask; an empty mask means none", () => {
    const s = machine();
    expect(s.ecall(0, IPI, 0, [0n, 99n])[0]).toBe(SUCCESS);
    expect(pending(s)).toEqual([0n, 0n, 0n]);
    expect(s.ecall(0, IPI, 0, [0n, ALL])[0]).toBe(SUCCESS);
    expect(pending(s)).toEqual([SSIP, SSIP, SSIP]);
  });
  test.each([
    [0b1001n, 0n],
    [1n, 3n],
    [1n << 63n, ALL - 1n],
  ])("a hart that does not exist (mask %s, base %s): nobody gets it", (mask, base) => {
    const s = machine();
    expect(s.ecall(0, IPI, 0, [mask, base])[0]).toBe(INVALID_PARAM);
    expect(pending(s)).toEqual([0n, 0n, 0n]);
  });
});

describe("RFENCE", () => {
  const made = (s: ScriptedVm): string[] =>
    s.requests.map((r) =>
      (["FENCE_I", "HFENCE", "HFENCE_VVMA_ALL"] as const).filter((n) => r.test(REQ[n])).join(),
    );

  test("fence.i makes requests to the targets, including the calling hart", () => {
    const s = machine();
    expect(s.ecall(0, RFENCE, 0, [0b101n, 0n])[0]).toBe(SUCCESS);
    expect(made(s)).toEqual(["FENCE_I", "", "FENCE_I"]);
  });

  test("a range is queued for the targets; with or without an ASID", () => {
    const s = machine();
    expect(s.ecall(0, RFENCE, 1, [0b10n, 0n, 0x5000n, 0x2000n])[0]).toBe(SUCCESS);
    expect(s.ecall(0, RFENCE, 2, [0b10n, 0n, 0x9000n, 0x1000n, 0x1_0007n])[0]).toBe(SUCCESS);
    expect(made(s)).toEqual(["", "HFENCE", ""]);
    expect(new HfenceQueue(s.vm.buffer, 1).drain()).toEqual([
      { type: 1, asid: 0, start: 0x5000n, size: 0x2000n },
      { type: 2, asid: 7, start: 0x9000n, size: 0x1000n },
    ]);
  });

  test.each([
    [0n, 0n],
    [0n, ALL],
    [0x1000n, ALL],
  ])("the whole address space (start %s, size %s) needs no queue", (start, size) => {
    const s = machine();
    s.ecall(0, RFENCE, 1, [0b10n, 0n, start, size]);
    expect(made(s)).toEqual(["", "HFENCE_VVMA_ALL", ""]);
    expect(new HfenceQueue(s.vm.buffer, 1).drain()).toEqual([]);
    s.ecall(0, RFENCE, 2, [0b1n, 0n, start, size, 7n], slice);
    expect(s.log.slice(-2)).toEqual(["flush space 7", "run"]);
  });

  test("a target whose queue is full flushes everything; the others receive their range", () => {
    const s = machine();
    const queue = new HfenceQueue(s.vm.buffer, 1);
    for (let i = 0; i < HFENCE_CAPACITY; i++) queue.push({ type: 1, asid: 0, start: 0n, size: 4096n });
    expect(s.ecall(0, RFENCE, 1, [0b110n, 0n, 0x5000n, 0x1000n])[0]).toBe(SUCCESS);
    expect(made(s)).toEqual(["", "HFENCE_VVMA_ALL", "HFENCE"]);
  });

  test("an unknown function is not supported, whatever its arguments", () => {
    for (const func of [3, 6, 7]) expect(machine().ecall(0, RFENCE, func, [ALL, 0n])[0]).toBe(NOT_SUPPORTED);
  });

  test("if a target does not exist, no request is made", () => {
    const s = machine();
    expect(s.ecall(0, RFENCE, 0, [0b1010n, 0n])[0]).toBe(INVALID_PARAM);
    expect(made(s)).toEqual(["", "", ""]);
  });

  test("the guest's fence is complete before its next instruction", () => {
    const s = machine();
    s.ecall(0, RFENCE, 1, [1n, 0n, 0x5000n, 0x1000n], slice);
    expect(s.log).toEqual(["run", "flush 5000", "run"]);
  });
});

describe("HSM", () => {
  const status = (s: ScriptedVm, hart: bigint): [bigint, bigint] => s.ecall(0, HSM, 2, [hart]);

  test("a stopped hart starts at the address, in S-mode, with its id and the argument", () => {
    const s = machine();
    requestsOf(s, 1).store(CTL_MP_STATE, MP_STATE.STOPPED);
    imageOf(s, 1).set("satp", 8n << 60n);
    imageOf(s, 1).set("mstatus", imageOf(s, 1).get("mstatus") | 2n);
    imageOf(s, 1).set("x", 5n, 5);
    expect(status(s, 1n)).toEqual([SUCCESS, 1n]);
    expect(s.ecall(0, HSM, 0, [1n, BigInt(RAM + 0x100), 42n])[0]).toBe(SUCCESS);
    expect(status(s, 1n)).toEqual([SUCCESS, 2n]);
    s.run(1, slice);
    expect(status(s, 1n)).toEqual([SUCCESS, 0n]);
    const image = imageOf(s, 1);
    expect([image.get("pc"), image.get("x", 10), image.get("x", 11)]).toEqual([BigInt(RAM + 0x100), 1n, 42n]);
    expect([image.get("priv"), image.get("satp"), image.get("mstatus") & 2n]).toEqual([1n, 0n, 0n]);
  });

  test("errors of a start", () => {
    const s = machine();
    expect(s.ecall(0, HSM, 0, [1n, BigInt(RAM), 0n])[0]).toBe(ALREADY_AVAILABLE);
    expect(s.ecall(0, HSM, 0, [0n, BigInt(RAM), 0n])[0]).toBe(ALREADY_AVAILABLE);
    expect(s.ecall(0, HSM, 0, [3n, BigInt(RAM), 0n])[0]).toBe(INVALID_PARAM);
    expect(s.ecall(0, HSM, 0, [ALL, BigInt(RAM), 0n])[0]).toBe(INVALID_PARAM);
    requestsOf(s, 1).store(CTL_MP_STATE, MP_STATE.STOPPED);
    expect(s.ecall(0, HSM, 0, [1n, 0x1000_0000n, 0n])[0]).toBe(INVALID_ADDRESS);
    expect(requestsOf(s, 1).load(CTL_MP_STATE)).toBe(MP_STATE.STOPPED);
    expect(s.ecall(0, HSM, 2, [3n])[0]).toBe(INVALID_PARAM);
  });

  test("of two concurrent starts one succeeds, and its address is used", () => {
    const s = machine();
    const target = requestsOf(s, 1);
    target.store(CTL_MP_STATE, MP_STATE.STOPPED);
    expect(startHart(target, 0x80000100n, 1n)).toBe(true);
    expect(startHart(target, 0x80000200n, 2n)).toBe(false);
    expect([target.read64(SBI_START_ADDRESS), target.read64(SBI_START_ARGUMENT)]).toEqual([0x80000100n, 1n]);
  });

  test("a hart that stops itself sleeps; if it is started before it sleeps, it starts", () => {
    const s = machine();
    s.ecall(1, HSM, 1, [], slice);
    expect(s.log).toEqual(["run", "sleep"]);
    expect(status(s, 1n)).toEqual([SUCCESS, 1n]);
    s.log.length = 0;
    requestsOf(s, 1).store(CTL_MP_STATE, MP_STATE.RUNNABLE);
    s.sleeps.push(() => void startHart(requestsOf(s, 1), BigInt(RAM + 0x200), 0n));
    s.ecall(1, HSM, 1, [], slice);
    expect(s.log).toEqual(["run", "sleep", "flush", "run"]);
    expect(imageOf(s, 1).get("pc")).toBe(BigInt(RAM + 0x200));
  });

  test("a retentive suspend returns success after the wake-up", () => {
    const s = machine();
    imageOf(s, 1).set("mie", 2n);
    s.sleeps.push(() => {
      expect(requestsOf(s, 1).load(CTL_MP_STATE)).toBe(MP_STATE.SUSPENDED);
      imageOf(s, 1).set("mip", SSIP);
      requestsOf(s, 1).make(REQ.UNBLOCK);
    });
    const [error] = s.ecall(1, HSM, 3, [0n, 1n, 2n], slice);
    expect(error).toBe(SUCCESS);
    expect(imageOf(s, 1).get("pc")).toBe(BigInt(RAM + 4));
  });

  test("status reports a suspended hart", () => {
    const s = machine();
    requestsOf(s, 1).store(CTL_MP_STATE, MP_STATE.SUSPENDED);
    expect(status(s, 1n)).toEqual([SUCCESS, 4n]);
  });

  test("between interrupt and reset a hart that resumes is RESUME_PENDING; one that starts is START_PENDING", () => {
    const s = machine();
    const target = requestsOf(s, 1);
    s.ecall(1, HSM, 3, [0x80000000n, BigInt(RAM + 0x300), 6n]);
    target.store(CTL_MP_STATE, MP_STATE.INIT_RECEIVED);
    target.make(REQ.VCPU_RESET);
    expect(status(s, 1n)).toEqual([SUCCESS, 6n]);
    s.run(1, slice);
    expect([status(s, 1n), target.read64(SBI_SUSPEND_TYPE)]).toEqual([[SUCCESS, 0n], 0n]);
    target.store(CTL_MP_STATE, MP_STATE.STOPPED);
    expect(s.ecall(0, HSM, 0, [1n, BigInt(RAM), 0n])[0]).toBe(SUCCESS);
    expect(status(s, 1n)).toEqual([SUCCESS, 2n]);
  });

  test("a non-retentive suspend resumes at the resume address", () => {
    const s = machine();
    const image = imageOf(s, 1);
    image.set("mie", 2n);
    image.set("mip", SSIP);
    s.ecall(1, HSM, 3, [0x80000000n, BigInt(RAM + 0x300), 6n], slice);
    expect([image.get("pc"), image.get("x", 10), image.get("x", 11)]).toEqual([BigInt(RAM + 0x300), 1n, 6n]);
    expect(requestsOf(s, 1).load(CTL_MP_STATE)).toBe(MP_STATE.RUNNABLE);
  });

  test("suspend types that are reserved or not implemented, and a resume address that is not memory", () => {
    const s = machine();
    for (const type of [1n, 0x0fffffffn, 0x10000000n, 0x7fffffffn, 0x80000001n, 0x90000000n, 0xffffffffn]) {
      expect([type, s.ecall(0, HSM, 3, [type, BigInt(RAM), 0n])[0]]).toEqual([type, INVALID_PARAM]);
    }
    expect(s.ecall(0, HSM, 3, [0x80000000n, 0x1000n, 0n])[0]).toBe(INVALID_ADDRESS);
    expect(requestsOf(s, 0).load(CTL_MP_STATE)).toBe(MP_STATE.RUNNABLE);
  });
});

describe("SRST", () => {
  test.each([
    [0n, 0n, "shutdown"],
    [1n, 0n, "reset"],
    [2n, 0n, "reset"],
    [0n, 1n, "crash"],
  ])("type %s for reason %s: %s, and no instruction after it", (type, reason, event) => {
    const s = machine();
    s.ecall(0, SRST, 0, [type, reason], slice);
    expect(s.log).toEqual(["run", event, "parked"]);
  });
  test("reserved types and reasons", () => {
    const s = machine();
    expect(s.ecall(0, SRST, 0, [3n, 0n])[0]).toBe(INVALID_PARAM);
    expect(s.ecall(0, SRST, 0, [0n, 2n])[0]).toBe(INVALID_PARAM);
    expect(s.log).toEqual(["run", "run"]);
    s.ecall(0, SRST, 0, [0n, 0n]);
    expect(BigInt.asIntN(64, imageOf(s, 0).get("x", 10))).toBe(FAILED);
  });
});

describe("DBCN", () => {
  const at = BigInt(RAM + 0x1000);
  test("writes from memory, in pieces that the VMM receives in order; and a single byte", () => {
    const s = machine();
    const text = "0123456789".repeat(30);
    s.vm.memory.write(Number(at), new TextEncoder().encode(text));
    expect(s.ecall(0, DBCN, 0, [300n, at, 0n])).toEqual([SUCCESS, 300n]);
    expect(
      s.log
        .filter((l) => l.startsWith("console"))
        .map((l) => l.slice(8))
        .join(""),
    ).toBe(text);
    s.log.length = 0;
    expect(s.ecall(0, DBCN, 2, [0x141n])).toEqual([SUCCESS, 0n]);
    expect(s.log).toEqual(["run", "console A"]);
    expect(s.ecall(0, DBCN, 0, [0n, 0n, 0n])).toEqual([SUCCESS, 0n]);
  });
  test("tells how much a console whose reader is behind took, and waits to write one byte", () => {
    const s = machine();
    s.vm.memory.write(Number(at), new TextEncoder().encode("abc"));
    s.consoleRoom = 2;
    expect(s.ecall(0, DBCN, 0, [3n, at, 0n])).toEqual([SUCCESS, 2n]);
    expect(s.ecall(0, DBCN, 0, [3n, at, 0n])).toEqual([SUCCESS, 0n]);
    expect(s.log).toEqual(["run", "console ab", "run"]);
    for (const [extension, func] of [
      [DBCN, 2],
      [0x01, 0],
    ] as const) {
      s.log.length = 0;
      s.consoleRoom = 0;
      imageOf(s, 0).set("pc", 0x8000_0100n);
      // The ECALL has not happened: the hart can be stopped here, and makes it again.
      const again = (): number => {
        const image = imageOf(s, 0);
        expect([image.get("pc"), image.get("x", 10), image.get("x", 11)]).toEqual([0x8000_0100n, 0x41n, 9n]);
        s.consoleRoom = 1;
        return EXIT.ECALL;
      };
      expect(s.ecall(0, extension, func, [0x41n, 9n], again)[0]).toBe(SUCCESS);
      expect(s.log).toEqual(["run", "sleep", "run", "console A"]);
      expect(imageOf(s, 0).get("pc")).toBe(0x8000_0104n);
    }
  });
  test("reads the available bytes, and marks the page dirty", async () => {
    const s = machine();
    await s.vm.getAndClearDirtyLog(0);
    expect(s.ecall(0, DBCN, 1, [10n, at, 0n])).toEqual([SUCCESS, 0n]);
    expect((await s.vm.getAndClearDirtyLog(0))[0]).toBe(0);
    s.input = "hi";
    expect(s.ecall(0, DBCN, 1, [10n, at, 0n])).toEqual([SUCCESS, 2n]);
    expect(new TextDecoder().decode(s.ram(Number(at), 2))).toBe("hi");
    expect((await s.vm.getAndClearDirtyLog(0))[0]).toBe(2);
  });
  test("the whole range must be memory, of any number of bytes; what can be written in one call is", () => {
    const s = machine();
    for (const func of [0, 1]) {
      for (const bytes of [1n << 32n, (1n << 32n) | 5n, ALL, 0x3f001n])
        expect([func, bytes, s.ecall(0, DBCN, func, [bytes, at, 0n])[0]]).toEqual([
          func,
          bytes,
          INVALID_PARAM,
        ]);
    }
    expect(s.ecall(0, DBCN, 0, [0x3f000n, at, 0n])).toEqual([SUCCESS, 4096n]);
    expect(s.ecall(0, DBCN, 0, [0n, 0x1000_0000n, 0n])).toEqual([SUCCESS, 0n]);
  });
  test("memory that does not exist", () => {
    const s = machine();
    for (const func of [0, 1]) {
      expect(s.ecall(0, DBCN, func, [16n, 0x1000_0000n, 0n])[0]).toBe(INVALID_PARAM);
      expect(s.ecall(0, DBCN, func, [16n, at, 1n])[0]).toBe(INVALID_PARAM);
      expect(s.ecall(0, DBCN, func, [16n, BigInt(RAM + 0x40000 - 8), 0n])[0]).toBe(INVALID_PARAM);
    }
    expect(s.log.filter((l) => l !== "run")).toEqual([]);
  });
});

describe("SUSP", () => {
  const stopOthers = (s: ScriptedVm): void => {
    for (const hart of [1, 2]) requestsOf(s, hart).store(CTL_MP_STATE, MP_STATE.STOPPED);
  };
  test("is denied while another hart is not stopped", () => {
    const s = machine();
    stopOthers(s);
    for (const state of [MP_STATE.RUNNABLE, MP_STATE.INIT_RECEIVED, MP_STATE.SUSPENDED]) {
      requestsOf(s, 2).store(CTL_MP_STATE, state);
      expect(s.ecall(0, SUSP, 0, [0n, BigInt(RAM), 0n])[0]).toBe(DENIED);
    }
    expect(requestsOf(s, 0).load(CTL_MP_STATE)).toBe(MP_STATE.RUNNABLE);
  });
  test("errors", () => {
    const s = machine();
    stopOthers(s);
    expect(s.ecall(0, SUSP, 0, [1n, BigInt(RAM), 0n])[0]).toBe(INVALID_PARAM);
    expect(s.ecall(0, SUSP, 0, [0n, 0x1000n, 0n])[0]).toBe(INVALID_ADDRESS);
    expect(s.log).toEqual(["run", "run"]);
  });
  test("notifies the VMM, sleeps, and resumes at its address on an interrupt", () => {
    const s = machine();
    stopOthers(s);
    imageOf(s, 0).set("mie", 2n);
    s.sleeps.push(() => {
      imageOf(s, 0).set("mip", SSIP);
      requestsOf(s, 0).make(REQ.UNBLOCK);
    });
    s.ecall(0, SUSP, 0, [0n, BigInt(RAM + 0x500), 3n], slice);
    expect(s.log).toEqual(["run", "suspend", "sleep", "flush", "run"]);
    expect([imageOf(s, 0).get("pc"), imageOf(s, 0).get("x", 11)]).toEqual([BigInt(RAM + 0x500), 3n]);
  });
});

describe("STA", () => {
  test("is absent on a host that cannot measure a thread's time", () => {
    expect(machine(1).ecall(0, STA, 0, [BigInt(RAM), 0n, 0n])[0]).toBe(NOT_SUPPORTED);
  });
  test("zeroes the structure, fills it, and stops on request", () => {
    const s = machine(1, true);
    s.vm.memory.write(RAM + 64, new Uint8Array(64).fill(0xaa));
    expect(s.ecall(0, STA, 0, [BigInt(RAM + 64), 0n, 0n], slice)[0]).toBe(SUCCESS);
    const view = new DataView(s.ram(RAM + 64, 64).buffer);
    expect([view.getUint32(0, true), view.getUint32(4, true), view.getBigUint64(8, true)]).toEqual([
      2,
      0,
      0n,
    ]);
    expect(s.ecall(0, STA, 0, [ALL, ALL, 0n])[0]).toBe(SUCCESS);
    expect(requestsOf(s, 0).read64(SBI_STA_SHMEM)).toBe(ALL);
  });
  test("errors", () => {
    const s = machine(1, true);
    expect(s.ecall(0, STA, 0, [BigInt(RAM), 0n, 1n])[0]).toBe(INVALID_PARAM);
    expect(s.ecall(0, STA, 0, [BigInt(RAM + 8), 0n, 0n])[0]).toBe(INVALID_PARAM);
    expect(s.ecall(0, STA, 0, [BigInt(RAM), 1n, 0n])[0]).toBe(INVALID_ADDRESS);
    expect(s.ecall(0, STA, 0, [0n, 0n, 0n])[0]).toBe(INVALID_ADDRESS);
    expect(requestsOf(s, 0).read64(SBI_STA_SHMEM)).toBe(ALL);
  });
});

test("the legacy calls return in a0 alone", () => {
  const s = machine();
  const image = imageOf(s, 0);
  expect(s.ecall(0, 0, 0, [123n, 7n])).toEqual([0n, 7n]);
  expect(image.get("stimecmp")).toBe(123n);
  expect(s.ecall(0, 1, 0, [65n, 7n])).toEqual([0n, 7n]);
  expect(s.log).toEqual(["run", "run", "console A"]);
  expect(s.ecall(0, 2, 0, [0n, 7n])).toEqual([-1n, 7n]);
  s.input = "z";
  expect(s.ecall(0, 2, 0)).toEqual([122n, 0n]);
  image.set("mip", SSIP);
  expect(s.ecall(0, 3, 0)[0]).toBe(1n);
  expect([image.get("mip"), s.ecall(0, 3, 0)[0]]).toEqual([0n, 0n]);
  s.log.length = 0;
  s.ecall(0, 8, 0, [], slice);
  expect(s.log).toEqual(["run", "shutdown", "parked"]);
  expect(requestsOf(s, 0).load(CTL_RUN)).toBe(RUN.PARKED);
});
