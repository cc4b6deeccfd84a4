import { expect, test } from "vitest";
import { UsageError } from "../output/cli-error.ts";
import { nearest } from "../../base/nearest.ts";
import { type Options, optionsHelp, parseCommandLine, text } from "./command-line.ts";
import { machineOptions, machineOptionsOf } from "./machine-options.ts";
import { share } from "./share-option.ts";
import {
  codeCacheSize,
  drive,
  icount,
  incoming,
  memorySize,
  number,
  rtc,
  serial,
  word,
} from "./option-values.ts";
import { net } from "./net-option.ts";

const options = {
  smp: { value: "N", parse: number(1, 8), help: "harts" },
  kernel: { value: "FILE", parse: text, help: "a kernel" },
  drive: { value: "SPEC", parse: text, many: true, help: "a drive" },
  paused: { help: "paused" },
} satisfies Options;

const parse = (...args: string[]) => parseCommandLine(options, args);

test("values, flags, repeated options, positionals", () => {
  const parsed = parse("a", "--smp", "4", "--drive=x", "--paused", "--drive", "y", "--", "--b");
  expect(parsed.values).toEqual({ smp: 4, kernel: undefined, drive: ["x", "y"], paused: true });
  expect(parsed.positionals).toEqual(["a", "--b"]);
});

test.each([
  [["--krenel", "x"], "unknown option --krenel; did you mean --kernel?"],
  [["--nothinglikeit"], "unknown option --nothinglikeit"],
  [["-smp", "4"], "unknown option -smp; did you mean --smp?"],
  [["--smp", "4", "--smp", "2"], "--smp is given twice"],
  [["--smp"], "--smp needs a value: --smp N"],
  [["--kernel", "--paused"], "--kernel needs a value: --kernel FILE"],
  [["--smp=nine"], "--smp nine: expected a number from 1 to 8"],
  [["--paused=yes"], "--paused takes no value, found 'yes'"],
  [["--toString"], "unknown option --toString"],
])("%j is refused", (args, message) => {
  expect(() => parse(...args)).toThrow(new UsageError(message));
});

test("a value that starts with a dash is written with =", () => {
  expect(parse("--kernel=-odd").values.kernel).toBe("-odd");
});

test("suggestions are near matches or none", () => {
  expect(nearest("migrat", ["save", "migrate"])).toBe("migrate");
  expect(nearest("xyz", ["save", "migrate"])).toBeUndefined();
});

test("every option of run is in its help", () => {
  const help = optionsHelp(machineOptions);
  for (const name of Object.keys(machineOptions)) expect(help).toContain(`--${name} `.trimEnd());
  for (const line of help.split("\n")) expect(line.length).toBeLessThanOrEqual(100);
});

const machine = (...args: string[]) => machineOptionsOf(parseCommandLine(machineOptions, args).values);

test("run's defaults", () => {
  expect(machine("--kernel", "k")).toEqual({
    harts: 1,
    memoryBytes: 512 << 20,
    kernel: "k",
    initrd: undefined,
    append: "",
    firmware: undefined,
    drives: [],
    net: undefined,
    rng: false,
    shares: [],
    legacyVirtio: false,
    serial: { kind: "stdio" },
    serialPorts: [],
    agent: false,
    qmp: undefined,
    incoming: undefined,
    paused: false,
    perf: false,
    trace: [],
  });
  const engine = ["--engine", "translator", "--code-cache", "32", "--translate-after=0"];
  expect(machine("--kernel", "k", ...engine)).toMatchObject({
    engine: "translator",
    codeCacheBytes: 32 << 20,
    translateAfter: 0,
  });
  expect(machine("--firmware", "builtin", "--incoming", "defer").incoming).toBe("defer");
});

test("options that contradict each other", () => {
  expect(() => machine()).toThrow("nothing to run");
  expect(() => machine("--firmware", "f", "--initrd", "i")).toThrow("--initrd needs --kernel");
  const drives = Array.from({ length: 8 }, () => "--drive=file=x");
  expect(machine("--kernel=k", ...drives).drives).toHaveLength(8);
  expect(() => machine("--kernel=k", "--rng", ...drives)).toThrow("9 virtio devices");
  expect(() => machine("--kernel=k", "--share=path=d,tag=t", ...drives)).toThrow("9 virtio devices");
  const twice = ["--share=path=a,tag=t", "--share=path=b,tag=t"];
  expect(() => machine("--kernel=k", ...twice)).toThrow("two shares have the tag t");
  expect(() => machine("--kernel=k", "--icount", "3", "--smp", "2")).toThrow("--icount needs --smp 1");
  const away = (...more: string[]) => machine("--kernel=k", "--clock=host", ...more);
  for (const saved of ["file:f", "exec:cat f", "defer"]) expect(away("--incoming", saved).clock).toBe("host");
  expect(() => away()).toThrow("--clock is for a saved machine");
  expect(() => away("--incoming", "unix:p")).toThrow("--clock is for a saved machine");
  expect(() => away("--incoming", "file:f", "--icount", "3")).toThrow("guest time counts instructions");
  const comes = (from: string, ...more: string[]) => machine("--incoming", from, ...more);
  expect(() => comes("file:f", "--append", "quiet")).toThrow("--append needs --kernel");
  expect(() => comes("file:f", "--multifd", "2")).toThrow(
    "--multifd needs --incoming with tcp:, unix: or defer",
  );
  expect(() => comes("exec:cat f", "--multifd", "2")).toThrow("--multifd needs --incoming with tcp:");
  expect(() => comes("file:f", "--stall-timeout", "2")).toThrow("--stall-timeout needs --incoming");
  for (const from of ["unix:p", "defer"]) expect(comes(from, "--multifd", "2").multifd).toBe(2);
  expect(comes("unix:p", "--rtc", "clock=vm").rtc).toEqual({ clock: "vm" });
  expect(() => comes("unix:p", "--rtc", "base=2020-01-01")).toThrow("leave base out");
});

test("values in QEMU's notations", () => {
  expect(memorySize("512M")).toBe(512 << 20);
  expect(memorySize("64")).toBe(64 << 20);
  expect(memorySize("1.5G")).toBe(1536 * 2 ** 20);
  expect(drive("file=a,,b=c.img,readonly=on,format=raw,if=virtio")).toEqual({
    file: "a,b=c.img",
    format: "raw",
    readonly: true,
  });
  const shared = { readonly: true, forceShare: true, locking: false };
  expect(drive("file=a,readonly=on,force-share=on,locking=off")).toMatchObject(shared);
  expect(
    net(
      "user,hostfwd=tcp::2222-:22,hostfwd=udp::53-:53,restrict=on,allow=a.example:80,mac=52:54:00:00:00:01",
    ),
  ).toEqual({
    user: { hostfwd: ["tcp::2222-:22", "udp::53-:53"], restrict: true, allow: ["a.example:80"] },
    mac: Uint8Array.of(0x52, 0x54, 0, 0, 0, 1),
  });
  expect(net("user")).toEqual({ user: {} });
  expect(net("switch:unix:/tmp/a,,b,mtu=1500,log=l")).toEqual({
    switch: "/tmp/a,b",
    user: { mtu: 1500 },
    log: "l",
  });
  expect(net("socket:connect=unix:/tmp/p")).toEqual({ mode: "connect", path: "/tmp/p" });
  expect(() => net("user,restrict=yes")).toThrow("restrict must be on or off");
  expect(() => net("user,dns=1,dns=2")).toThrow("dns is given twice");
  expect(() => net("user,foo=1")).toThrow("unknown key 'foo'; known are hostfwd, allow");
  expect(() => net("switch:tcp:1")).toThrow("expected switch:unix:PATH");
  expect(() => net("socket:connect=unix:")).toThrow("the path is empty");
  expect(net("none")).toBeUndefined();
  expect(net("socket:listen=127.0.0.1:4000")).toEqual({ mode: "listen", host: "127.0.0.1", port: 4000 });
  expect(net("socket:connect=:4000,mac=52:54:00:12:34:56")).toEqual({
    mode: "connect",
    host: "127.0.0.1",
    port: 4000,
    mac: Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56),
  });
  expect(serial("file:log")).toEqual({ kind: "file", path: "log" });
  expect(serial("unix:/s,server=on,wait=off")).toEqual({
    kind: "socket",
    address: { kind: "unix", path: "/s" },
  });
  expect(incoming("defer")).toBe("defer");
  expect(icount("shift=5,sleep=off")).toEqual({ shift: 5, sleep: false });
  expect(icount("7")).toEqual({ shift: 7, sleep: true });
  expect(icount("sleep=on")).toEqual({ shift: 3, sleep: true });
  expect(rtc("base=2006-06-17T16:01:21,clock=vm")).toEqual({
    baseNs: 1_150_560_081_000_000_000n,
    clock: "vm",
  });
  expect(rtc("base=1970-01-02")).toEqual({ baseNs: 86_400_000_000_000n });
  expect(rtc("base=utc")).toEqual({});
  expect(codeCacheSize("16M")).toBe(16 << 20);
});

test.each([
  [memorySize, "lots", "expected a size"],
  [icount, "auto", "shift=auto would follow the host's clock"],
  [icount, "shift=11", "expected a number from 0 to 10"],
  [icount, "align=on", "unknown key 'align'; known are shift, sleep"],
  [rtc, "base=yesterday", "expected base=utc or a date"],
  [rtc, "base=2006-13-17", "expected base=utc or a date"],
  [rtc, "clock=rt", "clock must be host or vm, found 'rt'"],
  [codeCacheSize, "2G", "expected 1M to 64M"],
  [word(["a", "b"]), "c", "expected a or b"],
  [memorySize, "8G", "expected 2M to 3584M"],
  [memorySize, "3M", "multiple of 2M"],
  [drive, "disk.img", "expected key=value, found 'disk.img'"],
  [drive, "file=", "expected file=FILE"],
  [drive, "file=a,format=vmdk", "format must be auto or raw or qcow2, found 'vmdk'"],
  [drive, "file=a,file=b", "file is given twice"],
  [drive, "file=a,cache=none", "unknown key 'cache'"],
  [net, "tap", "expected none"],
  [net, "socket:listen=x", "expected listen=HOST:PORT"],
  [net, "socket:listen=:1,mac=01:00:00:00:00:00", "multicast"],
  [serial, "file:", "expected stdio"],
  [serial, "vc", "expected stdio"],
  [incoming, "x", "expected tcp:HOST:PORT"],
])("%o %s is refused", (parser, value, message) => {
  expect(() => (parser as (text: string) => unknown)(value)).toThrow(message);
});

test("shares", () => {
  expect(share("path=a,,b,tag=t")).toEqual({ path: "a,b", tag: "t", readonly: false });
  expect(share("path=d,mount_tag=t,security_model=mapped,readonly=on")).toEqual({
    path: "d",
    tag: "t",
    readonly: true,
    uid: "mapped-xattr",
  });
  expect(() => share("path=d")).toThrow("expected path=DIR,tag=NAME");
  expect(() => share("path=d,tag=t,uid=me")).toThrow("expected map or none or passthrough or mapped-xattr");
  expect(() => share("path=d,tag=t,mount_tag=u")).toThrow("mount_tag is another name of tag");
  expect(() => share("path=d,tag=t,msize=1")).toThrow("unknown key 'msize'");
});
