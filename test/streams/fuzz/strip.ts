// Makes the corpus's seeds from QEMU's streams: small device sections of each kind with their description,
// without RAM, firmware and guest code; a few kilobytes in each file. Run it again for streams of other
// machines.
//   node test/streams/fuzz/strip.ts FOLDER-OF-STREAMS
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ByteWriter } from "../../../src/base/bytes.ts";
import { encodeUtf8 } from "../../../src/base/text.ts";
import { bytesSource } from "../../../src/inspect/read/byte-source.ts";
import { readStream } from "../../../src/inspect/read/read-stream.ts";
import { QEMU_VM } from "../../../src/stream/wire.ts";

const MAX_SECTION = 1500;
const MAX_DESCRIBED = 5000;
const MAX_FILE = 2500;
/** Taken in turn, so that each gets a share of the limited total. */
const STREAMS = [
  "x86_64-q35-10.0",
  "s390x-ccw-10.0",
  "aarch64-virt-10.0",
  "ppc64-pseries-10.0",
  "x86_64-pc-10.0",
  "riscv64-7.2-linux-modern",
  "x86_64-microvm-10.0",
];
const MAX_ALL = 160_000;
/** Complete streams for the loader of QEMU's streams: each has all devices of its board. */
const BOARDS = ["7.2", "10.0", "11.1"].map((release) => `riscv64-${release}-linux-legacy`);

interface Device {
  readonly name: string;
  readonly instance_id: number;
  readonly vmsd_name?: string;
}

function parts(bytes: Uint8Array, from: number, to: number): Uint8Array {
  return bytes.slice(from, to);
}

async function strip(
  folder: string,
  name: string,
  known: Set<string>,
  whole: boolean,
): Promise<{ name: string; bytes: Uint8Array }[]> {
  const bytes = new Uint8Array(await readFile(join(folder, `${name}.stream`)));
  const report = await readStream(bytesSource(bytes));
  const last = report.sections.at(-1);
  if (report.problem !== undefined || last === undefined) throw new Error(`${name}: is not read whole`);
  const text = Buffer.from(bytes.subarray(last.dataOffset + last.size + 5 + 1 + 5)).toString();
  const description = JSON.parse(text) as { devices: Device[] };
  const files: { name: string; bytes: Uint8Array }[] = [];
  const head = parts(bytes, 0, report.sections[0]?.offset ?? 8);
  let out = new ByteWriter().bytes(head);
  let devices: Device[] = [];
  const finish = () => {
    if (devices.length === 0) return;
    const json = encodeUtf8(JSON.stringify({ ...description, devices }));
    out.u8(QEMU_VM.EOF).u8(QEMU_VM.VMDESCRIPTION).u32(json.length).bytes(json);
    files.push({ name: `${name}-${files.length}.stream`, bytes: out.finish() });
    out = new ByteWriter().bytes(head);
    devices = [];
  };
  for (const { kind, idstr, instanceId, offset, dataOffset, size } of report.sections) {
    const device = description.devices.find((d) => d.name === idstr && d.instance_id === instanceId);
    const model = `${device?.vmsd_name} ${/virtio/.test(idstr) ? idstr.replace(/^.*\//, "") + name.slice(0, 5) : ""}`;
    if (kind !== "full" || device === undefined) continue;
    if (whole) {
      out.bytes(bytes.subarray(offset, dataOffset + size + 5));
      devices.push(device);
      continue;
    }
    if (size > MAX_SECTION || known.has(model)) continue;
    const described = JSON.stringify(device).length;
    if (described > MAX_DESCRIBED) continue;
    known.add(model);
    out.bytes(bytes.subarray(offset, dataOffset + size + 5));
    devices.push(device);
    if (out.length + JSON.stringify(devices).length > MAX_FILE) finish();
  }
  finish();
  return files;
}

const folder = process.argv[2] ?? "/tmp/streams";
const known = new Set<string>();
const corpus = new URL("../corpus/", import.meta.url);
const present = await readdir(corpus);
let all = 0;
for (const name of [...BOARDS, ...STREAMS]) {
  const isBoard = BOARDS.includes(name);
  for (const stripped of await strip(folder, name, known, isBoard)) {
    const file = isBoard ? { ...stripped, name: `board-${stripped.name}` } : stripped;
    all += file.bytes.length;
    console.log(file.name, file.bytes.length, all, present.includes(file.name) ? "again" : "new");
    if (all <= MAX_ALL) await writeFile(new URL(file.name, corpus), file.bytes);
  }
}
