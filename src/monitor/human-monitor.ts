// The human monitor (QEMU's HMP), for human-monitor-command: the commands that people type, in the output
// formats of QEMU 10.0. Most run a QMP command of the same table. As in QEMU, an error is text in the reply.
// Left out: all other commands; `x/i` (`wherry trace` shows code).
import { runtimeGlobals } from "../base/runtime-globals.ts";
import { messageOf } from "../base/errors.ts";
import type { QmpTarget } from "./machine-commands.ts";
import { memoryText, parseDumpFormat } from "./memory-dump.ts";
import { QmpError } from "./qapi.ts";
import { isObject, type JsonObject, type JsonValue } from "./qmp-json.ts";
import { registersText, registerValue } from "./register-text.ts";

type Run = (name: string, args?: JsonObject) => Promise<JsonValue>;

interface HumanCommand {
  /** Names, and the arguments as help shows them. */
  readonly usage: string;
  readonly help: string;
  readonly run: (words: readonly string[], cpu: number) => string | Promise<string>;
}

/** Resolves to the output, which ends with a line end if it is not empty. Never rejects. */
export function humanMonitor(
  target: QmpTarget,
  run: Run,
  quit: () => void,
): (line: string, cpu: number) => Promise<string> {
  const query = async (name: string): Promise<JsonObject> => {
    const reply = await run(name);
    return isObject(reply) ? reply : {};
  };
  const act =
    (name: string) =>
    async (words: readonly string[]): Promise<string> => {
      if (words.length > 0) throw new QmpError(`${name}: extraneous characters at the end of line`);
      await run(name);
      return "";
    };

  const info: Record<string, HumanCommand> = {
    cpus: {
      usage: "cpus",
      help: "show the harts",
      run: (_, cpu) =>
        lines(target.vcpuThreads.map((id, n) => `${n === cpu ? "*" : " "} CPU #${n}: thread_id=${id}`)),
    },
    kvm: { usage: "kvm", help: "show KVM", run: () => "kvm support: not compiled\n" },
    migrate: {
      usage: "migrate",
      help: "show a move",
      run: async () => migrationText(await query("query-migrate")),
    },
    migrate_capabilities: {
      usage: "migrate_capabilities",
      help: "show the capabilities of moves",
      run: async () => {
        const all = (await run("query-migrate-capabilities")) as JsonObject[];
        return lines(all.map((it) => `${String(it["capability"])}: ${it["state"] === true ? "on" : "off"}`));
      },
    },
    migrate_parameters: {
      usage: "migrate_parameters",
      help: "show the parameters of moves",
      run: async () =>
        lines(
          Object.entries(await query("query-migrate-parameters")).map(([name, v]) => `${name}: ${String(v)}`),
        ),
    },
    name: { usage: "name", help: "show the machine's name", run: () => "" },
    registers: {
      usage: "registers [-a]",
      help: "show the registers of a hart (-a: of all)",
      run: async (words, cpu) => {
        const all = words[0] === "-a";
        if (words.length > (all ? 1 : 0)) throw new QmpError("info registers: expected no argument, or -a");
        const harts = all ? target.vcpuThreads.map((_, n) => n) : [cpu];
        const texts: string[] = [];
        for (const hart of harts) texts.push(`\nCPU#${hart}\n${registersText(await target.registers(hart))}`);
        return texts.join("");
      },
    },
    status: {
      usage: "status",
      help: "show the run state",
      run: async () => {
        const { running, status } = await query("query-status");
        const detail = running === true || status === "paused" ? "" : ` (${String(status)})`;
        return `VM status: ${running === true ? "running" : "paused"}${detail}\n`;
      },
    },
    usernet: {
      usage: "usernet",
      help: "show the user network's forwarded ports and connections",
      run: () => {
        const { network } = target;
        if (network === undefined) return "";
        const row = (protocol: string, source: string, remote: string): string =>
          `  ${protocol.padEnd(22)} ${source.padEnd(24)} ${remote}`;
        return lines([
          row("Protocol[State]", "Source Address:Port", "Dest. Address:Port"),
          ...(network.ownGuest === undefined ? [] : [row("GUEST[OWN]", network.ownGuest ?? "-", "")]),
          ...network.forwards.map((rule) => {
            const [, protocol = "", host = "", to = ""] = /^(\w+):(.*)-(.*)$/.exec(rule) ?? [];
            return row(`${protocol.toUpperCase()}[HOST_FORWARD]`, host, to);
          }),
          ...network.connections.map(({ protocol, state, guest, remote }) =>
            row(`${protocol}[${state}]`.toUpperCase(), guest, remote),
          ),
        ]);
      },
    },
    uuid: {
      usage: "uuid",
      help: "show the machine's UUID",
      run: async () => `${String((await query("query-uuid"))["UUID"])}\n`,
    },
    version: {
      usage: "version",
      help: "show the version of the release that QMP follows, and of Wherry",
      run: async () => {
        const { qemu, package: name } = await query("query-version");
        const { major, minor, micro } = qemu as JsonObject;
        return `${String(major)}.${String(minor)}.${String(micro)} (${String(name)})\n`;
      },
    },
  };

  const dump =
    (name: "x" | "xp"): HumanCommand["run"] =>
    async (words, cpu) => {
      const [format = "", ...rest] = words[0]?.startsWith("/") === true ? words : ["/", ...words];
      const expression = rest.join("");
      if (expression === "") throw new QmpError(`${name}: expected an address, such as ${name} /4xw $sp`);
      const shape = parseDumpFormat(format.slice(1));
      const address = await valueOf(expression, cpu);
      const bytes = await target.readMemory(
        address,
        shape.count * shape.size,
        name === "x" ? cpu : undefined,
      );
      if (bytes === undefined) throw new QmpError(`Cannot access memory`);
      return memoryText(address, bytes, shape);
    };

  /** Terms with + and -: numbers, and registers such as $pc. */
  const valueOf = async (expression: string, cpu: number): Promise<bigint> => {
    const terms = expression.match(/[+-]?[^+-]+/g) ?? [];
    if (terms.join("") !== expression || terms.length === 0)
      throw new QmpError(`invalid expression '${expression}'`);
    let sum = 0n;
    for (const term of terms) {
      const text = term.replace(/^[+-]/, "");
      const value = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text)
        ? BigInt(text)
        : text.startsWith("$")
          ? registerValue(await target.registers(cpu), text.slice(1))
          : undefined;
      if (value === undefined)
        throw new QmpError(text.startsWith("$") ? `unknown register '${text}'` : `invalid number '${text}'`);
      sum += term.startsWith("-") ? -value : value;
    }
    return BigInt.asUintN(64, sum);
  };

  const userNetwork = () => {
    if (target.network === undefined) throw new QmpError("user mode network stack not in use");
    return target.network;
  };

  const commands: Record<string, HumanCommand> = {
    "cont|c": { usage: "", help: "resume the machine", run: act("cont") },
    "help|?": { usage: "[CMD]", help: "show the commands", run: ([name]) => helpText(name) },
    hostfwd_add: {
      usage: "[-t] [NETDEV] [tcp|udp]:[HOSTADDR]:HOSTPORT-[GUESTADDR]:GUESTPORT",
      help: "forward a port of the host to the guest; -t: it is not saved with the machine",
      run: async (words) => {
        try {
          await userNetwork().forward(words.at(-1) ?? "", words[0] === "-t");
          return "";
        } catch (error) {
          return `${messageOf(error)}\n`;
        }
      },
    },
    hostfwd_remove: {
      usage: "[NETDEV] [tcp|udp]:[HOSTADDR]:HOSTPORT",
      help: "end the forwarding of a port of the host",
      run: (words) => {
        const text = words.at(-1) ?? "";
        try {
          const found = userNetwork().unforward(text);
          return `host forwarding rule for ${text} ${found ? "removed" : "not found"}\n`;
        } catch (error) {
          return `${messageOf(error)}\n`;
        }
      },
    },
    info: {
      usage: "WHAT",
      help: "show something; without WHAT, what there is",
      run: ([name, ...words], cpu) => {
        if (name === undefined)
          return lines(Object.values(info).map((it) => `info ${it.usage} -- ${it.help}`));
        const found = Object.hasOwn(info, name) ? info[name] : undefined;
        if (found === undefined) throw new QmpError(`unknown command: 'info ${name}'`);
        return found.run(words, cpu);
      },
    },
    migrate: {
      usage: "[-d] URI",
      help: "move the machine; this monitor never waits for the end, so -d changes nothing",
      run: async (words) => {
        const [uri, ...more] = words.filter((word) => word !== "-d");
        if (uri === undefined) throw new QmpError("migrate: string expected");
        await run("migrate", { uri: [uri, ...more].join(" ") });
        return "";
      },
    },
    migrate_cancel: { usage: "", help: "cancel a move", run: act("migrate_cancel") },
    migrate_incoming: {
      usage: "URI",
      help: "receive a machine",
      run: async (words) => {
        await run("migrate-incoming", { uri: words.join(" ") });
        return "";
      },
    },
    migrate_set_capability: {
      usage: "CAPABILITY on|off",
      help: "switch a capability of moves",
      run: async ([capability = "", state = ""]) => {
        if (state !== "on" && state !== "off")
          throw new QmpError("migrate_set_capability: expected on or off");
        await run("migrate-set-capabilities", { capabilities: [{ capability, state: state === "on" }] });
        return "";
      },
    },
    migrate_set_parameter: {
      usage: "PARAMETER VALUE",
      help: "set a parameter of moves (max-bandwidth in MiB/s, or with a suffix such as 100M)",
      run: async ([name = "", value = ""]) => {
        const amount = name === "max-bandwidth" ? bandwidth(value) : Number(value);
        const isNumber = value !== "" && Number.isFinite(amount);
        await run("migrate-set-parameters", { [name]: isNumber ? amount : value });
        return "";
      },
    },
    "print|p": {
      usage: "/FMT EXPRESSION",
      help: "show a value: a number or a register such as $pc, with + and -",
      run: async (words, cpu) => {
        const [format = "", ...rest] = words[0]?.startsWith("/") === true ? words : ["/", ...words];
        const { radix } = parseDumpFormat(format.slice(1));
        const value = await valueOf(rest.join(""), cpu);
        if (radix === "d") return `${BigInt.asIntN(64, value)}\n`;
        return radix === "u"
          ? `${value}\n`
          : radix === "o"
            ? `0${value.toString(8)}\n`
            : `0x${value.toString(16)}\n`;
      },
    },
    "quit|q": {
      usage: "",
      help: "end the machine and its process",
      run: async () => {
        await run("quit");
        // After the reply.
        runtimeGlobals.setTimeout(quit, 0);
        return "";
      },
    },
    "stop|s": { usage: "", help: "stop the machine", run: act("stop") },
    system_powerdown: { usage: "", help: "press the power button", run: act("system_powerdown") },
    system_reset: { usage: "", help: "reset the machine", run: act("system_reset") },
    system_wakeup: { usage: "", help: "wake a suspended guest", run: act("system_wakeup") },
    x: { usage: "/FMT ADDRESS", help: "show memory at a virtual address", run: dump("x") },
    xp: { usage: "/FMT ADDRESS", help: "show memory at a physical address", run: dump("xp") },
  };
  const find = (name: string) =>
    Object.entries(commands).find(([names]) => names.split("|").includes(name))?.[1];
  const helpText = (name: string | undefined): string =>
    lines(
      Object.entries(commands)
        .filter(([names]) => name === undefined || names.split("|").includes(name))
        .map(([names, { usage, help }]) => `${[names, usage].join(" ").trim()} -- ${help}`),
    );

  return async (line, cpu) => {
    if (cpu < 0 || cpu >= target.vcpuThreads.length)
      throw new QmpError(`Parameter 'cpu-index' expects a CPU number`);
    // `x/4xw` is `x /4xw`.
    const [name, ...words] = line
      .trim()
      .replace(/^(\w+)\//, "$1 /")
      .split(/\s+/);
    if (name === undefined || name === "") return "";
    try {
      const found = find(name);
      if (found === undefined) throw new QmpError(`unknown command: '${name}'`);
      return await found.run(words, cpu);
    } catch (error) {
      // QEMU marks the errors of QMP commands so, and prints its own without.
      return `${error instanceof QmpError && /^(unknown|invalid|Cannot)/.test(error.message) ? "" : "Error: "}${messageOf(error)}\n`;
    }
  };
}

const lines = (all: readonly string[]): string => all.map((line) => `${line}\n`).join("");

/** In bytes per second: MiB/s, or with a suffix. */
function bandwidth(text: string): number {
  const match = /^([0-9]+)([kmgt])?b?$/i.exec(text);
  if (match === null) return Number.NaN;
  const shift = match[2] === undefined ? 2 : "kmgt".indexOf(match[2].toLowerCase()) + 1;
  return Number(match[1]) * 1024 ** shift;
}

function migrationText(info: JsonObject): string {
  const { status, ram } = info;
  if (status === undefined) return "";
  const error = info["error-desc"];
  const out = [`Migration status: ${String(status)}${error === undefined ? "" : ` (${String(error)})`}`];
  const time = (label: string, name: string) => {
    if (info[name] !== undefined) out.push(`${label}: ${String(info[name])} ms`);
  };
  time("total time", "total-time");
  time(
    status === "completed" ? "downtime" : "expected downtime",
    status === "completed" ? "downtime" : "expected-downtime",
  );
  time("setup", "setup-time");
  if (!isObject(ram)) return lines(out);
  const number = (name: string) => Number(ram[name]);
  const kbytes = (name: string) => `${Math.floor(number(name) / 1024)} kbytes`;
  out.push(
    `transferred ram: ${kbytes("transferred")}`,
    `throughput: ${number("mbps").toFixed(2)} mbps`,
    `remaining ram: ${kbytes("remaining")}`,
    `total ram: ${kbytes("total")}`,
    `duplicate: ${number("duplicate")} pages`,
    `normal: ${number("normal")} pages`,
    `normal bytes: ${kbytes("normal-bytes")}`,
    `dirty sync count: ${number("dirty-sync-count")}`,
    `page size: ${kbytes("page-size")}`,
    `multifd bytes: ${kbytes("multifd-bytes")}`,
    `pages-per-second: ${number("pages-per-second")}`,
  );
  if (number("dirty-pages-rate") > 0) out.push(`dirty pages rate: ${number("dirty-pages-rate")} pages`);
  return lines(out);
}
