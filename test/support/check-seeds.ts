// `npm run check:seeds`: the test files with random cases, with a fresh seed. The seed chooses a third of the
// files, so that a run is short and a few runs cover all of them.
//   --seed S, --all
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import { Random } from "./random.ts";

const { values } = parseArgs({ options: { seed: { type: "string" }, all: { type: "boolean" } } });
const seed = Number(values.seed ?? Date.now() % 2 ** 31);
if (!Number.isSafeInteger(seed)) throw new Error(`--seed ${values.seed}: expected a number`);
const { stdout } = spawnSync("git", ["grep", "-l", "support/seed.ts", "--", "*.test.ts"], {
  encoding: "utf8",
});
const files = stdout.trim().split("\n");
const first = new Random(seed).int(3);
const chosen = values.all === true ? files : files.filter((_, i) => i % 3 === first);
if (chosen.length === 0) throw new Error("git grep found no test file with random cases");
console.log(`seed ${seed}, ${chosen.length} of ${files.length} files`);
const env = { ...process.env, WHERRY_SEED: String(seed) };
const { status } = spawnSync("vitest", ["run", ...chosen], { stdio: "inherit", env });
process.exitCode = status ?? 1;
