// `npm run check:boot`: Debian boots to its shell on several harts with both firmwares; harts go offline and
// come back; saved and restored without its kernel, the guest reboots into its shell again, and powers off
// with exit code 0.
//   --full for 1, 2, 4 and 8 harts with both; --harts H for H harts; --firmware builtin|opensbi for one
import { rmSync } from "node:fs";
import { join } from "node:path";
import { Cases, directory, options } from "../support/cases.ts";
import { BOOT_MS, bootDebian, debianHardware, type Firmware, prompt, shell } from "../support/debian.ts";
import { killAll, Machine } from "../support/machine.ts";

const given = options({ full: false, harts: 0, firmware: "" });
const firmwares = (["builtin", "opensbi"] as const).filter((name) => name.startsWith(given.firmware));
const withHarts = (...counts: number[]): readonly [number, Firmware][] =>
  counts.flatMap((harts) => firmwares.map((firmware): [number, Firmware] => [harts, firmware]));
const few: readonly [number, Firmware][] = [
  [4, "builtin"],
  [2, "opensbi"],
];
const wanted = given.harts > 0 ? withHarts(given.harts) : given.full ? withHarts(1, 2, 4, 8) : few;

const CPU = "/sys/devices/system/cpu";

async function boots(machine: Machine, harts: number): Promise<string> {
  await prompt(machine.console);
  const answer = await shell(machine.console, "echo $((6*7)) $(nproc)");
  if (answer !== `42 ${harts}`) throw new Error(`echo says ${JSON.stringify(answer)}`);
  const time = await shell(machine.console, "cut -d' ' -f1 /proc/uptime");
  return `the shell answers; ${time} s of guest time`;
}

/** Takes every hart except the first offline and online again; each must then run a command. */
async function hotplug({ console }: Machine, harts: number): Promise<string> {
  for (let hart = 1; hart < harts; hart++) {
    await shell(console, `echo 0 > ${CPU}/cpu${hart}/online`);
    const without = await shell(console, "nproc");
    if (without !== String(harts - 1)) throw new Error(`${without} harts with hart ${hart} offline`);
    await shell(console, `echo 1 > ${CPU}/cpu${hart}/online`);
    const pinned = await shell(console, `taskset -c ${hart} sh -c 'echo $((7*${hart}))'`);
    if (pinned !== String(7 * hart)) throw new Error(`hart ${hart} says ${pinned}`);
  }
  return `${harts - 1} harts went and came back`;
}

/** The machine in a new process, which is not told of the kernel. */
async function restored(machine: Machine, harts: number, firmware: Firmware): Promise<Machine> {
  const file = join(directory, "saved");
  await machine.qmp.execute("x-wherry-save", { file });
  await machine.kill();
  try {
    return await Machine.start(["restore", file, ...debianHardware(harts, firmware)]);
  } finally {
    rmSync(file);
  }
}

async function reboots({ console }: Machine): Promise<string> {
  const from = console.text.length;
  console.type("reboot -f\n");
  // The previous prompt may not have arrived yet.
  const { index } = await console.see(/Linux version/, BOOT_MS, from);
  await prompt(console, from + index);
  return "back in the shell";
}

async function powersOff(machine: Machine): Promise<string> {
  machine.console.type("poweroff -f\n");
  const { code, signal } = await machine.ends(60_000);
  if (code !== 0) throw new Error(`ended with ${code ?? signal}: ${machine.complaints}`);
  return "exit code 0";
}

const total = wanted.reduce((sum, [harts]) => sum + (harts === 1 ? 4 : 5), 0);
const cases = new Cases(`boots of Debian: ${wanted.length} machines`, total);
for (const [harts, firmware] of wanted) {
  const name = `${harts} ${harts === 1 ? "hart" : "harts"}, ${firmware}`;
  let machine: Machine | undefined;
  const step = async (what: string, work: (machine: Machine) => Promise<string>): Promise<boolean> =>
    cases.run(`${name}: ${what}`, 2 * BOOT_MS, async () => {
      machine ??= await bootDebian(harts, firmware);
      return work(machine);
    });
  if (
    !(await step("boot", (m) => boots(m, harts))) ||
    (harts > 1 && !(await step("hotplug", (m) => hotplug(m, harts)))) ||
    !(await step("restore", async (m) => {
      machine = await restored(m, harts, firmware);
      return `${await shell(machine.console, "nproc")} harts`;
    })) ||
    !(await step("reboot", reboots)) ||
    !(await step("poweroff", powersOff))
  )
    killAll();
}
cases.end();
