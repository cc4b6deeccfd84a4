// A process that writes to a disk image and says how far it is, to be killed: node disk-child.ts SPEC, where
// SPEC is JSON of {path, seed, …} as check-qcow2.ts makes it. Lines on stdout: `b N`, `e N`.
import { writeSync } from "node:fs";
import { openFileBlock } from "../../src/node/file-block.ts";
import { Random } from "../support/random.ts";
import { play, sequence } from "./sequence.ts";

const { path, seed, ...options } = JSON.parse(process.argv[2] ?? "") as {
  path: string;
  seed: number;
  sectors: number;
  clusterSectors: number;
  steps: number;
  resizes: boolean;
};
const { steps } = sequence(new Random(seed), options);
const block = await openFileBlock({ path, format: "qcow2", locking: false });
await block.activate();
const say = (word: string) => (step: number) => void writeSync(1, `${word} ${step}\n`);
await play(block, steps, say("b"), say("e"));
await block.close();
writeSync(1, "done\n");
