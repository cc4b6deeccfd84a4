// SBI's performance counters through a whole vCPU thread, against SBI 3.0, chapter 11.
import { beforeEach, describe, expect, test } from "vitest";
import { RAM, ScriptedVm } from "../../../test/support/scripted-vm.ts";
import type { HartImage } from "../hart/hart-image.ts";
import { EXIT } from "../hart/engine-interface.ts";
import { CTL_MP_STATE } from "../shared/memory-map.ts";
import { MP_STATE } from "../../accelerator/mp-state.ts";

const PMU = 0x504d55;
const TIME = 0x54494d45;
const IPI = 0x735049;
const RFENCE = 0x52464e43;
const HSM = 0x48534d;
const OK = 0n;
const FAILED = -1n;
const NOT_SUPPORTED = -2n;
const INVALID_PARAM = -3n;
const INVALID_ADDRESS = -5n;
const ALREADY_STARTED = -7n;
const ALREADY_STOPPED = -8n;
const NO_SHMEM = -9n;
const ALL = 2n ** 64n - 1n;
const CYCLES = 1n;
const INSTRUCTIONS = 2n;
const firmware = (code: bigint): bigint => (0xfn << 16n) | code;
/** All 18 counters. */
const EVERY = 0x7fffdn;
const SKIP_MATCH = 1n;
const CLEAR_VALUE = 2n;
const AUTO_START = 4n;
const SET_INIT_VALUE = 1n;
const INIT_SNAPSHOT = 2n;
const RESET = 1n;
const TAKE_SNAPSHOT = 2n;
const slice = (): number => EXIT.SLICE;

let s: ScriptedVm;
let hart: HartImage;
beforeEach(() => {
  s = new ScriptedVm({ harts: 3 });
  for (let i = 0; i < 3; i++) s.run(i, slice);
  hart = s.images[0] as HartImage;
});
const call = (func: number, ...args: bigint[]): [bigint, bigint] => s.ecall(0, PMU, func, args);
const info = (counter: bigint) => call(1, counter);
const configure = (base: bigint, mask: bigint, flags: bigint, event: bigint, data = 0n) =>
  call(2, base, mask, flags, event, data);
const start = (base: bigint, mask: bigint, flags = 0n, value = 0n) => call(3, base, mask, flags, value)[0];
const stop = (base: bigint, mask: bigint, flags = 0n) => call(4, base, mask, flags)[0];
const read = (counter: bigint) => call(5, counter);

test("the counters: cycles, instructions, and 16 of the firmware", () => {
  expect(call(0)).toEqual([OK, 19n]);
  expect(info(0n)).toEqual([OK, 0xc00n | (63n << 12n)]);
  expect(info(2n)).toEqual([OK, 0xc02n | (63n << 12n)]);
  for (let i = 3n; i < 19n; i++) expect(info(i)).toEqual([OK, 1n << 63n]);
  for (const none of [1n, 19n, 1n << 32n, (1n << 32n) | 2n, ALL]) expect(info(none)[0]).toBe(INVALID_PARAM);
});

test("cycles and instructions: found, cleared, started with a value, stopped", () => {
  hart.set("mcycle", 77n);
  hart.set("minstret", 88n);
  expect(configure(0n, EVERY, CLEAR_VALUE, CYCLES)).toEqual([OK, 0n]);
  expect(configure(0n, EVERY, 0n, INSTRUCTIONS)).toEqual([OK, 2n]);
  expect([hart.get("mcycle"), hart.get("minstret"), hart.get("mcountinhibit")]).toEqual([0n, 88n, 5n]);
  expect(start(0n, 1n, SET_INIT_VALUE, 1000n)).toBe(OK);
  expect([hart.get("mcycle"), hart.get("mcountinhibit")]).toEqual([1000n, 4n]);
  expect(start(2n, 1n)).toBe(OK);
  expect([hart.get("minstret"), hart.get("mcountinhibit")]).toEqual([88n, 0n]);
  expect([start(0n, 5n), stop(0n, 5n), stop(0n, 5n)]).toEqual([ALREADY_STARTED, OK, ALREADY_STOPPED]);
  expect(hart.get("mcountinhibit")).toBe(5n);
});

test("the real engine counts while a counter runs, and not while it is stopped", () => {
  const real = new ScriptedVm({ realEngine: true });
  // 1: addi x5, x5, 1; j 1
  real.vm.memory.write(RAM + 0x100, Uint8Array.of(0x93, 0x82, 0x12, 0, 0x6f, 0xf0, 0xdf, 0xff));
  const image = real.images[0] as HartImage;
  const pmu = (func: number, ...args: bigint[]): bigint => {
    image.set("pc", BigInt(RAM + 0x200));
    real.vm.memory.write(RAM + 0x200, Uint8Array.of(0x73, 0, 0, 0));
    return real.ecall(0, PMU, func, args)[0];
  };
  const spin = (): [boolean, boolean] => {
    const before = [image.get("mcycle"), image.get("minstret")];
    image.set("pc", BigInt(RAM + 0x100));
    real.run(0, slice);
    return [image.get("mcycle") !== before[0], image.get("minstret") !== before[1]];
  };
  image.set("priv", 1n);
  expect(spin()).toEqual([true, true]);
  expect([pmu(4, 0n, 5n, RESET), spin()]).toEqual([OK, [false, false]]);
  expect([pmu(2, 0n, EVERY, AUTO_START, CYCLES), spin()]).toEqual([OK, [true, false]]);
  expect([pmu(2, 0n, EVERY, AUTO_START, INSTRUCTIONS), spin()]).toEqual([OK, [true, true]]);
});

describe("a counter for an event", () => {
  test("is one that has none, of the set; SKIP_MATCH takes the first", () => {
    expect(configure(0n, 4n, 0n, CYCLES)[0]).toBe(NOT_SUPPORTED);
    expect(configure(0n, 1n, 0n, CYCLES)[0]).toBe(OK);
    expect(configure(0n, EVERY, 0n, CYCLES)[0]).toBe(NOT_SUPPORTED);
    expect(configure(0n, 1n, SKIP_MATCH | AUTO_START, CYCLES)).toEqual([OK, 0n]);
    expect(stop(0n, 1n, RESET)).toBe(OK);
    expect(configure(0n, EVERY, 0n, CYCLES)).toEqual([OK, 0n]);
    expect(configure(2n, 0x1ffffn, SKIP_MATCH, INSTRUCTIONS)).toEqual([OK, 2n]);
    expect(configure(4n, 3n, SKIP_MATCH, INSTRUCTIONS)[0]).toBe(NOT_SUPPORTED);
    expect(configure(4n, 3n, 0n, firmware(5n))).toEqual([OK, 4n]);
    expect(configure(4n, 3n, 0n, firmware(5n))).toEqual([OK, 5n]);
    expect(configure(4n, 3n, 0n, firmware(6n))[0]).toBe(NOT_SUPPORTED);
    expect(configure(0n, 0n, 0n, CYCLES)[0]).toBe(NOT_SUPPORTED);
  });
  test.each([
    ["no event", 0n, 0n],
    ["cache references", 3n, 0n],
    ["reference cycles", 10n, 0n],
    ["a cache event", 0x10000n, 0n],
    ["a raw event", 0x20000n, 1n],
    ["a raw event, version 2", 0x30000n, 1n],
    ["a reserved firmware event", firmware(22n), 0n],
    ["an event of the platform", firmware(0xffffn), 0n],
    ["more than 20 bits", 0x100001n, 0n],
    ["reserved data", CYCLES, 1n],
    ["reserved data of a firmware event", firmware(5n), 1n << 63n],
  ])("%s is not supported", (_name, event, data) => {
    expect(configure(0n, EVERY, 0n, event, data)[0]).toBe(NOT_SUPPORTED);
  });
  test.each([
    ["a counter that does not exist", 0n, 2n, 0n],
    ["a counter behind the last", 16n, 8n, 0n],
    ["a base that is none", 1n << 63n, 1n, 0n],
    ["a base near the end of the numbers", ALL, 2n, 0n],
    ["a reserved flag", 0n, 1n, 1n << 8n],
    ["a reserved flag of the upper half", 0n, 1n, 1n << 63n],
  ])("%s is an invalid parameter", (_name, base, mask, flags) => {
    expect(configure(base, mask, flags, CYCLES)[0]).toBe(INVALID_PARAM);
  });
  test("hints about modes are accepted", () => {
    expect(configure(0n, 1n, 0xf8n, CYCLES)).toEqual([OK, 0n]);
  });
});

describe("errors of start, stop and read", () => {
  test.each([
    ["a counter that does not exist", 0n, 3n, 0n],
    ["a counter without an event", 3n, 1n, 0n],
    ["a reserved flag", 0n, 1n, 4n],
    ["two values", 0n, 1n, 3n],
  ])("start: %s", (_name, base, mask, flags) => {
    configure(0n, 1n, 0n, CYCLES);
    expect([start(base, mask, flags), hart.get("mcountinhibit")]).toEqual([INVALID_PARAM, 1n]);
  });
  test("stop: a counter that does not exist, a reserved flag; the others go on", () => {
    configure(0n, 1n, AUTO_START, CYCLES);
    expect([stop(0n, 3n), stop(0n, 1n, 4n), stop(19n, 1n)]).toEqual(Array(3).fill(INVALID_PARAM));
    expect(hart.get("mcountinhibit")).toBe(0n);
    expect([stop(0n, EVERY, RESET), hart.get("mcountinhibit")]).toEqual([ALREADY_STOPPED, 5n]);
  });
  test("only firmware counters are read by a call, and have no upper half", () => {
    for (const counter of [0n, 1n, 2n, 19n, 1n << 32n, ALL])
      for (const func of [5, 6]) expect(call(func, counter)[0]).toBe(INVALID_PARAM);
    hart.set("pmuValue", ALL, 18);
    expect([call(5, 18n), call(6, 18n)]).toEqual([
      [OK, ALL],
      [OK, 0n],
    ]);
  });
});

describe("firmware events", () => {
  /** What happened to hart 0's counters of these codes. */
  function counted(codes: readonly bigint[], events: () => void): bigint[] {
    const counters = codes.map((code) => configure(0n, EVERY, CLEAR_VALUE | AUTO_START, firmware(code))[1]);
    events();
    return counters.map((counter) => read(counter)[1]);
  }
  test("timers that are set", () => {
    expect(
      counted([5n], () => [s.ecall(0, TIME, 0, [ALL]), s.ecall(0, 0, 0, [ALL]), s.ecall(1, TIME, 0)]),
    ).toEqual([2n]);
  });
  test("IPIs and fences to and from other harts, not to itself", () => {
    const codes = [6n, 7n, 8n, 9n, 10n, 11n, 12n, 13n];
    const events = (): void => {
      s.ecall(0, IPI, 0, [0n, ALL]);
      s.ecall(1, IPI, 0, [1n, 0n]);
      s.ecall(0, RFENCE, 0, [7n, 0n]);
      s.ecall(2, RFENCE, 0, [0n, ALL]);
      s.ecall(0, RFENCE, 1, [2n, 0n, 0x1000n, 0x1000n]);
      s.ecall(1, RFENCE, 1, [0n, ALL, 0n, ALL]);
      s.ecall(0, RFENCE, 2, [6n, 0n, 0x1000n, 0x1000n, 1n]);
      s.ecall(1, RFENCE, 2, [1n, 0n, 0n, ALL, 1n]);
      // Refused: nobody gets it.
      s.ecall(0, IPI, 0, [8n, 0n]);
    };
    expect(counted(codes, events)).toEqual([2n, 1n, 2n, 1n, 1n, 1n, 2n, 1n]);
  });
  test("that do not happen here are 0: traps are delegated, and there is no hypervisor extension", () => {
    expect(counted([0n, 4n, 14n, 21n], () => s.ecall(1, RFENCE, 4, [1n, 0n]))).toEqual([0n, 0n, 0n, 0n]);
  });
  test("are counted while the counter runs, from the initial value on", () => {
    const { 1: counter } = configure(3n, 0xffffn, 0n, firmware(5n));
    const set = (): unknown => s.ecall(0, TIME, 0, [ALL]);
    set();
    expect([read(counter)[1], start(counter, 1n, SET_INIT_VALUE, ALL - 1n)]).toEqual([0n, OK]);
    set();
    expect(read(counter)[1]).toBe(ALL);
    set();
    expect([read(counter)[1], start(counter, 1n), stop(counter, 1n)]).toEqual([0n, ALREADY_STARTED, OK]);
    set();
    expect(read(counter)[1]).toBe(0n);
  });
});

describe("the snapshot", () => {
  const PAGE = BigInt(RAM + 0x2000);
  const page = (): DataView => new DataView(s.ram(Number(PAGE), 4096).buffer);
  test("takes the values of the stopped counters, at their places in the set, and gives them at a start", () => {
    s.vm.memory.write(Number(PAGE), new Uint8Array(4096).fill(0xee));
    expect(call(7, PAGE, 0n, 0n)).toEqual([OK, 0n]);
    configure(0n, 1n, 0n, CYCLES);
    configure(4n, 1n, 0n, firmware(5n));
    for (const counter of [0n, 4n]) start(counter, 1n, SET_INIT_VALUE, 0x1234n + counter);
    expect(stop(0n, 0x11n, TAKE_SNAPSHOT)).toBe(OK);
    expect([0, 8, 16, 8 + 8 * 4].map((at) => page().getBigUint64(at, true))).toEqual([
      ...[0n, 0x1234n, 0xeeee_eeee_eeee_eeeen, 0x1238n],
    ]);
    const values = new Uint8Array(8);
    new DataView(values.buffer).setBigUint64(0, 99n, true);
    s.vm.memory.write(Number(PAGE) + 16, values);
    expect([start(3n, 2n, INIT_SNAPSHOT), read(4n)[1]]).toEqual([OK, 99n]);
    expect(call(7, ALL, ALL, 0n)[0]).toBe(OK);
    expect(stop(4n, 1n, TAKE_SNAPSHOT)).toBe(NO_SHMEM);
    expect(start(0n, 1n, INIT_SNAPSHOT)).toBe(NO_SHMEM);
  });
  test.each([
    ["flags", PAGE, 0n, 1n, INVALID_PARAM],
    ["an address inside a page", PAGE + 8n, 0n, 0n, INVALID_PARAM],
    ["no memory", 0x1000_0000n, 0n, 0n, INVALID_ADDRESS],
    ["nothing at 0", 0n, 0n, 0n, INVALID_ADDRESS],
    ["above 2^64", PAGE, 1n, 0n, INVALID_ADDRESS],
    ["half of all ones", 0n, ALL, 0n, INVALID_ADDRESS],
  ])("errors: %s", (_name, low, high, flags, error) => {
    expect([call(7, low, high, flags)[0], hart.get("pmuSnapshot")]).toEqual([error, 0n]);
  });
});

describe("event info", () => {
  const at = BigInt(RAM + 0x3000);
  function write(entries: readonly (readonly [bigint, bigint])[]): void {
    const view = new DataView(new ArrayBuffer(entries.length * 16));
    for (const [i, [event, data]] of entries.entries()) {
      view.setUint32(i * 16, Number(event), true);
      view.setUint32(i * 16 + 4, 0xffffffff, true);
      view.setBigUint64(i * 16 + 8, data, true);
    }
    s.vm.memory.write(Number(at), new Uint8Array(view.buffer));
  }
  test("says which events are counted", () => {
    const entries = [
      ...([CYCLES, INSTRUCTIONS, 3n, 0x10000n, firmware(5n), firmware(22n)] as const).map(
        (e) => [e, 0n] as const,
      ),
      [CYCLES, 1n] as const,
    ];
    write(entries);
    expect(call(8, at, 0n, 7n, 0n)).toEqual([OK, 0n]);
    const view = new DataView(s.ram(Number(at), 7 * 16).buffer);
    expect(entries.map((_, i) => view.getUint32(i * 16 + 4, true))).toEqual([1, 1, 0, 0, 1, 0, 0]);
  });
  test("errors", () => {
    write([[0x100001n, 0n]]);
    expect(call(8, at, 0n, 1n, 0n)[0]).toBe(INVALID_PARAM);
    expect(call(8, at, 0n, 1n, 1n)[0]).toBe(INVALID_PARAM);
    expect(call(8, at + 8n, 0n, 1n, 0n)[0]).toBe(INVALID_PARAM);
    for (const entries of [0x3d01n, 1n << 60n, ALL])
      expect(call(8, at, 0n, entries, 0n)[0]).toBe(INVALID_ADDRESS);
    expect(call(8, at, 1n, 1n, 0n)[0]).toBe(INVALID_ADDRESS);
    expect(call(8, BigInt(RAM), 0n, 0x1001n, 0n)[0]).toBe(FAILED);
    expect(call(8, at, 0n, 0n, 0n)[0]).toBe(OK);
  });
});

test("counters survive a non-retentive suspend; a started hart has them as after a reset", () => {
  const { 1: counter } = s.ecall(1, PMU, 2, [3n, 0xffffn, AUTO_START, firmware(7n)]);
  s.ecall(1, PMU, 4, [0n, 1n, RESET]);
  s.ecall(0, IPI, 0, [2n, 0n]);
  const target = s.images[1] as HartImage;
  target.set("mie", 2n);
  s.ecall(1, HSM, 3, [0x80000000n, BigInt(RAM), 0n], slice, slice);
  expect(target.get("pc")).toBe(BigInt(RAM));
  expect([target.get("mcountinhibit"), s.ecall(1, PMU, 5, [counter])[1]]).toEqual([1n, 1n]);
  s.ecall(0, IPI, 0, [2n, 0n]);
  expect(s.ecall(1, PMU, 5, [counter])[1]).toBe(2n);
  s.requests[1]?.store(CTL_MP_STATE, MP_STATE.STOPPED);
  s.ecall(0, HSM, 0, [1n, BigInt(RAM), 0n]);
  s.run(1, slice);
  expect([target.get("mcountinhibit"), s.ecall(1, PMU, 5, [counter])[1]]).toEqual([0n, 0n]);
  expect(s.ecall(1, PMU, 3, [counter, 1n])[0]).toBe(INVALID_PARAM);
});
