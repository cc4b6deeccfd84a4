// Saves a fake machine into a directory that is too small for it, over an older file, and prints the result.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { openFileSink } from "../../src/node/channels/node-channels.ts";
import { FakeMachine } from "../support/fake-machine.ts";

const directory = process.argv[2] ?? "";
const path = join(directory, "a.wherry");
writeFileSync(path, "the one before");
const machine = new FakeMachine({ ramPages: 1000, fill: 1 });
await machine.start();
let error = "none";
await saveSnapshot(machine, () => openFileSink(path)).catch((e: Error) => {
  error = e.message;
});
const runState = machine.runState.current;
machine.halt();
console.log(
  JSON.stringify({ error, runState, files: readdirSync(directory), old: readFileSync(path, "utf8") }),
);
