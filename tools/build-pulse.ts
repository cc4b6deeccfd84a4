// Assembles pulse (guests/pulse) and writes it as a kernel for `wherry run --kernel`: `npm run pulse --
// FILE`.
import { writeFileSync } from "node:fs";
import { argv } from "node:process";
import { buildPulse } from "../src/guest/pulse-guest.ts";

const [, , path = "pulse.bin"] = argv;
writeFileSync(path, await buildPulse());
