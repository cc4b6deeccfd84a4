// The options of `run` and `restore` that describe a machine, as a table and as the resulting value.
import { AGENT_PORT } from "../../agent/agent-client.ts";
import type { EngineConfig } from "../../embed/create-vm.ts";
import { DEFAULT_ENGINE, ENGINE_KINDS } from "../../hypervisor/shared/engine-kind.ts";
import { DEFAULT_ICOUNT_SHIFT, type IcountOptions } from "../../hypervisor/requests/instruction-clock.ts";
import { MAX_NAMED_PORTS } from "../../devices/virtio/virtio-console.ts";
import { MAX_VCPUS } from "../../hypervisor/shared/memory-map.ts";
import {
  DEFAULT_CODE_CACHE_BYTES,
  DEFAULT_TRANSLATE_AFTER,
} from "../../hypervisor/shared/translation-options.ts";
import type { RtcOptions } from "../../machines/virt.ts";
import type { RestoreClock } from "../../vmm/machine.ts";
import type { MigrationAddress } from "../../monitor/migration-address.ts";
import { parseSocketAddress, type SocketAddress } from "../../node/channels/socket-server.ts";
import type { NetSpec } from "../../node/net-platform/net-spec.ts";
import type { DriveSpec } from "../../node/virtio-backends.ts";
import type { ShareSpec } from "../../node/share/host-share.ts";
import { UsageError } from "../output/cli-error.ts";
import { type Options, text, type ValuesOf } from "./command-line.ts";
import { net, NET_HELP } from "./net-option.ts";
import { share } from "./share-option.ts";
import {
  address,
  codeCacheSize,
  drive,
  icount,
  incoming,
  isa,
  machineName,
  memorySize,
  number,
  rtc,
  type SerialSpec,
  serial,
  type SerialPortSpec,
  serialPort,
  word,
} from "./option-values.ts";

/**
 * The `virt` board's eight virtio slots: drives, the network, the entropy source, a console, serial ports,
 * shares.
 */
const VIRTIO_SLOTS = 8;

export interface MachineOptions extends EngineConfig {
  readonly harts: number;
  readonly memoryBytes: number;
  readonly kernel: string | undefined;
  readonly initrd: string | undefined;
  readonly append: string;
  /** A file, `builtin`, or undefined for that or what an arriving machine brings. */
  readonly firmware: string | undefined;
  readonly drives: readonly DriveSpec[];
  readonly net: NetSpec | undefined;
  readonly rng: boolean;
  readonly serial: SerialSpec;
  readonly console?: SerialSpec | undefined;
  readonly serialPorts?: readonly SerialPortSpec[] | undefined;
  /** A port for the guest's agent, which this process talks to. */
  readonly agent?: boolean | undefined;
  readonly shares?: readonly ShareSpec[] | undefined;
  /** virtio-mmio version 1. */
  readonly legacyVirtio?: boolean | undefined;
  /** Extensions in the device tree. */
  readonly isaExtensions?: readonly string[] | undefined;
  readonly qmp: SocketAddress | undefined;
  /** By which the user's commands find it. */
  readonly name?: string | undefined;
  readonly incoming: MigrationAddress | "defer" | undefined;
  /** Number of channels. */
  readonly multifd?: number | undefined;
  /** Seconds for which a source may send nothing; 0: for ever. */
  readonly stallTimeout?: number | undefined;
  readonly paused: boolean;
  /** Guest time of a restored machine. */
  readonly clock?: RestoreClock | undefined;
  readonly icount?: IcountOptions | undefined;
  readonly rtc?: RtcOptions | undefined;
  readonly perf?: boolean;
  readonly trace?: readonly bigint[];
}

export const machineOptions = {
  smp: {
    value: "N",
    parse: number(1, MAX_VCPUS),
    help: `number of harts, 1 to ${MAX_VCPUS} (default 1, or as in the file that is restored)`,
  },
  memory: {
    value: "SIZE",
    parse: memorySize,
    help: "guest memory, such as 512M or 2G (default 512M, or as in the file that is restored)",
  },
  kernel: {
    value: "FILE",
    parse: text,
    help: "kernel to start: a Linux Image, ELF, uImage or raw code, also compressed or in an EFI zboot image",
  },
  initrd: { value: "FILE", parse: text, help: "initial ramdisk for the kernel" },
  append: { value: "TEXT", parse: text, help: "kernel command line" },
  firmware: {
    value: "builtin|FILE",
    parse: text,
    help: "handler of SBI calls: Wherry itself (default), or an image such as OpenSBI's fw_jump or fw_dynamic in M-mode",
  },
  drive: {
    value: "file=FILE[,…]",
    parse: drive,
    many: true,
    help: "disk image (raw or qcow2, also http: and https:) as a virtio disk; with format=raw|qcow2|auto, snapshot=on, readonly=on, force-share=on, force-changed=on, locking=off; may be given several times",
  },
  net: {
    value: "none|user|switch:…|socket:…",
    parse: net,
    help: NET_HELP,
  },
  rng: { help: "virtio entropy source" },
  share: {
    value: "path=DIR,tag=NAME[,…]",
    parse: share,
    many: true,
    help: "share a directory with the guest, which mounts it by its tag (mount -t 9p); with readonly=on, uid=map|none|passthrough|mapped-xattr; may be given several times",
  },
  serial: {
    value: "stdio|none|file:F|unix:PATH",
    parse: serial,
    help: "console: this terminal (default), none, a file for the output, or a unix socket to listen on",
  },
  console: {
    value: "none|file:F|unix:PATH",
    parse: serial,
    help: "a virtio console (hvc0) as well: none, a file for the output, or a unix socket to listen on",
  },
  "serial-port": {
    value: "name=N,path=unix:PATH",
    parse: serialPort,
    many: true,
    help: "a named port (/dev/virtio-ports/NAME in the guest) on a socket to listen on, as QEMU's virtserialport; may be given several times",
  },
  agent: {
    help: "a port for QEMU's guest agent (Debian: qemu-guest-agent), for `wherry exec` and `wherry cp`",
  },
  virtio: {
    value: "legacy|modern",
    parse: word(["legacy", "modern"] as const),
    help: "virtio-mmio version 1 (legacy, QEMU's default) or 2 (modern, the default)",
  },
  isa: {
    value: "ISA|RELEASE",
    parse: isa,
    help: "extensions in the device tree, such as rv64imafdc_zba: all that the harts have (default), or those that a release of QEMU has too (qemu-7.2, qemu-10.0, qemu-11.1)",
  },
  name: {
    value: "NAME",
    parse: machineName,
    help: "a name by which other commands find the machine: `wherry ps`, `wherry exec NAME`, --qmp NAME",
  },
  qmp: {
    value: "unix:PATH|tcp:H:P",
    parse: parseSocketAddress,
    help: "listen for QMP clients there, as QEMU's -qmp does (server=on and wait=off are accepted)",
  },
  incoming: {
    value: "URI|defer",
    parse: incoming,
    help: "receive a machine of Wherry or QEMU from tcp:HOST:PORT, unix:PATH, file:FILE or exec:COMMAND; defer waits for migrate-incoming",
  },
  multifd: {
    value: "CHANNELS",
    parse: number(1, 255),
    help: "with --incoming: the number of channels of the sending QEMU's capability multifd (default: detected, with 2)",
  },
  "stall-timeout": {
    value: "SECONDS",
    parse: number(0, 86_400),
    help: "with --incoming: how long the sending machine may send nothing before the move fails (default 30; 0: for ever)",
  },
  engine: {
    value: ENGINE_KINDS.join("|"),
    parse: word(ENGINE_KINDS),
    help: `engine that executes the guest's code (default ${DEFAULT_ENGINE})`,
  },
  "code-cache": {
    value: "SIZE",
    parse: codeCacheSize,
    help: `translator: amount of translated code to keep (default ${DEFAULT_CODE_CACHE_BYTES / 2 ** 20}M, the maximum)`,
  },
  "translate-after": {
    value: "N",
    parse: number(0, 1_000_000_000),
    help: `translator: number of executions of code before it is translated (default ${DEFAULT_TRANSLATE_AFTER})`,
  },
  icount: {
    value: "[shift=N][,sleep=off]",
    parse: icount,
    help: `each instruction takes 2^N ns of guest time (default ${DEFAULT_ICOUNT_SHIFT}), so that runs repeat exactly; sleep=off: an idle guest's time jumps; one hart only`,
  },
  rtc: {
    value: "base=utc|DATE[,clock=host|vm]",
    parse: rtc,
    help: "initial time of the real-time clock (default: now; with --icount 2025-01-01) and the clock that drives it",
  },
  perf: { help: "profile the machine, and show the report at the end; also: `wherry perf`" },
  trace: {
    value: "ADDRESS",
    parse: address,
    many: true,
    help: "show at the end the translation of the code there; also: `wherry trace`",
  },
  clock: {
    value: "stop|host",
    parse: word(["stop", "host"] as const satisfies readonly RestoreClock[]),
    help: "guest time of a saved machine: goes on where it stopped (default), or later by as long as it was away; the real-time clock shows the host's time either way",
  },
  paused: { help: "do not start the guest; start it with `wherry cont` (or QMP cont)" },
} satisfies Options;

const isLive = (from: MigrationAddress | "defer"): boolean =>
  from !== "defer" && (from.transport === "tcp" || from.transport === "unix");

const isFile = (from: MigrationAddress | "defer"): boolean => from !== "defer" && from.transport === "file";

/** Checks options that depend on each other. Throws UsageError. */
export function machineOptionsOf(values: ValuesOf<typeof machineOptions>): MachineOptions {
  const { incoming: from, kernel, initrd, append } = values;
  const { firmware } = values;
  if (kernel === undefined && (firmware ?? "builtin") === "builtin" && from === undefined) {
    throw new UsageError("nothing to run: give --kernel FILE, --firmware FILE or --incoming URI");
  }
  if (kernel === undefined && initrd !== undefined) throw new UsageError("--initrd needs --kernel");
  if (kernel === undefined && from !== undefined && append !== undefined)
    throw new UsageError(
      "--append needs --kernel: without them, the machine that arrives keeps its own kernel and command line",
    );
  if (values.multifd !== undefined && (from === undefined || (from !== "defer" && !isLive(from))))
    throw new UsageError(
      "--multifd needs --incoming with tcp:, unix: or defer: it applies to a moving machine",
    );
  if (values["stall-timeout"] !== undefined && (from === undefined || isFile(from)))
    throw new UsageError("--stall-timeout needs --incoming: it applies to a machine that is sent");
  if (values.rtc?.baseNs !== undefined && from !== undefined)
    throw new UsageError(
      "--rtc base: the clock of a machine that arrives shows its own time; leave base out",
    );
  if (values.clock !== undefined && (from === undefined || isLive(from)))
    throw new UsageError(
      "--clock is for a saved machine: with restore, --incoming file:FILE, exec:COMMAND or defer",
    );
  if (values.clock === "host" && values.icount !== undefined)
    throw new UsageError("--clock host: with --icount, guest time counts instructions");
  if (values.icount !== undefined && (values.smp ?? 1) > 1)
    throw new UsageError("--icount needs --smp 1: guest time counts the instructions of one hart");
  if (values.console?.kind === "stdio" && (values.serial ?? { kind: "stdio" }).kind === "stdio")
    throw new UsageError("--console stdio: the terminal is the serial console's (--serial none frees it)");
  const agentPort = values.agent ? [{ name: AGENT_PORT }] : [];
  const ports = [...agentPort, ...values["serial-port"]];
  const twice = ports.find(({ name }, i) => ports.findIndex((one) => one.name === name) !== i);
  if (twice !== undefined)
    throw new UsageError(
      `--serial-port: two ports are named ${twice.name}${twice.name === AGENT_PORT && values.agent ? ", one by --agent" : ""}`,
    );
  if (ports.length > MAX_NAMED_PORTS)
    throw new UsageError(`--serial-port: ${ports.length} ports, at most ${MAX_NAMED_PORTS} are possible`);
  const single = [values.net, values.console, values.rng || undefined, ports[0]].filter(
    (d) => d !== undefined,
  );
  const slots = values.drive.length + single.length + values.share.length;
  if (slots > VIRTIO_SLOTS)
    throw new UsageError(`${slots} virtio devices: the board has ${VIRTIO_SLOTS} slots`);
  const tags = values.share.map(({ tag }) => tag);
  const same = tags.find((tag, i) => tags.indexOf(tag) !== i);
  if (same !== undefined) throw new UsageError(`--share: two shares have the tag ${same}`);
  return {
    harts: values.smp ?? 1,
    memoryBytes: values.memory ?? 512 * 2 ** 20,
    kernel,
    initrd,
    append: append ?? "",
    firmware,
    drives: values.drive,
    net: values.net,
    rng: values.rng,
    serial: values.serial ?? { kind: "stdio" },
    console: values.console,
    serialPorts: values["serial-port"],
    agent: values.agent,
    shares: values.share,
    legacyVirtio: values.virtio === "legacy",
    isaExtensions: values.isa,
    qmp: values.qmp,
    name: values.name,
    incoming: from,
    multifd: values.multifd,
    stallTimeout: values["stall-timeout"],
    paused: values.paused,
    clock: values.clock,
    icount: values.icount,
    rtc: values.rtc,
    perf: values.perf,
    trace: values.trace,
    engine: values.engine,
    codeCacheBytes: values["code-cache"],
    translateAfter: values["translate-after"],
  };
}

// A file is not a machine that moves.
const { incoming: _, multifd: _multifd, "stall-timeout": _stall, ...forFiles } = machineOptions;
export const restoreOptions = forFiles;

/** The options of `restore`. Rejects with UsageError. */
export function restoreOptionsOf(
  values: ValuesOf<typeof restoreOptions>,
  file: string,
): Promise<MachineOptions> {
  const incoming = { transport: "file", path: file, offset: 0 } as const;
  return runOptionsOf({ ...values, multifd: undefined, "stall-timeout": undefined, incoming });
}

/** The options of `run`: a machine in a file tells its harts and memory itself. Rejects with UsageError. */
export async function runOptionsOf(values: ValuesOf<typeof machineOptions>): Promise<MachineOptions> {
  const { incoming, smp, memory } = values;
  if (typeof incoming !== "object" || incoming.transport !== "file") return machineOptionsOf(values);
  const { savedFileHardware } = await import("../../node/saved-file.ts");
  const saved = await savedFileHardware(incoming.path, incoming.offset);
  return machineOptionsOf({ ...values, smp: smp ?? saved.harts, memory: memory ?? saved.memoryBytes });
}
