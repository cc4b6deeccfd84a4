// Streams with Wherry's own hashes: they agree, or the first unit that differs is named.
import { expect, test } from "vitest";
import { ByteWriter } from "../../base/bytes.ts";
import { xxh32 } from "../../base/xxh32.ts";
import { encodeIntegrity, integrityBody } from "../../stream/integrity.ts";
import { smallStream } from "../../../test/support/stream-builder.ts";
import { bytesSource, piecesSource } from "./byte-source.ts";
import { readStream } from "./read-stream.ts";

/** A small stream after `before` other bytes, in two units: up to the devices, and the devices. */
async function stream(before = 0) {
  const builder = smallStream();
  const { sections } = await readStream(bytesSource(smallStream().end()));
  const bytes = builder.out.finish();
  const middle = sections.find(({ idstr }) => idstr === "timer")!.offset;
  const unit = (name: string, from: number, to: number, block?: string) => {
    const hash = xxh32(bytes.subarray(from, to));
    const ranges = block === undefined ? [] : [{ block, first: 0, end: 4096 }];
    return { name, instanceId: 0, offset: from, length: to - from, hash, ranges };
  };
  const units = [unit("ram", 0, middle, "pc.ram"), unit("timer", middle, bytes.length)];
  const size = integrityBody(new ByteWriter(), { units, vmdescLength: 0, vmdescHash: 0 }).length;
  const fields = [
    { name: "length", type: "uint32", size: 4 },
    { name: "table", type: "buffer", size },
    { name: "hash", type: "uint32", size: 4 },
  ];
  const device = { name: "wherry/integrity", instance_id: 0, fields };
  const json = JSON.stringify({ page_size: 4096, devices: [...builder.devices, device] });
  const vmdescHash = xxh32(new TextEncoder().encode(json));
  builder.section(4, 9, "wherry/integrity", 1, (out) => {
    encodeIntegrity(out, integrityBody(new ByteWriter(), { units, vmdescLength: json.length, vmdescHash }));
  });
  const all = builder.end(json);
  const file = new Uint8Array(before + all.length);
  file.set(all, before);
  return { file, middle: before + middle, json: file.length - json.length };
}

test("they agree at any offset of the stream; a pipe is not verified", async () => {
  for (const offset of [0, 1000]) {
    const { file } = await stream(offset);
    const report = await readStream(bytesSource(file), { offset });
    expect([report.problem, report.warnings, report.integrity]).toEqual([undefined, [], "agrees"]);
    expect((await readStream(bytesSource(file), { offset, skipIntegrity: true })).integrity).toBe(
      "not checked",
    );
  }
  const { file } = await stream();
  async function* pieces() {
    yield file;
  }
  expect((await readStream(piecesSource(pieces()))).integrity).toBe("not checked");
});

test("a changed byte is found and its unit is named", async () => {
  const changed = async (at: (of: Awaited<ReturnType<typeof stream>>) => number) => {
    const made = await stream();
    made.file[at(made)]! ^= 1;
    const { integrity, warnings } = await readStream(bytesSource(made.file));
    return [integrity, ...warnings.map(({ code, where }) => `${code} ${where}`)];
  };
  const code = "integrity.differs";
  expect(await changed(() => 300)).toEqual(["differs", `${code} RAM chunk (pc.ram 0x0..0x1000)`]);
  expect(await changed(({ middle }) => middle + 25)).toEqual(["differs", `${code} section timer/0`]);
  expect(await changed(({ json }) => json + 5)).toEqual(["differs", `${code} vmdescription`]);
  const table = await changed(({ json }) => json - 30);
  expect(table).toEqual(["differs", `${code} section wherry/integrity/0`]);
});
