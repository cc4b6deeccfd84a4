// `npm run check:move`: pulse moves back and forth between processes under load, with its disk on shared
// storage, over tcp and unix in turn; its own check at the end is the judge (no count, IPI, tick, page or
// block lost or doubled).
//   --count N moves, --harts H, --memory SIZE, --seed S, --options TEXT for pulse's command line
import { setTimeout as sleep } from "node:timers/promises";
import { join } from "node:path";
import { Random } from "../support/random.ts";
import { Cases, directory, options } from "../support/cases.ts";
import { Machine } from "../support/machine.ts";
import { finishedMove, type MoveReport, moveLine } from "./move.ts";
import { checkProgress, emptyDisk, nextReports, proof, pulseKernel, reports } from "./pulse.ts";

const given = options({ count: 8, harts: 4, memory: "64M", options: "pulse.mem=2" });
const random = new Random(given.seed);
const cases = new Cases(
  `moves of pulse: ${given.count} on ${given.harts} harts, seed ${given.seed}`,
  given.count + 1,
);

const disk = emptyDisk("disk");
const hardware = ["--smp", String(given.harts), "--memory", given.memory, "--drive", `file=${disk}`, "--rng"];
const kernel = ["--kernel", await pulseKernel(), "--append", given.options];
let machine = await Machine.start(["run", ...hardware, ...kernel], { fromFirstByte: true });
await nextReports(machine.console, 2);
const downtimes: number[] = [];

async function move(number: number): Promise<string> {
  const source = machine;
  const address = number % 2 === 0 ? "tcp:127.0.0.1:0" : `unix:${join(directory, `move-${number}`)}`;
  const destination = await Machine.start(["run", ...hardware, "--incoming", address]);
  let moved: MoveReport;
  try {
    await sleep(random.int(500));
    moved = await finishedMove(source, destination);
  } catch (error) {
    await destination.kill();
    throw error;
  }
  machine = destination;
  // Console and QMP are separate sockets: when this reply arrives, all output from before the stop has.
  if ((await source.status()) !== "postmigrate") throw new Error(`the source is ${await source.status()}`);
  const silentFrom = source.console.text.length;
  const [after] = await nextReports(destination.console);
  const before = reports(source.console.text).at(-1);
  if (before && after) checkProgress(before, after);
  const refused = await source.qmp.execute("cont").then(
    () => false,
    () => true,
  );
  if (!refused) throw new Error("the source may be started again");
  if (source.console.text.length !== silentFrom) throw new Error("the source printed after the move");
  await source.quit();
  downtimes.push(moved.downtime);
  return `${address.slice(0, 4).replace(":", "")}, ${moveLine(moved)}, gap ${(after?.gapUs ?? 0) / 1000} ms`;
}

for (let i = 0; i < given.count; i++) {
  if (!(await cases.run(`move ${i + 1}`, 180_000, () => move(i)))) break;
}
if (cases.failed === 0) {
  downtimes.sort((a, b) => a - b);
  console.log(`downtime: median ${downtimes[downtimes.length >> 1]} ms, longest ${downtimes.at(-1)} ms`);
}
await cases.run("pulse's proof", 180_000, () => proof(machine));
cases.end();
