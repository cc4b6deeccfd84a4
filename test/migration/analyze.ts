// A local check: QEMU's own scripts/analyze-migration.py must parse our files. The script is not part of this
// repository: fetch QEMU's sources elsewhere and name it.
//   node test/migration/analyze.ts PATH/TO/analyze-migration.py [FILE]
// Without FILE it saves a toy machine first. Needs python3.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { openFileSink } from "../../src/node/channels/node-channels.ts";
import { FakeMachine } from "../support/fake-machine.ts";

const [script, given] = process.argv.slice(2);
if (script === undefined) {
  console.error("usage: node test/migration/analyze.ts PATH/TO/analyze-migration.py [FILE]");
  process.exit(2);
}
const directory = mkdtempSync(join(tmpdir(), "wherry-analyze-"));
try {
  const file = given ?? join(directory, "toy.wherry");
  if (given === undefined) await saveSnapshot(new FakeMachine({ ramPages: 700 }), () => openFileSink(file));
  const output = execFileSync("python3", [script, "-f", file], { encoding: "utf8", maxBuffer: 2 ** 30 });
  const parsed = Object.keys(JSON.parse(output)).map((key) => key.replace(/ \(\d+\)$/, ""));
  const stated = describedSections(readFileSync(file));
  const missing = stated.filter((name) => !parsed.includes(name));
  if (missing.length > 0) throw new Error(`the script did not meet ${missing.join(", ")}`);
  console.log(`${file}: analyze-migration.py parsed ${parsed.length} sections: ${parsed.join(", ")}`);
} finally {
  rmSync(directory, { recursive: true, force: true });
}

/** Section names in the VMDESCRIPTION at the end of a saved file. */
function describedSections(bytes: Uint8Array): string[] {
  const tail = Buffer.from(bytes.subarray(-10 * 1024 * 1024));
  const json = tail.subarray(tail.indexOf("{", tail.lastIndexOf(0))).toString("utf8");
  return (JSON.parse(json).devices as { name: string }[]).map((device) => device.name);
}
