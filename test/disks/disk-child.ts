// A process that writes to disk images and says how far it is, to be killed: node disk-child.ts SPECS, where
// SPECS is JSON of [{path, seed, …}] as check-qcow2.ts makes it. Lines on stdout: `b IMAGE STEP` and
// `e IMAGE STEP`.
import { writeSync } from "node:fs";
import { openFileBlock } from "../../src/node/file-block.ts";
import { Random } from "../support/random.ts";
import { play, sequence } from "./sequence.ts";

export interface ChildSpec {
  readonly path: string;
  readonly seed: number;
  readonly sectors: number;
  readonly clusterSectors: number;
  readonly steps: number;
  readonly resizes: boolean;
}

const specs = JSON.parse(process.argv[2] ?? "") as readonly ChildSpec[];
await Promise.all(
  specs.map(async ({ path, seed, ...options }, image) => {
    const { steps } = sequence(new Random(seed), options);
    const block = await openFileBlock({ path, format: "qcow2", locking: false });
    await block.activate();
    const say = (word: string) => (step: number) => void writeSync(1, `${word} ${image} ${step}\n`);
    await play(block, steps, say("b"), say("e"));
    await block.close();
  }),
);
writeSync(1, "done\n");
