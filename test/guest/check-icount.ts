// `npm run check:icount`: Debian boots and powers off under --icount with each firmware, with both engines:
// all runs print the same bytes and end with the same memory. This also compares the engines over a whole
// boot.
//   --runs N for more than one of each; --firmware builtin|opensbi for one
import { readFile } from "node:fs/promises";
import { gunzipSync } from "node:zlib";
import type { MachineConfig } from "../../src/embed/create-machine.ts";
import { ENGINE_KINDS } from "../../src/hypervisor/shared/engine-kind.ts";
import { type Run, runToEnd } from "../support/repeatable-run.ts";
import { Cases, options } from "../support/cases.ts";
import { debian, type Firmware } from "../support/debian.ts";

const RUN_MS = 600_000;
const given = options({ runs: 1, firmware: "" });
const firmwares = (["builtin", "opensbi"] satisfies Firmware[]).filter((f) => f.startsWith(given.firmware));
const cases = new Cases(`Debian boots under --icount`, firmwares.length);
const kernelFile = await readFile(debian.kernel);
const kernel = kernelFile[0] === 0x1f ? gunzipSync(kernelFile) : kernelFile;
const initrd = await readFile(debian.initrd);

/** The position where two texts differ. */
function firstDifference(a: string, b: string): string {
  let at = 0;
  while (at < a.length && a[at] === b[at]) at++;
  const line = (text: string): string => JSON.stringify(text.slice(text.lastIndexOf("\n", at) + 1, at + 80));
  return `the consoles part at byte ${at}: ${line(a)} and ${line(b)}`;
}

async function repeats(config: MachineConfig): Promise<string> {
  let first: Run | undefined;
  const times: number[] = [];
  for (const engine of Array.from({ length: given.runs }, () => ENGINE_KINDS).flat()) {
    const started = performance.now();
    const run = await runToEnd({ ...config, engine });
    times.push((performance.now() - started) / 1000);
    if (run.end.kind !== "shutdown") throw new Error(`${run.end.kind}: ${run.end.message}`);
    if (!run.console.includes("Run /init as init process")) throw new Error("no boot on the console");
    first ??= run;
    if (run.console !== first.console)
      throw new Error(`${engine}: ${firstDifference(first.console, run.console)}`);
    if (run.memory !== first.memory) throw new Error(`${engine}: the memories differ`);
  }
  const seconds = times.map((s) => s.toFixed(1)).join(", ");
  return `${first?.console.length} bytes of console, memory ${first?.memory.toString(16)}; runs of ${seconds} s`;
}

for (const firmware of firmwares) {
  await cases.run(`Debian, ${firmware}`, RUN_MS, async () =>
    repeats({
      harts: 1,
      memoryBytes: 256 << 20,
      kernel,
      initrd,
      append: "console=ttyS0 panic=-1 wherry.workload=poweroff%20-f",
      firmware: firmware === "builtin" ? undefined : await readFile(debian.opensbi),
      icount: { shift: 3, sleep: false },
    }),
  );
}
cases.end();
