// ONE_REG on a paused hart: the registers that it lists, reads, writes and refuses.
import { describe, expect, test } from "vitest";
import {
  CONFIG_REGS,
  CSR_SUBTYPE,
  decodeOneReg,
  oneReg,
  oneRegOf,
  REG_TYPE,
  SBI_EXT_ID,
} from "../../accelerator/one-reg-ids.ts";
import { EXTENSIONS } from "../../riscv/extensions.ts";
import { GuestClock } from "../requests/guest-clock.ts";
import { hartBase } from "../shared/memory-map.ts";
import { MpStateError } from "./riscv-mp-state.ts";
import { OneRegError, OneRegs } from "./one-reg.ts";
import { REQ, VcpuRequests } from "../requests/vcpu-requests.ts";
import { HartImage } from "../hart/hart-image.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";

const NEVER = 2n ** 64n - 1n;
const raw = (number: number): bigint => oneReg(REG_TYPE.CSR, number, CSR_SUBTYPE.WHERRY_RAW);
const timer = (index: number): bigint => oneReg(REG_TYPE.TIMER, index);

function hart(): { regs: OneRegs; image: HartImage; vcpu: VcpuRequests; clock: GuestClock } {
  const buffer = new SharedArrayBuffer(hartBase(2));
  const vcpu = new VcpuRequests(buffer, 1);
  const clock = new GuestClock(buffer, () => 0, true);
  const image = new HartImage(buffer, 1);
  image.resetForStart(0x80200000n, 5n);
  const regs = new OneRegs(buffer, 1, vcpu, clock);
  regs.set(oneReg(REG_TYPE.SBI_STATE, 0), NEVER);
  return { regs, image, vcpu, clock };
}
const FIXED: readonly number[] = [REG_TYPE.CONFIG, REG_TYPE.ISA_EXT, REG_TYPE.SBI_EXT];
const isFixed = (id: bigint): boolean => {
  const reg = decodeOneReg(id);
  return reg !== undefined && (FIXED.includes(reg.type) || id === timer(0));
};

test("every register of the list exists, once, and accepts the value it returned", () => {
  const { regs } = hart();
  const list = regs.list();
  expect(new Set(list).size).toBe(list.length);
  const values = list.map((id) => regs.get(id));
  for (const [i, id] of list.entries()) regs.set(id, values[i] as bigint);
  expect(list.map((id) => regs.get(id))).toEqual(values);
});

/** A value that the register can hold, other than its value after reset. */
function another(id: bigint): bigint {
  const narrow = new Map<bigint, bigint>([
    [oneRegOf("sstatus"), (2n << 32n) | 0x40122n],
    [oneRegOf("sie"), 0x202n],
    [oneRegOf("sip"), 0x2n],
    [oneReg(REG_TYPE.FP_D, 32, 0, 32), 0x75n],
    [oneReg(REG_TYPE.FP_F, 32, 0, 32), 0x75n],
    [oneReg(REG_TYPE.CORE, 32), 0n],
    [oneReg(REG_TYPE.SBI_STATE, 1), NEVER],
    [timer(1), 0x123456789abcdn],
    [timer(3), 0n],
    [oneRegOf("halted"), 1n],
    [oneRegOf("priv"), 3n],
    [oneRegOf("mip"), 0x222n],
  ]);
  const byte = id >= raw(0x3a0) && id < raw(0x3b0);
  const word = id >= oneReg(REG_TYPE.FP_F, 0, 0, 32) && id < oneReg(REG_TYPE.FP_F, 32, 0, 32);
  return narrow.get(id) ?? (byte ? 0x9fn : word ? 0x89abcdefn : 0x0123456789abcdefn);
}

test("every register that is not fixed holds another value, independently", () => {
  for (const id of hart()
    .regs.list()
    .filter((i) => !isFixed(i))) {
    const { regs } = hart();
    regs.set(id, another(id));
    expect([id.toString(16), regs.get(id)]).toEqual([id.toString(16), another(id)]);
  }
});

test("the configuration is what KVM has for such a host", () => {
  const { regs } = hart();
  const config = ["isa", "zicbomBlockSize", "zicbozBlockSize", "satpMode"] as const;
  const values = config.map((name) => regs.get(oneReg(REG_TYPE.CONFIG, CONFIG_REGS.indexOf(name))));
  expect(values).toEqual([0x112dn, 64n, 64n, 10n]);
});

test("registers are at the offsets of the hart's state", () => {
  const { regs, image } = hart();
  regs.set(oneReg(REG_TYPE.CORE, 0), 0x1234n);
  regs.set(oneReg(REG_TYPE.CORE, 31), 31n);
  regs.set(oneReg(REG_TYPE.FP_D, 7), 7n);
  regs.set(oneReg(REG_TYPE.FP_D, 32, 0, 32), 0x65n);
  regs.set(raw(0x3b3), 0x55n);
  regs.set(raw(0x3a9), 0x66n);
  expect([image.get("pc"), image.get("x", 31), image.get("f", 7)]).toEqual([0x1234n, 31n, 7n]);
  expect([image.get("fflags"), image.get("frm")]).toEqual([5n, 3n]);
  expect([image.get("pmpaddr", 3), image.get("pmpcfg", 9), image.get("pmpcfg", 8)]).toEqual([
    0x55n,
    0x66n,
    0n,
  ]);
  expect(regs.get(oneReg(REG_TYPE.CORE, 32))).toBe(1n);
});

describe("S-mode's views", () => {
  test("sstatus changes only its fields of mstatus", () => {
    const { regs, image } = hart();
    image.set("mstatus", (2n << 34n) | (2n << 32n) | 0x1888n);
    regs.set(oneRegOf("sstatus"), NEVER);
    expect(image.get("mstatus")).toBe((2n << 34n) | (2n << 32n) | 0x1888n | 0xc6122n);
    expect(regs.get(oneRegOf("sstatus"))).toBe(0x80000002000c6122n);
  });
  test("sstatus is what the hart reads: SD while FS is dirty, no vectors, no big-endian memory", () => {
    const { regs, image } = hart();
    image.set("mstatus", (2n << 34n) | (2n << 32n) | 0x6000n);
    expect(regs.get(oneRegOf("sstatus"))).toBe(0x8000000200006000n);
    image.set("mstatus", (2n << 34n) | (3n << 32n) | 0x18640n);
    expect(regs.get(oneRegOf("sstatus"))).toBe(0x200000000n);
  });
  test("sie and sip access delegated bits, and no others", () => {
    const { regs, image } = hart();
    image.set("mie", 0x888n);
    image.set("mip", 0x800n);
    image.set("mideleg", 0x202n);
    regs.set(oneRegOf("sie"), NEVER);
    regs.set(oneRegOf("sip"), NEVER);
    expect([image.get("mie"), image.get("mip")]).toEqual([0xa8an, 0xa02n]);
    regs.set(oneRegOf("sie"), 0n);
    expect([image.get("mie"), regs.get(oneRegOf("sie"))]).toEqual([0x888n, 0n]);
  });
});

describe("the timer", () => {
  test("time is the VM's clock, for every hart", () => {
    const { regs, clock } = hart();
    regs.set(timer(1), 777n);
    expect([clock.read(), regs.get(timer(1)), regs.get(timer(0))]).toEqual([777n, 777n, 10_000_000n]);
  });
  test("is off while there is no deadline", () => {
    const { regs, image } = hart();
    expect(regs.get(timer(3))).toBe(0n);
    regs.set(timer(2), 5n);
    expect(regs.get(timer(3))).toBe(1n);
    regs.set(timer(3), 1n);
    expect(image.get("stimecmp")).toBe(5n);
    regs.set(timer(3), 0n);
    expect(image.get("stimecmp")).toBe(NEVER);
    expect(() => regs.set(timer(3), 2n)).toThrow("timer state 2");
  });
});

describe("refused:", () => {
  test.each([
    ["no such type", oneReg(0x0b, 0)],
    ["no such index", oneReg(REG_TYPE.CORE, 33)],
    ["no such CSR", oneReg(REG_TYPE.CSR, 11)],
    ["no such machine CSR", oneReg(REG_TYPE.CSR, 0x7c0, CSR_SUBTYPE.WHERRY_RAW)],
    ["AIA's CSRs", oneReg(REG_TYPE.CSR, 0, CSR_SUBTYPE.AIA)],
    ["no such timer register", timer(4)],
    ["no such float register", oneReg(REG_TYPE.FP_D, 33)],
    ["the hypervisor extension", oneReg(REG_TYPE.ISA_EXT, 4)],
    ["SBI vendor extensions", oneReg(REG_TYPE.SBI_EXT, SBI_EXT_ID.VENDOR)],
    ["no such SBI state", oneReg(REG_TYPE.SBI_STATE, 2)],
    ["no such run state", oneReg(REG_TYPE.WHERRY, 11)],
    ["no such single-precision register", oneReg(REG_TYPE.FP_F, 33, 0, 32)],
    ["single precision of 64 bits", oneReg(REG_TYPE.FP_F, 0)],
    ["a size that the register does not have", oneReg(REG_TYPE.CORE, 0, 0, 32)],
    ["a size that the register does not have", oneReg(REG_TYPE.FP_D, 32)],
    ["a subtype that the type does not have", oneReg(REG_TYPE.CORE, 0, 1)],
    ["another architecture's", 0x6030000000100000n],
  ])("%s", (_what, id) => {
    const { regs } = hart();
    const message = `register 0x${id.toString(16)}: this vCPU has no such register`;
    expect(() => regs.get(id)).toThrow(message);
    expect(() => regs.set(id, 0n)).toThrow(message);
    expect(regs.list()).not.toContain(id);
  });

  test("a configuration that differs from the vCPU's, with both values", () => {
    const { regs } = hart();
    for (const id of regs.list().filter(isFixed)) {
      const now = regs.get(id);
      expect(() => regs.set(id, now + 1n)).toThrow(OneRegError);
      expect(regs.get(id)).toBe(now);
    }
    const id = oneReg(REG_TYPE.ISA_EXT, EXTENSIONS.c.isaExt);
    expect(() => regs.set(id, 0n)).toThrow("it is 0x1 on this vCPU and cannot become 0x0");
    expect(() => regs.set(timer(0), 1n)).toThrow("10000000 Hz, the state has 1");
  });

  test("a privilege mode that does not exist, a shared page above the address space", () => {
    const { regs } = hart();
    expect(() => regs.set(oneRegOf("priv"), 2n)).toThrow("privilege mode 2: expected 0 (U), 1 (S) or 3 (M)");
    expect(() => regs.set(oneReg(REG_TYPE.SBI_STATE, 1), 1n)).toThrow(OneRegError);
  });
});

describe("MP state", () => {
  test.each([0, 2, 5, 10])("%i is written and read back", (state) => {
    const { regs } = hart();
    regs.setMpState(state);
    expect(regs.getMpState()).toBe(state);
  });

  test.each([
    [1, "UNINITIALIZED"],
    [3, "HALTED"],
    [9, "AP_RESET_HOLD"],
    [11, "unknown"],
  ])("%i is refused with its name and the list", (state, name) => {
    const { regs } = hart();
    regs.setMpState(5);
    expect(() => regs.setMpState(state)).toThrow(MpStateError);
    expect(() => regs.setMpState(state)).toThrow(
      `MP state ${state} (${name}): RISC-V has RUNNABLE 0, INIT_RECEIVED 2, STOPPED 5, SUSPENDED 10`,
    );
    expect(regs.getMpState()).toBe(5);
  });

  test("INIT_RECEIVED requests the reset, the sleep states request sleep; RUNNABLE cancels a reset", () => {
    const { regs, vcpu } = hart();
    const made = (): boolean[] => [vcpu.test(REQ.VCPU_RESET), vcpu.check(REQ.SLEEP)];
    regs.setMpState(2);
    expect(made()).toEqual([true, false]);
    regs.setMpState(0);
    expect(made()).toEqual([false, false]);
    regs.setMpState(10);
    expect(made()).toEqual([false, true]);
    regs.setMpState(2);
    regs.setMpState(5);
    expect(made()).toEqual([false, true]);
  });
});

test("the reservation is not state, and can be cleared", () => {
  const buffer = new SharedArrayBuffer(hartBase(1));
  const regs = new OneRegs(buffer, 0, new VcpuRequests(buffer, 0), new GuestClock(buffer, () => 0, true));
  const view = new DataView(buffer, hartBase(0));
  view.setBigUint64(SCRATCH.reservation, 0x80000008n, true);
  regs.clearTransient();
  expect(view.getBigUint64(SCRATCH.reservation, true)).toBe(0n);
});

test("single-precision registers are the low halves of the double-precision ones, and boxed when set", () => {
  const { regs, image } = hart();
  image.set("f", 0x123456789abcdef0n, 3);
  expect(regs.get(oneReg(REG_TYPE.FP_F, 3, 0, 32))).toBe(0x9abcdef0n);
  regs.set(oneReg(REG_TYPE.FP_F, 3, 0, 32), 0x3f800000n);
  expect(image.get("f", 3)).toBe(0xffffffff3f800000n);
  regs.set(oneReg(REG_TYPE.FP_F, 32, 0, 32), 0x21n);
  expect([image.get("fflags"), image.get("frm")]).toEqual([1n, 1n]);
});

test("pending bits that belong to a controller's line are refused", () => {
  const { regs } = hart();
  expect(() => regs.set(oneRegOf("mip"), 1n << 7n)).toThrow("software owns only the bits 0x222");
});
