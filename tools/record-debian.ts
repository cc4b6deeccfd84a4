// Records `wherry run debian` as docs/debian.svg: a shell on a terminal of its own (script(1)), in which
// SCENE is typed. `npx node tools/record-debian.ts`. Shows real output; long pauses are shortened. The
// machine `demo` is made for it in a cache that has the packages already, and removed.
import { spawn } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { defaultCache } from "../src/guest/debian-image.ts";
import { type OutputEvent, terminalSvg } from "./terminal-svg.ts";

const ROOT = join(import.meta.dirname, "..");
const COLUMNS = 120;
const KEY_MS = 40;
const LIMIT_MS = 15 * 60_000;
const HOST = "$ ";
const GUEST = "root@demo:~# ";
const RUN = "bin/wherry run debian --name demo --net user --share path=tmp/shared,tag=work";

/** Some seconds instead of a prompt. */
const AGAIN = 8;

/** What is typed, and the prompt that it is typed at. */
const SCENE: readonly (readonly [prompt: string | number, keys: string])[] = [
  [HOST, `${RUN}\r`],
  [GUEST, "uname -a\r"],
  [GUEST, "apt-get -qq update && apt-get -qq install lua5.4 >/dev/null 2>&1\r"],
  [GUEST, "mount -t 9p -o trans=virtio,version=9p2000.L work /mnt && cat /mnt/hello.lua\r"],
  [GUEST, "lua /mnt/hello.lua | tee /mnt/answer.txt\r"],
  [GUEST, "\x01x"],
  [HOST, "cat tmp/shared/answer.txt\r"],
  [HOST, `${RUN}\r`],
  // The machine goes on at its prompt, and says nothing.
  ["tag=work", ""],
  [AGAIN, "\r"],
  [GUEST, "uptime\r"],
  [GUEST, "\x01x"],
];

const shared = join(ROOT, "tmp/shared");
mkdirSync(shared, { recursive: true });
writeFileSync(join(shared, "hello.lua"), 'print("hello from " .. io.popen("hostname"):read())\n');
const child = spawn(
  "script",
  ["-qec", `stty cols ${COLUMNS} rows 40; exec env 'PS1=${HOST}' bash --norc --noprofile`, "/dev/null"],
  {
    cwd: ROOT,
    env: { ...process.env, TERM: "dumb", DEBIAN_FRONTEND: "noninteractive" },
    stdio: ["pipe", "pipe", "inherit"],
  },
);
const deadline = setTimeout(() => child.kill(), LIMIT_MS);
const events: OutputEvent[] = [];
const began = performance.now();
let output = "";
child.stdout.setEncoding("utf8").on("data", (text: string) => {
  events.push({ atSeconds: (performance.now() - began) / 1000, text });
  output += text;
  process.stderr.write(text);
});
for (const [prompt, keys] of [...SCENE, [HOST, ""] as const]) {
  if (typeof prompt === "number") await sleep(1000 * prompt);
  else while (child.exitCode === null && !output.includes(prompt)) await sleep(50);
  output = "";
  for (const key of keys) {
    await sleep(KEY_MS);
    child.stdin.write(key);
  }
}
clearTimeout(deadline);
child.kill();
for (const end of ["img", "state"]) rmSync(join(defaultCache(), `machines/demo.${end}`), { force: true });
writeFileSync(join(ROOT, "docs/debian.svg"), terminalSvg(events, COLUMNS, "bin/wherry run debian"));
