// Makes dist/bundle of the modules in `dist`, which `tsc -b` has written: the command line and the workers in
// a file each, and the engine (src/node/bundle.ts tells when they run). Part of `npm install` and
// `npm run build`.
import { mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { rolldown } from "rolldown";
import type { buildEngine as BuildEngine } from "../src/hypervisor/interpreter/engine-module.ts";
import { engineFiles } from "../src/node/built-engine.ts";
import { BUNDLE_INPUTS, type BundleInputs } from "../src/node/bundle.ts";

const DIST = join(import.meta.dirname, "../dist");
const BUNDLE = join(DIST, "bundle");
/** Complete or not there: an interrupted build leaves no half of a bundle. */
const next = join(DIST, `bundle.${process.pid}`);

const ENTRIES = {
  wherry: "cli/wherry.js",
  "node-vcpu-worker": "node/node-vcpu-worker.js",
  "node-translator-worker": "node/node-translator-worker.js",
};

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

const modules = new Set<string>();
rmSync(next, { recursive: true, force: true });
mkdirSync(next);
for (const [name, module] of Object.entries(ENTRIES)) {
  const bundle = await rolldown({
    input: { [name]: join(DIST, module) },
    platform: "node",
    // The optional packages of `wherry guest fetch`.
    external: (id) => !/^[./]/.test(id),
  });
  const { output } = await bundle.write({
    dir: next,
    format: "esm",
    entryFileNames: "[name].js",
    chunkFileNames: `${name}-[name]-[hash].js`,
    // A worker is one file. Of the command line, a command loads its own part; that of a machine is one file
    // beside what all commands share.
    codeSplitting: name === "wherry" && {
      groups: [
        { name: "shared", test: /\/cli\/wherry\.js$/, priority: 2 },
        {
          name: "machine",
          test: /\/cli\/(commands\/run-command|options\/machine-options)\.js$/,
          priority: 1,
        },
      ],
    },
  });
  for (const chunk of output) {
    if (chunk.type === "chunk") for (const id of chunk.moduleIds) modules.add(relative(DIST, id));
  }
  await bundle.close();
}

const engine = "hypervisor/interpreter/engine-module.js";
const { buildEngine } = (await import(join(DIST, engine))) as { buildEngine: typeof BuildEngine };
for (const kind of ["translator", "interpreter"] as const) {
  for (const hasTotalStoreOrder of [false, true]) {
    const files = engineFiles(kind, hasTotalStoreOrder);
    const parts = buildEngine(kind, hasTotalStoreOrder);
    writeFileSync(join(next, files.module), parts.module);
    writeFileSync(join(next, files.tables), parts.tables);
  }
}

const inputs: BundleInputs = Object.fromEntries(
  [...modules, engine]
    .filter((path) => !path.startsWith(".") && !path.includes("\0"))
    .map((path) => {
      const { size, mtimeMs } = statSync(join(DIST, path));
      return [path, [size, mtimeMs]];
    }),
);
writeFileSync(join(next, BUNDLE_INPUTS), JSON.stringify(inputs));
for (let tries = 0; ; tries++) {
  rmSync(BUNDLE, { recursive: true, force: true });
  try {
    renameSync(next, BUNDLE);
    break;
  } catch (error) {
    // Another build was faster.
    if (tries === 9) throw error;
  }
}
// What builds have left that were interrupted, not what others that run have begun.
for (const name of readdirSync(DIST)) {
  const pid = /^bundle\.(\d+)$/.exec(name)?.[1];
  if (pid !== undefined && !isRunning(Number(pid)))
    rmSync(join(DIST, name), { recursive: true, force: true });
}
