// The cost of first translations: regions of real code are found, translated and compiled as the translation
// thread does it, 24 requests a module. The code is that of the Debian guest's kernel, or of
// a file.
// npm run bench:translate [-- FILE] [--modules 150] [--seed 1] [--text 10] (MiB of the file that are code)
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { buildEngineModule } from "../src/hypervisor/interpreter/engine-module.ts";
import { findRegion, PAGE_SIZE, type Profile, type Region } from "../src/hypervisor/translator/region.ts";
import { RegionModules } from "../src/hypervisor/translator/region-module.ts";
import { configureV8 } from "../src/node/node-runtime.ts";
import { compileModule, exportNames } from "../src/wasm/webassembly.ts";
import { Random } from "../test/support/random.ts";

const { values, positionals } = parseArgs({
  options: {
    modules: { type: "string", default: "150" },
    seed: { type: "string", default: "1" },
    text: { type: "string", default: "10" },
  },
  allowPositionals: true,
});
const file = positionals[0] ?? (await fetchDebianGuest()).kernel;
/** CPU time of this process with V8's threads, which a busy host disturbs less than wall time. */
const cpuMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};
const REQUESTS = 24;
/** Of 10 branch targets, how many have been reached. */
const REACHED = 7;

configureV8();
const code = readFileSync(file).subarray(0, Number(values.text) * 2 ** 20);
const view = new DataView(new SharedArrayBuffer(Math.ceil(code.length / PAGE_SIZE) * PAGE_SIZE));
new Uint8Array(view.buffer).set(code);
const random = new Random(Number(values.seed));

/** Targets of calls, that is, functions: by page. */
const functions = new Map<number, number[]>();
for (let at = 0; at + 4 <= code.length; at += 2) {
  const word = view.getUint32(at, true);
  if ((word & 0xfff) !== 0x0ef && (word & 0xfff) !== 0x06f) continue; // jal ra, or a tail call
  const offset =
    ((word >> 31) << 20) | (word & 0xff000) | (((word >>> 20) & 1) << 11) | (((word >>> 21) & 0x3ff) << 1);
  const target = at + offset;
  if (target < 0 || target >= code.length) continue;
  const page = target - (target % PAGE_SIZE);
  const known = functions.get(page);
  if (known === undefined) functions.set(page, [target]);
  else known.push(target);
}
const pages = [...functions.keys()];
const profile: Profile = {
  isTranslated: () => false,
  isCovered: () => false,
  isReached: (offset) => (offset * 2654435761) % 10 < REACHED,
};

const engine = compileModule(buildEngineModule("translator", true));
const builder = new RegionModules(exportNames(engine), { exact: false, hasTotalStoreOrder: true });
const times = { find: 0, translate: 0, compile: 0 };
let [instructions, bytes, regionCount] = [0, 0, 0];
const kept: unknown[] = [];
const count = Number(values.modules);
for (let n = 0; n < count; n++) {
  if (n === Math.floor(count / 5)) {
    // The first fifth warms V8 up.
    times.find = times.translate = times.compile = 0;
    instructions = bytes = regionCount = 0;
  }
  const start = cpuMs();
  const regions: Region[] = [];
  while (regions.length < REQUESTS) {
    const page = random.pick(pages);
    regions.push(findRegion(view, page, random.pick(functions.get(page) as number[]) % PAGE_SIZE, profile));
  }
  const found = cpuMs();
  const placed = regions.map((region, i) => ({ region, slot: i + 1, table: 0x10000 }));
  const module = builder.build(placed, false);
  const translated = cpuMs();
  kept.push(compileModule(module));
  times.compile += cpuMs() - translated;
  times.translate += translated - found;
  times.find += found - start;
  bytes += module.length;
  regionCount += regions.length;
  for (const { blocks } of regions) for (const block of blocks) instructions += block.instructions.length;
}
const each = (ms: number): string => `${((ms * 1000) / instructions).toFixed(2)} µs`;
console.log(
  `${regionCount} regions, ${instructions} instructions, ${(instructions / regionCount).toFixed(0)} a region; ` +
    `for each instruction: ${(bytes / instructions).toFixed(1)} bytes, find ${each(times.find)}, ` +
    `translate ${each(times.translate)}, compile ${each(times.compile)}`,
);
