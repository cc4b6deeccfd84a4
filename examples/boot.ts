// Boots a guest and talks to it: a machine with two harts, its console's output, a key for its input, its
// end.
//   npm run pulse -- tmp/pulse.bin && npx node examples/boot.ts tmp/pulse.bin
import { readFile } from "node:fs/promises";
import { argv, stdout } from "node:process";
import { createMachine } from "wherry/node";

const [, , kernel = "tmp/pulse.bin"] = argv;

// The guest writes in pieces of any size: keep the text, and look at it as a whole.
let text = "";
let onText = () => {};
function onConsole(bytes: Uint8Array): void {
  stdout.write(bytes);
  text += new TextDecoder().decode(bytes);
  onText();
}
const printed = (pattern: RegExp) =>
  new Promise<void>((resolve) => {
    onText = () => pattern.test(text) && resolve();
    onText();
  });

const machine = await createMachine({
  harts: 2,
  memoryBytes: 64 << 20,
  kernel: await readFile(kernel),
  append: "pulse.nodisk",
  onConsole,
});
await machine.start();
await printed(/ OK\n/); // pulse has checked itself once
machine.write("q"); // and now checks everything, and powers off
const end = await machine.ended;
await machine.close();
console.log(end);
if (end.kind !== "shutdown") process.exitCode = 1;
