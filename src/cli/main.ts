// The entry of the command line: the build's bundle of it, or else its modules.
import { bundled } from "../node/bundle.ts";
import type { wherry as Wherry } from "./wherry.ts";

const bundle = bundled("wherry.js");
const { wherry } =
  bundle === undefined
    ? await import("./wherry.ts")
    : ((await import(bundle.href)) as { wherry: typeof Wherry });
// Here, and not in the bundle, whose parts import each other. Node reports a command that neither ends nor
// waits for anything.
process.exitCode = await wherry(process.argv.slice(2));
