// Saves a running machine to a file, and starts a second machine from it: it continues where the first one
// was.
//   npm run pulse -- tmp/pulse.bin && npx node examples/snapshot.ts tmp/pulse.bin tmp/pulse.state
import { readFile } from "node:fs/promises";
import { argv, stdout } from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { createMachine } from "wherry/node";

const [, , kernel = "tmp/pulse.bin", file = "tmp/pulse.state"] = argv;
// Both machines need the same harts, memory and devices.
const hardware = { harts: 2, memoryBytes: 64 << 20 };
const onConsole = (bytes: Uint8Array) => void stdout.write(bytes);

const first = await createMachine({
  ...hardware,
  kernel: await readFile(kernel),
  append: "pulse.nodisk",
  onConsole,
});
await first.start();
await delay(2000);
await first.saveTo(file); // it appears complete or not at all; `save()` gives bytes instead
await first.close();
console.log(`saved to ${file}`);

const second = await createMachine({ ...hardware, state: file, onConsole });
second.write("q"); // it runs, because the first one ran when it was saved
const end = await second.ended;
await second.close();
console.log(end);
if (end.kind !== "shutdown") process.exitCode = 1;
