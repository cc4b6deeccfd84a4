// The vCPU thread's loop on a scripted engine: requests and their order, entry, parking, blocking, timers,
// exits.
import { readdirSync, readFileSync } from "node:fs";
import { afterEach, describe, expect, test, vi } from "vitest";
import { RAM, ScriptedVm, type Step } from "../../../test/support/scripted-vm.ts";
import { assemble, flatBinary } from "../../asm/assembler.ts";
import {
  CTL_HALTED,
  CTL_KICK,
  CTL_LINES,
  CTL_MMIO_DATA,
  CTL_MODE,
  CTL_MP_STATE,
  CTL_RUN,
  CTL_SLOT_BANK,
  SBI_STA_SHMEM,
  SBI_START_ADDRESS,
  SBI_START_ARGUMENT,
  SBI_STEAL_NS,
  SBI_SUSPEND_TYPE,
  VM_CURRENT_BANK,
} from "../shared/memory-map.ts";
import { HfenceQueue } from "../requests/hfence-queue.ts";
import { MP_STATE } from "../../accelerator/mp-state.ts";
import { REQ, VCPU_MODE, VcpuRequests } from "../requests/vcpu-requests.ts";
import type { HartImage } from "../hart/hart-image.ts";
import { startHart } from "../firmware/sbi.ts";
import { VIRT_MEMMAP } from "../../machines/boot/virt-map.ts";
import { RUN } from "../shared/run-page.ts";
import type { Vcpu } from "../vm/vm.ts";
import { type EngineImports, EXIT } from "../hart/engine-interface.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";

const STIP = 1 << 5;
const MTIP = 1 << 7;
const NEVER = 2n ** 64n - 1n;
const slice = (): number => EXIT.SLICE;
const nameOf = (request: number): string => Object.entries(REQ).find(([, v]) => v === request)?.[0] ?? "?";

function one(options: ConstructorParameters<typeof ScriptedVm>[0] = {}): {
  s: ScriptedVm;
  me: VcpuRequests;
  image: HartImage;
} {
  const s = new ScriptedVm(options);
  // Requests from the VM's creation are not part of these tests.
  s.run(0, slice);
  s.log.length = 0;
  return { s, me: s.requests[0] as VcpuRequests, image: s.images[0] as HartImage };
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("requests", () => {
  test("are handled in a fixed order, each once, before the next entry", () => {
    const { s, me, image } = one({ steal: true });
    me.write64(SBI_STA_SHMEM, BigInt(RAM));
    me.write64(SBI_START_ADDRESS, 0x80001000n);
    me.write64(SBI_START_ARGUMENT, 77n);
    me.store(CTL_MP_STATE, MP_STATE.INIT_RECEIVED);
    const queue = new HfenceQueue(s.vm.buffer, 0);
    queue.push({ type: 1, asid: 0, start: 0x5000n, size: 0x1000n });
    const { OUTSIDE_GUEST_MODE: _never, VM_DEAD: _last, ...handled } = REQ;
    for (const request of Object.values(handled)) me.make(request);

    const order: string[] = [];
    const check = VcpuRequests.prototype.check;
    vi.spyOn(VcpuRequests.prototype, "check").mockImplementation(function (this: VcpuRequests, request) {
      const made = check.call(this, request);
      if (made) order.push(nameOf(request));
      return made;
    });
    s.run(0, slice);
    expect(order).toEqual([
      ...["UNBLOCK", "SLEEP", "VCPU_RESET", "UPDATE_HGATP", "FENCE_I", "TLB_FLUSH", "HFENCE_VVMA_ALL"],
      ...["HFENCE", "STEAL_UPDATE"],
    ]);
    expect(s.log).toEqual([...Array(3).fill("flush"), "flush spaces", "flush 5000", "run"]);
    expect(me.pending()).toBe(false);
    expect(me.load(CTL_MP_STATE)).toBe(MP_STATE.RUNNABLE);
    expect([image.get("pc"), image.get("x", 10), image.get("x", 11)]).toEqual([0x80001000n, 0n, 77n]);
  });

  test("made between the check and the entry abort the entry", () => {
    const { s, me } = one();
    const { enterGuestMode } = VcpuRequests.prototype;
    vi.spyOn(VcpuRequests.prototype, "enterGuestMode").mockImplementationOnce(function (this: VcpuRequests) {
      // A sender that reads the mode before the change does not kick.
      this.make(REQ.TLB_FLUSH);
      expect(this.kick(true)).toBe(false);
      enterGuestMode.call(this);
    });
    s.run(0, slice);
    expect(s.log).toEqual(["flush", "run"]);
    expect(me.load(CTL_MODE)).toBe(VCPU_MODE.OUTSIDE_GUEST_MODE);
  });

  test("a pause between the check and the entry aborts the entry", () => {
    const { s } = one();
    const { enterGuestMode } = VcpuRequests.prototype;
    vi.spyOn(VcpuRequests.prototype, "enterGuestMode").mockImplementationOnce(function (this: VcpuRequests) {
      this.store(CTL_RUN, RUN.PAUSE);
      enterGuestMode.call(this);
    });
    s.parks.push(() => s.vm.vcpus[0]?.resume());
    s.run(0, slice);
    expect(s.log).toEqual(["parked", "run"]);
  });

  test("UPDATE_HGATP switches the bank, and flushes translations before the next entry", () => {
    const { s, me } = one();
    const old = me.load(CTL_SLOT_BANK);
    vi.spyOn(s.events.mmio, "write").mockImplementation(() => {
      s.log.length = 0;
      s.vm.setMemorySlot(0, true);
      expect(me.load(CTL_SLOT_BANK)).toBe(old);
      return true;
    });
    s.run(0, slice, ({ mmioWrite }) => (mmioWrite(0x1000n, 4, 0n), EXIT.KICK), slice);
    const current = new Int32Array(s.vm.buffer)[VM_CURRENT_BANK >>> 2];
    expect(me.load(CTL_SLOT_BANK)).toBe(current);
    expect(current).not.toBe(old);
    expect(s.log).toEqual(["flush", "flush", "run"]);
  });

  test("a range of more than 64 pages, and an unlimited one, flush everything", () => {
    const { s, me } = one();
    const queue = new HfenceQueue(s.vm.buffer, 0);
    const fence = (start: bigint, size: bigint, asid?: number): string[] => {
      s.log.length = 0;
      queue.push({ type: asid === undefined ? 1 : 2, asid: asid ?? 0, start, size });
      me.make(REQ.HFENCE);
      s.run(0, slice);
      return s.log.filter((l) => l !== "run");
    };
    expect(fence(0x1800n, 0x1000n)).toEqual(["flush 1000", "flush 2000"]);
    expect(fence(0n, 65n * 4096n)).toEqual(["flush spaces"]);
    expect(fence(0n, 64n * 4096n)).toHaveLength(64);
    expect(fence(0x1000n, 1n, 7)).toEqual(["flush 1000 of 7"]);
    expect(fence(0n, 65n * 4096n, 0)).toEqual(["flush space 0"]);
    expect(fence(0n, (1n << 64n) - 1n, 0xffff)).toEqual(["flush space 65535"]);
  });

  test("VM_DEAD: never runs again, and can still be parked and ended", () => {
    const { s, me } = one();
    me.make(REQ.VM_DEAD);
    s.parks.push(
      () => me.store(CTL_RUN, RUN.GO),
      () => s.end(0),
    );
    s.run(0, slice);
    expect(s.log).toEqual(["parked", "parked"]);
    s.vm.markDead("planted");
    expect(() => s.vm.vcpus[0]?.resume()).toThrow("cannot run again: planted");
  });

  test("a fault of a vCPU's engine kills the VM", () => {
    const { s, me } = one();
    s.run(0, () => EXIT.INTERNAL_ERROR, slice);
    expect(s.vm.dead).toBe(true);
    expect(s.log).toEqual(["run", "error 0 the engine stopped with reason 4", "parked"]);
    expect(me.test(REQ.VM_DEAD)).toBe(true);
  });
});

describe("blocking", () => {
  test("WFI sleeps until an enabled interrupt is pending; masked ones do not end it", () => {
    const { s, me, image } = one();
    image.set("mie", 1n << 1n);
    s.sleeps.push(
      // Pending, but not enabled; a spurious wake-up; the enabled interrupt.
      () => void (me.or(CTL_LINES, 1 << 9), me.make(REQ.UNBLOCK), me.wake()),
      () => me.wake(),
      () => void (image.set("mip", 2n), me.make(REQ.UNBLOCK), me.wake()),
    );
    s.run(0, () => EXIT.WFI, slice);
    expect(s.log).toEqual(["run", "sleep", "sleep", "sleep", "run"]);
    expect(me.load(CTL_HALTED)).toBe(0);
  });

  test("a spinning vCPU sleeps a moment, longer while it only spins, and a request or an interrupt ends it", () => {
    const { s, me, image } = one();
    const spin = (): number => EXIT.SPIN;
    const slept = (...steps: Step[]): number => {
      const from = s.nowNs;
      s.log.length = 0;
      s.run(0, ...steps, slice);
      return Math.round((s.nowNs - from) / 1000);
    };
    const works = (): number => {
      me.write64(SCRATCH.executed, me.read64(SCRATCH.executed) + 100_000n);
      return EXIT.SPIN;
    };
    expect(slept(works)).toBe(20);
    expect(s.log).toEqual(["run", "sleep", "run"]);
    expect(slept(works, spin, spin, spin, spin)).toBe(20 + 40 + 80 + 160 + 200);
    // It has worked since, and pending interrupts that it does not take do not keep it awake.
    image.set("mie", 2n);
    image.set("mip", 2n);
    expect(slept(works)).toBe(20);
    // Not outside of the guest while a request waits for it.
    expect(slept(() => (me.make(REQ.FENCE_I), works()))).toBe(0);
    s.sleeps.push(() => me.interrupt());
    expect(slept(works)).toBe(0);
    expect(s.log).toEqual(["run", "sleep", "run"]);
  });

  test("WFI ends when stimecmp passes, if its interrupt is enabled", () => {
    const { s, me, image } = one();
    image.set("mie", BigInt(STIP));
    const from = s.nowNs;
    image.set("stimecmp", BigInt(from / 100 + 5000));
    s.vm.clock.write(BigInt(from / 100));
    s.vm.clock.start();
    s.run(0, () => EXIT.WFI, slice);
    expect(s.log).toEqual(["run", "sleep", "run"]);
    expect(s.nowNs - from).toBeCloseTo(500_000, -3);
    expect(me.load(CTL_LINES) & STIP).toBe(STIP);
  });

  test("a halted vCPU can be parked and stays halted; one that was loaded as halted does not run", () => {
    const { s, me, image } = one();
    image.set("mie", 2n);
    s.sleeps.push(() => void (me.store(CTL_RUN, RUN.PAUSE), me.wake()));
    s.parks.push(() => s.vm.vcpus[0]?.resume());
    s.run(0, () => EXIT.WFI, slice);
    expect(s.log).toEqual(["run", "sleep", "parked", "sleep"]);
    expect(me.load(CTL_HALTED)).toBe(1);
    s.log.length = 0;
    s.run(0, slice);
    expect(s.log).toEqual(["sleep"]);
  });

  test.each([
    ["STOPPED", MP_STATE.STOPPED],
    ["SUSPENDED", MP_STATE.SUSPENDED],
  ])("%s: sleeps, and an UNBLOCK alone does not make it run", (_name, state) => {
    const { s, me } = one();
    me.store(CTL_MP_STATE, state);
    me.make(REQ.SLEEP);
    s.sleeps.push(() => void (me.make(REQ.UNBLOCK), me.wake()));
    s.run(0, slice);
    expect(s.log).toEqual(["sleep", "sleep"]);
    expect(me.load(CTL_MP_STATE)).toBe(state);
  });

  test("a stopped hart with a pending enabled interrupt stays stopped", () => {
    const { s, me, image } = one();
    image.set("mie", 2n);
    image.set("mip", 2n);
    me.store(CTL_MP_STATE, MP_STATE.STOPPED);
    s.run(0, slice);
    expect(s.log).toEqual(["sleep"]);
  });

  test("retentive suspend continues where it was; non-retentive at its resume address", () => {
    const { s, me, image } = one();
    image.set("mie", 2n);
    image.set("pc", 0x80000100n);
    me.store(CTL_MP_STATE, MP_STATE.SUSPENDED);
    const wake = (): void => void (image.set("mip", 2n), me.make(REQ.UNBLOCK), me.wake());
    s.sleeps.push(wake);
    s.run(0, slice);
    expect([image.get("pc"), me.load(CTL_MP_STATE)]).toEqual([0x80000100n, MP_STATE.RUNNABLE]);

    image.set("mip", 0n);
    me.store(CTL_MP_STATE, MP_STATE.SUSPENDED);
    me.write64(SBI_SUSPEND_TYPE, 0x80000000n);
    me.write64(SBI_START_ADDRESS, 0x80002000n);
    me.write64(SBI_START_ARGUMENT, 9n);
    s.sleeps.push(wake);
    s.run(0, slice);
    expect([image.get("pc"), image.get("x", 11)]).toEqual([0x80002000n, 9n]);
    expect(me.load(CTL_MP_STATE)).toBe(MP_STATE.RUNNABLE);
  });

  test("a hart that resumes has its timer and the interrupt that woke it; one that starts has neither", () => {
    const { s, me, image } = one();
    const afterReset = (act: () => void): bigint[] => {
      image.set("mie", 2n);
      image.set("mip", 2n);
      image.set("stimecmp", 12345n);
      act();
      s.run(0, slice);
      return [image.get("mip"), image.get("stimecmp")];
    };
    const resume = (): void => {
      me.store(CTL_MP_STATE, MP_STATE.SUSPENDED);
      me.write64(SBI_SUSPEND_TYPE, 0x80000000n);
    };
    const start = (): void => {
      me.store(CTL_MP_STATE, MP_STATE.STOPPED);
      expect(startHart(me, 0x80002000n, 0n)).toBe(true);
    };
    expect(afterReset(resume)).toEqual([2n, 12345n]);
    expect(afterReset(start)).toEqual([0n, NEVER]);
  });

  test("a sleeping vCPU handles a NO_WAKEUP request when it wakes for another reason", () => {
    const { s, me, image } = one();
    image.set("mie", 2n);
    s.sleeps.push(() => {
      s.log.length = 0;
      me.make(REQ.TLB_FLUSH);
      image.set("mip", 2n);
      me.make(REQ.UNBLOCK);
      me.wake();
    });
    s.run(0, () => EXIT.WFI, slice);
    expect(s.log).toEqual(["flush", "run"]);
  });
});

describe("timers", () => {
  test("the Sstc line follows stimecmp, and is cleared when Sstc is turned off", () => {
    const { s, me, image } = one();
    s.vm.clock.write(1000n);
    s.vm.clock.start();
    const line = (): number => me.load(CTL_LINES) & STIP;
    const lines: number[] = [];
    const sampleLines = (): number => (lines.push(line()), EXIT.SLICE);
    image.set("stimecmp", 1000n);
    s.run(0, sampleLines);
    image.set("stimecmp", 1001n);
    s.run(0, sampleLines);
    image.set("stimecmp", 999n);
    s.run(0, sampleLines);
    image.set("menvcfg", 0n);
    s.run(0, sampleLines);
    expect(lines).toEqual([STIP, 0, STIP, 0]);
  });

  test("slices last about 0.2 ms for any engine; those that end early do not affect the estimate", () => {
    const { s } = one();
    s.vm.clock.start();
    const budgets: number[] = [];
    const takes = (ns: number, reason: number = EXIT.SLICE) => {
      return (_: unknown, budget: number): number => {
        budgets.push(budget);
        s.nowNs += ns;
        return reason;
      };
    };
    const [fast, right, slow] = [takes(10_000), takes(200_000), takes(1_000_000)];
    s.run(0, fast, fast, takes(10_000, EXIT.KICK), right, slow, fast, right);
    expect(budgets).toEqual([1, 2, 4, 4, 4, 2, 4].map((n) => n * 20_000));
    budgets.length = 0;
    s.run(0, ...Array.from({ length: 10 }, () => fast), ...Array.from({ length: 10 }, () => slow));
    expect([Math.max(...budgets), budgets.at(-1)]).toEqual([2_000_000, 20_000]);
  });

  test("the machine timer's line follows mtimecmp, except with the built-in firmware", () => {
    for (const builtinFirmware of [false, true]) {
      const { s, me } = one({ builtinFirmware: !builtinFirmware });
      // A machine has arrived.
      s.vm.setBuiltinFirmware(builtinFirmware);
      s.vm.clock.write(1000n);
      s.vm.clock.start();
      const state = s.vm.aclint.get();
      state.timecmp[0] = 1000n;
      s.vm.aclint.set(state);
      s.run(0, slice);
      expect(me.load(CTL_LINES) & MTIP).toBe(builtinFirmware ? 0 : MTIP);
    }
  });
});

describe("exits", () => {
  test("an access leaves guest mode and is answered; a request made meanwhile is not lost", () => {
    const { s, me } = one();
    s.run(
      0,
      ({ mmioRead, mmioWrite }) => {
        expect(me.load(CTL_MODE)).toBe(VCPU_MODE.IN_GUEST_MODE);
        expect(mmioRead(0x10000005n, 1)).toBe(1);
        expect(me.read64(CTL_MMIO_DATA)).toBe(0x55n);
        expect([me.load(CTL_MODE), me.load(CTL_KICK)]).toEqual([VCPU_MODE.IN_GUEST_MODE, 0]);
        const { write } = s.events.mmio;
        vi.spyOn(s.events.mmio, "write").mockImplementationOnce((...args) => {
          expect(me.load(CTL_MODE)).toBe(VCPU_MODE.OUTSIDE_GUEST_MODE);
          me.make(REQ.TLB_FLUSH);
          return write(...args);
        });
        expect(mmioWrite(0x10000000n, 1, 65n)).toBe(1);
        expect(me.load(CTL_KICK)).toBe(1);
        return EXIT.KICK;
      },
      slice,
    );
    expect(s.log).toEqual(["run", "read 10000005 1", "write 10000000 1 65", "flush", "run"]);
  });

  test("an access to an address without a device is a fault", () => {
    const { s } = one();
    vi.spyOn(s.events.mmio, "read").mockReturnValue(undefined);
    vi.spyOn(s.events.mmio, "write").mockReturnValue(false);
    s.run(0, ({ mmioRead, mmioWrite }) => {
      expect(mmioRead(0x10000005n, 1)).toBe(0);
      expect(mmioWrite(0x10000005n, 1, 0n)).toBe(0);
      return EXIT.SLICE;
    });
  });

  test("the PLIC is handled here, by words; the ACLINT only without the built-in firmware", () => {
    const words = ({ mmioRead, mmioWrite }: Parameters<Parameters<ScriptedVm["run"]>[1]>[0]): number => {
      expect(mmioWrite(0xc000004n, 4, 3n)).toBe(1);
      expect(mmioRead(0xc000004n, 4)).toBe(1);
      expect(mmioRead(0xc000004n, 8)).toBe(0);
      expect(mmioWrite(0xc000004n, 1, 3n)).toBe(0);
      expect(mmioRead(0xc000006n, 4)).toBe(0);
      mmioRead(0x2004000n, 8);
      return EXIT.SLICE;
    };
    const builtin = one();
    builtin.s.run(0, words);
    expect(builtin.s.log).toEqual(["run", "read 2004000 8"]);
    const own = one({ builtinFirmware: false });
    own.s.run(0, words);
    expect(own.s.log).toEqual(["run"]);
    expect(own.me.read64(CTL_MMIO_DATA)).toBe(NEVER);
  });

  test("the interrupt controller answers where the board places it", () => {
    const { s, me } = one();
    const { plic } = VIRT_MEMMAP;
    s.vm.createIrqchip({ ...VIRT_MEMMAP, plic: { ...plic, base: 0x40000000 } });
    s.run(0, ({ mmioRead, mmioWrite }) => {
      expect(mmioWrite(0x40000004n, 4, 3n)).toBe(1);
      expect(mmioRead(0x40000004n, 4)).toBe(1);
      expect(me.read64(CTL_MMIO_DATA)).toBe(3n);
      expect(mmioRead(BigInt(plic.base + 4), 4)).toBe(1);
      expect(me.read64(CTL_MMIO_DATA)).toBe(0x55n);
      return EXIT.SLICE;
    });
    expect(s.log).toEqual(["run", "read c000004 4"]);
  });

  test("a doorbell rings without an answer; another value at its address is an exit", () => {
    const { s, me } = one();
    const rung = vi.fn();
    s.vm.ioeventfd(0x10001050, 1, rung);
    s.run(0, ({ mmioWrite }) => {
      mmioWrite(0x10001050n, 4, 1n);
      expect(me.load(CTL_MODE)).toBe(VCPU_MODE.IN_GUEST_MODE);
      mmioWrite(0x10001050n, 4, 2n);
      mmioWrite(0x10001050n, 2, 1n);
      return EXIT.SLICE;
    });
    expect(rung).toHaveBeenCalledTimes(1);
    expect(s.log).toEqual(["run", "write 10001050 4 2", "write 10001050 2 1"]);
  });
});

test("a shadowed register is read without an exit, until its value is withdrawn", () => {
  const { s, me } = one();
  const shadow = s.vm.shadowRead(0x10000005);
  const values: bigint[] = [];
  const read = (imports: EngineImports, size: number): void => {
    expect(imports.mmioRead(0x10000005n, size)).toBe(1);
    values.push(me.read64(CTL_MMIO_DATA));
  };
  s.run(0, (imports) => {
    read(imports, 1);
    shadow.set(0x60);
    read(imports, 1);
    read(imports, 2);
    shadow.set(0);
    read(imports, 1);
    shadow.set(undefined);
    read(imports, 1);
    return EXIT.SLICE;
  });
  expect(values).toEqual([0x55n, 0x60n, 0x55n, 0n, 0x55n]);
  const [first, second] = ["read 10000005 1", "read 10000005 2"];
  expect(s.log.filter((line) => line.startsWith("read"))).toEqual([first, second, first]);
});

test("an interrupt status register is read and acknowledged without an exit", () => {
  const { s, me } = one();
  const status = s.vm.interruptStatus(0x10001060, 1);
  status?.raise(3);
  s.run(0, ({ mmioRead, mmioWrite }) => {
    expect(mmioRead(0x10001060n, 4)).toBe(1);
    expect(me.read64(CTL_MMIO_DATA)).toBe(3n);
    mmioWrite(0x10001064n, 4, 1n);
    mmioRead(0x10001064n, 4);
    return EXIT.SLICE;
  });
  expect(status?.read()).toBe(2);
  expect(s.log).toEqual(["run", "read 10001064 4"]);
});

describe("steal time", () => {
  function stolen(me: VcpuRequests): bigint {
    return me.read64(SBI_STEAL_NS);
  }

  test("is the time that the thread was ready to run without a core", () => {
    const { s, me } = one({ steal: true });
    me.write64(SBI_STA_SHMEM, BigInt(RAM + 64));
    const work = (wallMs: number, cpuMs: number) => (): number => {
      s.nowNs += wallMs * 1e6;
      s.cpuNs += cpuMs * 1e6;
      return EXIT.SLICE;
    };
    s.run(0, slice, work(30, 20), slice);
    expect(stolen(me)).toBe(10_000_000n);
    const view = new DataView(s.ram(RAM + 64, 64).buffer);
    expect(view.getBigUint64(8, true)).toBe(10_000_000n);
    expect(view.getUint32(0, true) % 2).toBe(0);
    expect(view.getUint32(0, true)).toBeGreaterThan(0);
  });

  test("is not the time that it slept or waited for the VMM", () => {
    const { s, me, image } = one({ steal: true });
    me.write64(SBI_STA_SHMEM, BigInt(RAM + 64));
    image.set("mie", 2n);
    s.sleeps.push(() => {
      s.nowNs += 1e9;
      image.set("mip", 2n);
      me.make(REQ.UNBLOCK);
      me.wake();
    });
    vi.spyOn(s.events.mmio, "read").mockImplementation(() => {
      s.nowNs += 1e9;
      return 0n;
    });
    s.run(
      0,
      slice,
      () => EXIT.WFI,
      slice,
      ({ mmioRead }) => (mmioRead(0x10000000n, 1), EXIT.SLICE),
      slice,
    );
    expect(stolen(me)).toBe(0n);
  });

  test("counts from the guest's request on", () => {
    const { s, me, image } = one({ steal: true });
    const setShmem = (): number => {
      for (const [x, value] of [
        [10, BigInt(RAM + 64)],
        [11, 0n],
        [12, 0n],
        [16, 0n],
        [17, 0x535441n],
      ] as const) {
        image.set("x", value, x);
      }
      return EXIT.ECALL;
    };
    s.run(0, () => ((s.nowNs += 1e9), EXIT.SLICE), setShmem, slice, slice);
    expect([image.get("x", 10), me.read64(SBI_STA_SHMEM)]).toEqual([0n, BigInt(RAM + 64)]);
    expect(stolen(me)).toBe(0n);
  });

  test("is not the time that it was paused", () => {
    const { s, me } = one({ steal: true });
    me.write64(SBI_STA_SHMEM, BigInt(RAM + 64));
    s.parks.push(() => {
      s.nowNs += 1e9;
      s.vm.vcpus[0]?.resume();
    });
    s.run(0, slice, () => (me.store(CTL_RUN, RUN.PAUSE), EXIT.KICK), slice);
    expect(s.log).toContain("parked");
    expect(stolen(me)).toBe(0n);
  });
});

test("every request has a sender, and the vCPU thread handles it", () => {
  const sources = readdirSync("src", { recursive: true, encoding: "utf8" })
    .filter(
      (name) => name.endsWith(".ts") && !name.endsWith(".test.ts") && !name.endsWith("/vcpu-requests.ts"),
    )
    .map((name) => ({ name, text: readFileSync(`src/${name}`, "utf8") }));
  const thread = sources.find(({ name }) => name === "hypervisor/vcpu/vcpu-thread.ts")?.text ?? "";
  const madeIn = (request: string): string[] =>
    sources
      .filter(({ text }) => new RegExp(`make(Requests|AllRequest)?\\(\\s*REQ\\.${request}\\b`).test(text))
      .map(({ name }) => name);
  for (const request of Object.keys(REQ)) {
    expect([request, madeIn(request)]).not.toEqual([request, []]);
    const isHandled = new RegExp(`(check|test)\\(REQ\\.${request}\\)`).test(thread);
    expect([request, isHandled]).toEqual([request, request !== "OUTSIDE_GUEST_MODE"]);
  }
});

describe("with the real engine", () => {
  async function load(text: string): Promise<ReturnType<typeof one>> {
    const all = one({ realEngine: true, steal: true });
    all.image.set("pc", BigInt(RAM));
    all.s.vm.memory.write(RAM, flatBinary(assemble([{ name: "test", text }], { base: BigInt(RAM) })));
    return all;
  }

  test("the guest enables steal time and reads how much was stolen", async () => {
    const { s, image } = await load(`
         li a0, ${RAM + 0x1000}
         li a1, 0
         li a2, 0
         li a6, 0
         li a7, 0x535441
         ecall
         mv s1, a0
      1: lw t0, 0(s2)
         j 1b`);
    image.set("x", BigInt(RAM + 0x1000), 18);
    const starve = (): number => {
      s.nowNs += 25e6;
      s.cpuNs += 5e6;
      return EXIT.SLICE;
    };
    s.run(0, slice, slice, starve, starve, slice);
    expect(image.get("x", 9)).toBe(0n);
    const shared = new DataView(s.ram(RAM + 0x1000, 64).buffer);
    expect(shared.getBigUint64(8, true)).toBe(40_000_000n);
    expect(image.get("x", 5)).toBe(BigInt(shared.getUint32(0, true)));
    expect(shared.getUint32(0, true) % 2).toBe(0);
  });

  test("wfi: masked and enabled interrupts, before and after the hart was saved and restored", async () => {
    const { s, me, image } = await load(`
         wfi
         li s1, 1
      1: j 1b`);
    image.set("mie", 2n);
    s.run(0, slice, slice);
    expect([image.get("x", 9), me.load(CTL_HALTED)]).toEqual([0n, 1]);
    expect(s.log.at(-1)).toBe("sleep");
    const [vcpu] = s.vm.vcpus as [Vcpu];
    const state = vcpu.regList().map((id) => [id, vcpu.getOneReg(id)] as const);

    const other = await load("1: j 1b");
    other.s.vm.memory.write(RAM, s.ram(RAM, 64));
    const [copy] = other.s.vm.vcpus as [Vcpu];
    for (const [id, value] of state) copy.setOneReg(id, value);
    copy.setMpState(vcpu.getMpState());
    other.image.set("mip", 0x200n);
    other.s.run(0, slice, slice);
    expect([other.image.get("x", 9), other.me.load(CTL_HALTED)]).toEqual([0n, 1]);
    other.image.set("mip", 2n);
    other.s.run(0, slice, slice);
    expect([other.image.get("x", 9), other.me.load(CTL_HALTED)]).toEqual([1n, 0]);
  });
});
