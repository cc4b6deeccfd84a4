// `npm run check:save`: a booting Debian is saved at random moments, before and while its harts go offline
// and online in a loop; each file is restored and must reach the same end: same checksum over the loop, all
// harts online, power off, exit code 0. The MP states of the harts in the files are counted.
//   --count N files, --harts H, --turns N of the loop, --firmware builtin|opensbi (default: both), --seed S
import { setTimeout as sleep } from "node:timers/promises";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { messageOf } from "../../src/base/errors.ts";
import { cpio } from "../../src/guest/cpio.ts";
import { withoutKernelLog } from "../../src/guest/kernel-log.ts";
import { Random } from "../support/random.ts";
import { Cases, directory, options } from "../support/cases.ts";
import { until, within } from "../support/wait.ts";
import { BOOT_MS, bootDebian, DEAD, debian, debianHardware, type Firmware } from "../support/debian.ts";
import { killAll, Machine } from "../support/machine.ts";

const given = options({ count: 6, harts: 4, turns: 2, firmware: "" });
const random = new Random(given.seed);
/** Two machines on two cores. */
const AT_ONCE = 2;
const SAVES_A_BOOT = 20;
const END = /check: end sum=\w+ online=[\d,-]+(?=\r?\n)/;
const FAIL = /check: FAIL[^\n]*\n/;
/** KVM's values. */
const MP_STATES: Readonly<Record<string, string>> = {
  "0x0": "runnable",
  "0x2": "starting",
  "0x5": "stopped",
  "0xa": "suspended",
};

// The guest repeats its last line until it is answered: if a save cuts one line, the next is complete.
const SCRIPT = `#!/bin/sh
cd /sys/devices/system/cpu
sum=start turn=0
while [ $turn -lt ${given.turns} ]; do
  for cpu in cpu[1-9]*; do
    for online in 0 1; do
      echo $online > $cpu/online && sleep 0.1 || echo "check: FAIL $cpu/online does not take $online"
      [ "$(cat $cpu/online)" = $online ] || echo "check: FAIL $cpu/online is not $online"
      sum=$(echo "$sum $turn $cpu $online" | md5sum | cut -d' ' -f1)
    done
  done
  turn=$((turn + 1))
done
until [ -f /run/seen ]; do
  echo "check: end sum=$sum online=$(cat online)"
  sleep 1
done
poweroff -f
`;

/** Debian's initramfs with an archive appended that has our script; Linux unpacks both. */
function initrd(): string {
  const path = join(directory, "initrd");
  const first = readFileSync(debian.initrd);
  const padding = Buffer.alloc(-first.length & 511);
  const script = { name: "check", type: "file", bytes: Buffer.from(SCRIPT), executable: true } as const;
  writeFileSync(path, Buffer.concat([first, padding, cpio([script])]));
  return path;
}

interface Saved {
  readonly path: string;
  readonly firmware: Firmware;
  readonly afterMs: number;
}

/** The last line that every run must print. */
let end: string | undefined;

/** Waits for the guest's last line, answers it, and waits until the process ends. */
async function toTheEnd(machine: Machine, onAnswer = (): void => {}): Promise<string> {
  const line = await until(BOOT_MS, "the guest's last line", () => {
    const { text } = machine.console;
    const words = withoutKernelLog(text);
    const bad = DEAD.exec(text) ?? FAIL.exec(words);
    if (bad) throw new Error(bad[0].trim());
    const [found] = END.exec(words) ?? [];
    if (found === undefined && machine.ended)
      throw new Error(`it ended without its last line: ${machine.complaints}${text.slice(-300)}`);
    return found;
  });
  onAnswer();
  machine.console.type("touch /run/seen\n");
  const { code, signal } = await machine.ends(60_000);
  if (code !== 0) throw new Error(`ended with ${code ?? signal}: ${machine.complaints}`);
  end ??= line;
  if (line !== end) throw new Error(`expected ${end}, found ${line}`);
  return line;
}

/** Duration of a boot from its start to its end, without the saves; updated by measurement. */
const spanMs: Record<Firmware, number> = { builtin: 20_000, opensbi: 25_000 };
let files = 0;

/** Boots and saves at up to `count` random moments; a boot may end before the last of them. */
async function bootAndSave(firmware: Firmware, count: number, saved: Saved[]): Promise<string> {
  const machine = await bootDebian(given.harts, firmware, {
    append: "wherry.workload=/check",
    initrd: initrd(),
  });
  const moments = Array.from({ length: count }, () => random.int(Math.round(spanMs[firmware])));
  const began = performance.now();
  let savingMs = 0;
  // A machine saved after the answer does not repeat its last line, and a later save may fail because the
  // machine is off.
  let over = false;
  const finished = toTheEnd(machine, () => (over = true)).finally(() => (over = true));
  finished.catch(() => {});
  let done = 0;
  for (const afterMs of moments.sort((a, b) => a - b)) {
    while (!over && performance.now() - began - savingMs < afterMs) await sleep(5);
    if (over) break;
    const path = join(directory, `saved-${files++}`);
    const at = performance.now();
    const failure = await machine.qmp.execute("x-wherry-save", { file: path }).then(
      () => undefined,
      (error: unknown) => error as Error,
    );
    if (over || failure !== undefined) rmSync(path, { force: true });
    if (over) break;
    if (failure !== undefined) throw failure;
    savingMs += performance.now() - at;
    saved.push({ path, firmware, afterMs: Math.round(afterMs) });
    done++;
  }
  const line = await finished;
  spanMs[firmware] = performance.now() - began - savingMs;
  return `${done} files in ${Math.round(spanMs[firmware])} ms: ${line}`;
}

const met = new Map<string, number>();

async function restore({ path, firmware }: Saved): Promise<string> {
  const machine = await Machine.start(["restore", path, ...debianHardware(given.harts, firmware)], {
    fromFirstByte: true,
    beforeStart: async (qmp) => {
      for (let cpu = 0; cpu < given.harts; cpu++) {
        const { mpState = "?" } = await qmp.execute<Record<string, string>>("x-wherry-registers", { cpu });
        const name = `${firmware} ${MP_STATES[mpState] ?? mpState}`;
        met.set(name, (met.get(name) ?? 0) + 1);
      }
    },
  });
  try {
    const line = await toTheEnd(machine);
    rmSync(path);
    return line;
  } catch (error) {
    const kept = join(tmpdir(), `wherry-failed-${process.pid}-${basename(path)}`);
    renameSync(path, kept);
    const doing = await within(10_000, "looking", machine.doing()).catch(messageOf);
    throw new Error(`${messageOf(error)}; ${doing}; the file is kept: ${kept}`, { cause: error });
  } finally {
    await machine.kill();
  }
}

const firmwares = (["builtin", "opensbi"] as const).filter((each) => each.startsWith(given.firmware));
const cases = new Cases(
  `saves of a booting Debian on ${given.harts} harts: ${given.count}, seed ${given.seed}`,
  given.count,
);
const left = new Map(firmwares.map((each, i) => [each, Math.floor((given.count + i) / firmwares.length)]));
while ([...left.values()].some((count) => count > 0)) {
  const saved: Saved[] = [];
  const boots = [...left].filter(([, count]) => count > 0);
  const outcomes = await Promise.allSettled(
    boots.map(([firmware, count]) => bootAndSave(firmware, Math.min(count, SAVES_A_BOOT), saved)),
  );
  for (const [i, outcome] of outcomes.entries()) {
    const [firmware, count] = boots[i] as [Firmware, number];
    if (outcome.status === "rejected") {
      await cases.run(`boot, ${firmware}`, 1000, () => Promise.reject(outcome.reason as Error));
      left.delete(firmware);
      continue;
    }
    console.log(`boot, ${firmware}: ${outcome.value}`);
    left.set(firmware, count - saved.filter((each) => each.firmware === firmware).length);
  }
  const next = saved.values();
  const work = async (): Promise<void> => {
    for (const each of next) {
      await cases.run(`saved after ${each.afterMs} ms, ${each.firmware}`, 2 * BOOT_MS, () => restore(each));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}
killAll();
console.log(`MP states met: ${[...met].map(([name, count]) => `${name} ${count}`).join(", ")}`);
cases.end();
