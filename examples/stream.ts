// Opens a saved machine as data, without a machine: its sections, a register, how much memory it holds.
// Streams that QEMU wrote open in the same way.
//   npx node examples/stream.ts tmp/pulse.state      (examples/snapshot.ts writes one)
import { openAsBlob } from "node:fs";
import { argv } from "node:process";
import { type ByteSource, fieldAt, overview, problemText, readStream } from "wherry/stream";

const [, , path = "tmp/pulse.state"] = argv;
const file = await openAsBlob(path);
const source: ByteSource = {
  size: file.size,
  read: async (offset, into) => {
    const part = new Uint8Array(await file.slice(offset, offset + into.length).arrayBuffer());
    into.set(part);
    return part.length;
  },
};

let zeroPages = 0;
const report = await readStream(source, {
  onPage: (_block, _offset, kind) => void (kind === "zero" && zeroPages++),
});
console.log(overview(report).join("\n"));
const pc = fieldAt(report, "cpu/0/pc")?.value;
console.log(`program counter of hart 0: ${pc === undefined ? "not in this file" : `0x${pc.toString(16)}`}`);
console.log(`pages of zeros: ${zeroPages}`);

// A stream that is cut or damaged gives a report too, of all that could be read, with the problem.
const cut = await readStream({
  ...source,
  read: (at, into) => source.read(at, into.subarray(0, Math.max(0, 999 - at))),
});
console.log(
  `the first 999 bytes alone: ${cut.problem === undefined ? "no problem" : problemText(cut.problem)}`,
);
if (report.problem !== undefined || cut.problem === undefined) process.exitCode = 1;
