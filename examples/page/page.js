// The page's script: boots the guest that the server has, shows its console, and sends it a key when the
// button is pressed. `save()` and the option `state` work as in Node.
import { createMachine } from "wherry/browser";

const output = /** @type {HTMLElement} */ (document.getElementById("console"));
const decoder = new TextDecoder();

const kernel = new Uint8Array(await (await fetch("/kernel")).arrayBuffer());
const machine = await createMachine({
  harts: 2,
  memoryBytes: 64 << 20,
  kernel,
  append: "pulse.nodisk",
  onConsole: (bytes) => output.append(decoder.decode(bytes, { stream: true })),
});
document.getElementById("quit")?.addEventListener("click", () => void machine.write("q"));
await machine.start();
const end = await machine.ended;
await machine.close();
output.append(`\n${end.kind}`);
