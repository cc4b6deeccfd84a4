// The entry of the command line: the build's bundle of it, or else its modules.
import { bundled } from "../node/bundle.ts";

const bundle = bundled("wherry.js");
if (bundle === undefined) await import("./wherry.ts");
else await import(bundle.href);
