// The tests by what they need (docs/checks.md): `unit` one process, each file in seconds; `process` other
// processes, whole machines, or load for many seconds; `oracle` a QEMU that judges; `browser` a Chromium.
import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

// Random cases come from one seed, so that each run does the same. `fresh` takes one from the clock.
const given = process.env["WHERRY_SEED"] ?? "20260101";
const seed = given === "fresh" ? String(Date.now() % 2 ** 31) : given;
if (!/^\d+$/.test(seed)) throw new Error(`WHERRY_SEED=${seed}: expected a number or fresh`);
if (process.env["WHERRY_SEED"] !== seed) process.stdout.write(`WHERRY_SEED=${seed}\n`);
process.env["WHERRY_SEED"] = seed;

const oracle = [
  "test/oracle/**/*.test.ts",
  "test/oracle-board/**/*.test.ts",
  "test/cli/qemu-qmp.test.ts",
  "test/contract/qemu-stream.test.ts",
  "test/migration/qemu-{kill,move-ram,peer-hangs,ram,real}.test.ts",
];
const browser = ["test/browser/**/*.test.ts"];
const separate = [
  "guests/**/*.test.ts",
  "src/guest/debian-guest.test.ts",
  "src/node/index.test.ts",
  "src/**/{isa-integer,softfloat-fast,softfloat-slow,translations,translator-streams,translator-loops}.test.ts",
  "test/{boot,cli,embedding,examples,gates,package,stress,vcpu}/**/*.test.ts",
  "tools/{gates,layers,serve-browser}.test.ts",
  "test/contract/virtio.test.ts",
  "test/migration/{channels,clones,corruption,half-open-process,handover,qemu-last-word,qemu-protocol,restored-clock}.test.ts",
  "test/streams/scale.test.ts",
];
const all = ["{src,test,tools,guests,bench}/**/*.test.ts"];

export default defineConfig({
  test: {
    env: { WHERRY_SEED: seed },
    // Only for what hangs: tests with a dozen processes took a minute where other work left them a twentieth
    // of a core.
    testTimeout: 120_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 60_000 } },
    maxWorkers: availableParallelism(),
    projects: [
      {
        extends: true,
        test: { name: "unit", include: all, exclude: [...oracle, ...browser, ...separate] },
      },
      { extends: true, test: { name: "process", include: separate, exclude: oracle } },
      { extends: true, test: { name: "oracle", include: oracle } },
      { extends: true, test: { name: "browser", include: browser } },
    ],
  },
});
