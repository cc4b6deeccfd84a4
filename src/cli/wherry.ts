// The command line: the commands, their help, and the end of the process after an error. main.ts runs it.
import { messageOf, WherryError } from "../base/errors.ts";
import { nearest } from "../base/nearest.ts";
import { printable } from "../inspect/show/report-text.ts";
import { requireNode } from "../node/node-version.ts";
import { CliError, EXIT, UsageError } from "./output/cli-error.ts";
import { watchOutput } from "./output/lost-output.ts";
import { type Options, optionsHelp, parseCommandLine, type ValuesOf } from "./options/command-line.ts";
import { packageVersion } from "../node/channels/package-version.ts";

/** A command's options, and what it does with them. */
interface Work {
  readonly options: Options;
  /** Returns the exit code; nothing for 0. */
  readonly run: (parsed: ReturnType<typeof parseCommandLine>) => Promise<number | void>;
}

interface Command {
  readonly usage: string;
  readonly summary: string;
  /** Loads the command's own code: only that of the command that runs. */
  readonly load: () => Promise<Work>;
}

function work<O extends Options>(
  options: O,
  run: (values: ValuesOf<O>, ...positionals: string[]) => Promise<number | void>,
): Work {
  return { options, run: ({ values, positionals }) => run(values as ValuesOf<O>, ...positionals) };
}

function command(usage: string, summary: string, load: () => Promise<Work>): Command {
  return { usage, summary, load };
}

const control = () => import("./commands/control-commands.ts");
const machine = async () => ({
  ...(await import("./options/machine-options.ts")),
  ...(await import("./commands/run-command.ts")),
});

const commands: Record<string, Command> = {
  run: command("run [GUEST]", "start a machine; the guest `debian` is a Debian of your own", async () => {
    const { plainOptionsOf, residentOf, runOptions } = await import("./commands/debian-command.ts");
    const { run, runResident } = await machine();
    return work(runOptions, async (values, guest) =>
      guest === undefined ? run(await plainOptionsOf(values)) : runResident(await residentOf(values, guest)),
    );
  }),
  restore: command("restore FILE", "start a machine from a saved file", async () => {
    const { restoreOptions, restoreOptionsOf, run } = await machine();
    return work(restoreOptions, async (values, file) => run(await restoreOptionsOf(values, file as string)));
  }),
  save: command("save FILE", "save a running machine to a file; it keeps running", async () => {
    const { save, saveOptions } = await control();
    return work(saveOptions, (values, file) => save(file as string, values));
  }),
  migrate: command(
    "migrate [URI]",
    "move a running machine to tcp:HOST:PORT, unix:PATH, file:FILE or exec:COMMAND, to Wherry or QEMU",
    async () => {
      const { migrate, migrateOptions } = await control();
      return work(migrateOptions, (values, uri) => migrate(uri, values));
    },
  ),
  inspect: command(
    "inspect FILE",
    "open a migration stream of QEMU or Wherry; - is standard input",
    async () => {
      const { inspect, inspectOptions } = await import("./commands/inspect-command.ts");
      return work(inspectOptions, (values, file) => inspect(file as string, values));
    },
  ),
  status: command("status", "state of a machine", async () => {
    const { controlOptions, status } = await control();
    return work(controlOptions, status);
  }),
  perf: command("perf", "profile of a machine", async () => {
    const { perf, perfOptions } = await import("./commands/perf-command.ts");
    return work(perfOptions, perf);
  }),
  trace: command("trace ADDRESS", "translation of guest code", async () => {
    const { trace, traceOptions } = await import("./commands/trace-command.ts");
    return work(traceOptions, (values, at) => trace(at as string, values));
  }),
  diff: command("diff A B", "differences between two streams", async () => {
    const { diff, diffOptions } = await import("./commands/diff-command.ts");
    return work(diffOptions, (values, a, b) => diff(values, a as string, b as string));
  }),
  check: command("check [STREAM]", "whether a stream loads in a QEMU", async () => {
    const { check, checkOptions } = await import("./commands/check-command.ts");
    return work(checkOptions, check);
  }),
  ps: command("ps", "the machines that have a name", async () => {
    const { ps, psOptions } = await import("./commands/ps-command.ts");
    return work(psOptions, ps);
  }),
  exec: command("exec VM -- COMMAND…", "run a command in a machine's guest", async () => {
    const { exec, execOptions } = await import("./commands/guest-commands.ts");
    return work(execOptions, (values, vm, ...words) => exec(vm as string, words, values));
  }),
  ssh: command("ssh VM [-- COMMAND…]", "ssh to a machine's guest, by a forwarded port", async () => {
    const { ssh, sshOptions } = await import("./commands/ssh-command.ts");
    return work(sshOptions, (values, vm, ...words) => ssh(vm as string, words, values));
  }),
  cp: command("cp FROM TO", "copy files: one of the two is VM:PATH", async () => {
    const { copy, copyOptions } = await import("./commands/guest-commands.ts");
    return work(copyOptions, (values, from, to) => copy(from as string, to as string, values));
  }),
  stop: command("stop", "stop a machine's guest", () => simple("stop")),
  cont: command("cont", "resume a stopped guest", () => simple("cont")),
  "guest fetch": command("guest fetch", "get the Debian guest, or a newer one", async () => {
    const { fetchOptions, guestFetch } = await import("./commands/guest-command.ts");
    return work(fetchOptions, guestFetch);
  }),
  ...Object.fromEntries(
    (
      [
        ["create", "FILE [SIZE]", "make a disk image"],
        ["info", "FILE", "format, sizes, backing images and snapshots of a disk image"],
        ["check", "FILE", "check the consistency of a disk image, and repair it"],
        ["convert", "SOURCE TARGET", "copy a disk image to another format"],
        ["commit", "FILE", "write an image's changes into its backing image"],
        ["rebase", "FILE", "change an image's backing image"],
        ["resize", "FILE SIZE", "change a disk's size"],
        ["map", "FILE", "where the disk's data is stored"],
        ["compare", "FILE OTHER", "whether two images have the same contents"],
      ] as const
    ).map(([name, operands, summary]) => {
      const usage = `image ${name} ${operands}`;
      const load = async () => {
        const { imageCommands } = await import("./commands/image-command.ts");
        const { options, run } = imageCommands[name];
        return work(options, run);
      };
      return [`image ${name}`, command(usage, summary, load)];
    }),
  ),
  "guest debian": command("guest debian OUT", "build a Debian root file system in a disk image", async () => {
    const { guestDebian, imageOptions } = await import("./commands/guest-command.ts");
    return work(imageOptions, (values, out) => guestDebian(values, out as string));
  }),
  demo: command("demo", "boot a guest, move it while it works, and let it check itself", async () => {
    const { demo, demoOptions } = await import("./commands/demo-command.ts");
    return work(demoOptions, (values) =>
      demo({ harts: values.smp ?? 4, guest: values.guest, mirror: values.mirror, cache: values.cache }),
    );
  }),
  quit: command("quit", "end a machine", () => simple("quit")),
};

/** A command that is one command of QMP. */
async function simple(name: "stop" | "cont" | "quit"): Promise<Work> {
  const { controlOptions, simple } = await control();
  return work(controlOptions, simple(name));
}

async function runCommand({ usage, load }: Command, args: readonly string[]): Promise<number | void> {
  const { options, run } = await load();
  const parsed = parseCommandLine(options, args);
  const { positionals } = parsed;
  // The words in capitals in the usage are the positionals; one in brackets is optional.
  const wanted = usage.match(/\b[A-Z]+\b/g) ?? [];
  const needed = usage.includes("[") ? wanted.length - 1 : wanted.length;
  const missing = wanted[positionals.length];
  if (missing !== undefined && positionals.length < needed)
    throw new UsageError(`${missing} is missing: wherry ${usage}`);
  // A command's own words may follow.
  const extra = usage.includes("…") ? undefined : positionals[wanted.length];
  if (extra !== undefined) throw new UsageError(`unexpected argument '${extra}'`);
  return await run(parsed);
}

function generalHelp(): string {
  const all = Object.values(commands);
  const width = Math.max(...all.map(({ usage }) => usage.length)) + 2;
  const list = all.map(({ usage, summary }) => `  ${usage.padEnd(width)}${summary}`);
  return `usage: wherry COMMAND [options]

${list.join("\n")}

\`wherry COMMAND --help\` lists a command's options.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the guest failed, 128+n ended by signal n.
`;
}

async function commandHelp(name: string, { usage, summary, load }: Command): Promise<string> {
  const { options } = await load();
  const keys =
    name === "run" || name === "restore"
      ? "\nOn the console: Ctrl-A x ends the machine, Ctrl-A h shows the keys.\n"
      : "";
  return `usage: wherry ${usage} [options]\n\n${summary}\n\n${optionsHelp(options)}\n${keys}`;
}

async function main(args: readonly string[]): Promise<number> {
  // `guest fetch` and `image create` are commands of two words.
  const words =
    (args[0] === "guest" || args[0] === "image") && args[1] !== undefined && !args[1].startsWith("-") ? 2 : 1;
  const name = args.length === 0 ? undefined : args.slice(0, words).join(" ");
  const rest = args.slice(words);
  if (name === undefined || ["--help", "-h", "help"].includes(name)) {
    process.stdout.write(generalHelp());
    return name === undefined ? EXIT.USAGE : EXIT.OK;
  }
  if (name === "--version") {
    process.stdout.write(`wherry ${packageVersion()}\n`);
    return EXIT.OK;
  }
  const found = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (found === undefined) {
    const names = Object.keys(commands);
    const meant = nearest(name, names) ?? names.find((known) => known.startsWith(`${args[0]} `));
    throw new UsageError(`unknown command '${name}'${meant === undefined ? "" : `; did you mean ${meant}?`}`);
  }
  // qemu-img takes a size with a minus for one.
  if (name === "image resize" && /^-[0-9]/.test(rest.at(-1) ?? "") && !rest.includes("--"))
    rest.splice(-1, 0, "--");
  const end = rest.indexOf("--");
  if (rest.slice(0, end < 0 ? undefined : end).some((word) => word === "--help" || word === "-h")) {
    process.stdout.write(await commandHelp(name, found));
    return EXIT.OK;
  }
  requireNode();
  try {
    return (await runCommand(found, rest)) ?? EXIT.OK;
  } catch (error) {
    // There, 2 is an answer of check and compare.
    if (args[0] === "image" && error instanceof UsageError) error.exitCode = name === "image compare" ? 2 : 1;
    throw error;
  }
}

/** Prints one line, never a stack trace unless WHERRY_DEBUG is set. Returns the exit code. */
function report(error: unknown): number {
  // The message may contain text of a stream or a peer.
  const lines = messageOf(error).split("\n").map(printable);
  process.stderr.write(`wherry: ${lines.join("\n")}\n`);
  if (error instanceof UsageError) process.stderr.write("try: wherry --help, or wherry COMMAND --help\n");
  if (process.env["WHERRY_DEBUG"]) console.error(error);
  else if (!(error instanceof WherryError)) {
    process.stderr.write("this is a fault in wherry: run again with WHERRY_DEBUG=1 to see where\n");
  }
  return error instanceof CliError ? error.exitCode : EXIT.FAILURE;
}

/** Runs one command line in this process; resolves with its exit code. */
export async function wherry(args: readonly string[]): Promise<number> {
  watchProcess();
  return await main(args).catch((error: unknown) => {
    const code = report(error);
    // A failed demo leaves machines that would keep this process alive; they end with it.
    if (args[0] === "demo") process.exit(code);
    return code;
  });
}

function watchProcess(): void {
  // A fault outside any command's promise. Listeners of `exit` restore the terminal.
  process.on("uncaughtException", (error) => process.exit(report(error)));
  watchOutput([process.stdout, process.stderr], report, (code) => process.exit(code));
}
