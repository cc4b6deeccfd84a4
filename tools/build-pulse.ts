// Assembles pulse (guests/pulse) and writes it as a kernel that `wherry run --kernel` takes: `npm run pulse -- FILE`.
import { writeFileSync } from "node:fs";
import { argv } from "node:process";
import { buildPulse } from "../src/guest/pulse-guest.ts";

const [, , path = "pulse.bin"] = argv;
writeFileSync(path, await buildPulse());
