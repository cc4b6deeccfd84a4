// A worker thread of a machine, and the cause of its death: each of the ways in which a worker can end
// without having been told to becomes one error that says what to do.
import { type ResourceLimits, Worker } from "node:worker_threads";
import { messageOf, WherryError } from "../base/errors.ts";
import { bundled } from "./bundle.ts";
import type { ThreadHandle } from "../hypervisor/vm/vm.ts";

const BUNDLED =
  "if wherry was bundled, leave it out of the bundle: mark it as external (docs/embedding.md, Bundlers)";

/** `base` is the URL of the module beside which the script is. Throws WherryError. */
export function spawnThread(
  script: string,
  base: string | undefined,
  workerData: unknown,
  name: string,
  resourceLimits: ResourceLimits = {},
): ThreadHandle {
  let url: URL;
  let worker: Worker;
  try {
    // `.ts` when run from source, `.js` when compiled.
    const suffix = base?.endsWith(".ts") === true ? ".ts" : ".js";
    url = bundled(`${script}${suffix}`) ?? new URL(`./${script}${suffix}`, base);
    worker = new Worker(url, { workerData, name, resourceLimits });
  } catch (cause) {
    throw new WherryError(
      "host.thread",
      `thread ${name} cannot be started: ${messageOf(cause)}; ${BUNDLED}`,
      {
        cause,
      },
    );
  }
  let fault: Error | undefined;
  return {
    onSignal: (listener) => worker.on("message", listener),
    onFault(listener) {
      const fail = (error: Error): void => {
        if (fault !== undefined) return;
        fault = error;
        listener(error);
      };
      worker.on("error", (error) => fail(threadError(error, url, name)));
      worker.on("exit", (code) =>
        fail(
          new WherryError(
            "host.thread",
            `its thread (${name}) ended with exit code ${code} and no error: something in it called process.exit, ` +
              "such as a module of --import or --require in NODE_OPTIONS",
          ),
        ),
      );
    },
    terminate: async () => {
      await worker.terminate();
    },
  };
}

function threadError(error: unknown, url: URL, name: string): WherryError {
  const { code } = error as NodeJS.ErrnoException;
  let why = `its thread (${name}) failed: ${messageOf(error)}`;
  if (code === "MODULE_NOT_FOUND" || code === "ERR_MODULE_NOT_FOUND")
    why = `its thread (${name}) found no ${url.href}: ${BUNDLED}`;
  else if (code === "ERR_WORKER_OUT_OF_MEMORY")
    why = `its thread (${name}) had too little memory: give node more, such as --max-old-space-size=4096`;
  return new WherryError("host.thread", why, { cause: error });
}
