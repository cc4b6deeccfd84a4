// Records `wherry demo` as docs/demo.svg: runs it on a terminal of its own (script(1)), types some commands
// at the moved guest's shell, and renders the output. `npx node tools/record-demo.ts [--cast FILE] [--replay
// FILE]`: `--cast` keeps the recording (asciicast v2), `--replay` renders an existing one. Shows real output;
// long pauses are shortened.
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type OutputEvent, terminalSvg } from "./terminal-svg.ts";

const ROOT = join(import.meta.dirname, "..");
const COLUMNS = 120;
const COMMANDS = ["uname -a", "nproc", "cat /proc/uptime"];
// The shell queries the cursor position after its prompt.
// oxlint-disable-next-line no-control-regex -- so an escape sequence may follow
const PROMPT = /wherry:\S*# (?:\x1b\[6n)?$/;
const LIMIT_MS = 15 * 60_000;
const KEY_MS = 60;

const { values } = parseArgs({ options: { cast: { type: "string" }, replay: { type: "string" } } });
const events = values.replay === undefined ? await record() : readCast(values.replay);
if (values.cast !== undefined) writeFileSync(values.cast, castText(events));
writeFileSync(join(ROOT, "docs/demo.svg"), terminalSvg(events, COLUMNS, "npm start"));

async function record(): Promise<OutputEvent[]> {
  const command = `stty cols ${COLUMNS} rows 40; exec bin/wherry demo`;
  const child = spawn("script", ["-qec", command, "/dev/null"], {
    cwd: ROOT,
    env: { ...process.env, TERM: "xterm" },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const seen: OutputEvent[] = [];
  const start = performance.now();
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    seen.push({ atSeconds: (performance.now() - start) / 1000, text });
    output += text;
    process.stderr.write(text);
  });
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  const deadline = setTimeout(() => child.kill(), LIMIT_MS);
  const prompt = async (): Promise<void> => {
    while (child.exitCode === null && !PROMPT.test(output)) await sleep(50);
  };
  while (child.exitCode === null && !output.includes("This is the moved guest's console.")) await sleep(50);
  for (const line of COMMANDS) {
    await prompt();
    output = "";
    for (const key of `${line}\r`) {
      await sleep(KEY_MS);
      child.stdin.write(key);
    }
    await sleep(10 * KEY_MS);
  }
  await prompt();
  const shown = seen.length;
  child.stdin.write("\x01x");
  const code = await ended;
  clearTimeout(deadline);
  child.stdin.end();
  if (code !== 0) throw new Error(`wherry demo ended with ${code ?? "a signal"}`);
  return seen.slice(0, shown);
}

function castText(recorded: readonly OutputEvent[]): string {
  const rows = [
    { version: 2, width: COLUMNS, height: 40 },
    ...recorded.map((e) => [e.atSeconds, "o", e.text]),
  ];
  return `${rows.map((row) => JSON.stringify(row)).join("\n")}\n`;
}

function readCast(path: string): OutputEvent[] {
  const rows = readFileSync(path, "utf8").trim().split("\n").slice(1);
  return rows.map((row) => {
    const [atSeconds, , text] = JSON.parse(row) as [number, string, string];
    return { atSeconds, text };
  });
}
