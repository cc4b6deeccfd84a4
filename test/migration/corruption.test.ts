// A snapshot that is truncated or has one bit flipped is always refused with an error that names the place,
// and never runs. Covers every section boundary and 1,000 random flips (fewer unless WHERRY_FULL=1).
import { describe, expect, test } from "vitest";
import { MigrationError } from "../../src/stream/migration-error.ts";
import { loadSnapshot, saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { FakeMachine } from "../support/fake-machine.ts";
import { memorySink, memorySource } from "../support/fake-network.ts";
import { seed } from "../support/seed.ts";
import { random } from "../support/random.ts";

const full = process.env["WHERRY_FULL"] === "1";
const options = { ramPages: 600, seed: 11 };
const where =
  /^(header|section ("(?:[^"\\]|\\.)*"|)\S+|RAM chunk \d+|VMDESCRIPTION|end of the stream|after [^:]+)( \(.*\))?( at offset 0x[0-9a-f]+)?: ./;

async function snapshot(): Promise<Uint8Array> {
  const sink = memorySink();
  await saveSnapshot(new FakeMachine(options), async () => sink);
  return sink.committed as Uint8Array;
}

/** The message of the refusal; checks that the file is refused. */
async function refusal(file: Uint8Array, what: string): Promise<string> {
  const machine = new FakeMachine({ ...options, fill: 0 });
  let error: unknown;
  await loadSnapshot(machine, memorySource(file)).catch((e: unknown) => {
    error = e;
  });
  expect(error, `${what} was accepted`).toBeInstanceOf(MigrationError);
  const { message } = error as MigrationError;
  expect(message, what).toMatch(where);
  expect(machine.runState.current, what).toBe("internal-error");
  await expect(machine.start()).rejects.toThrow(/can never run/);
  return message;
}

/** Offsets at which a unit of the stream ends, observed during a load. */
async function boundaries(file: Uint8Array): Promise<number[]> {
  const found = [0, 4, 8, file.length - 1];
  const bytes = Buffer.from(file);
  // Footers: 0x7e, be32 id. Ids are small, so this finds all of them (and a few that are not).
  for (let at = bytes.indexOf(0x7e); at >= 0; at = bytes.indexOf(0x7e, at + 1)) {
    if (at + 5 <= bytes.length && bytes.readUInt32BE(at + 1) <= 16) found.push(at, at + 5);
  }
  return found;
}

describe("a snapshot", () => {
  test("cut at every section boundary and at random places is refused", async () => {
    const file = await snapshot();
    const next = random(seed);
    const cuts = await boundaries(file);
    expect(cuts.length).toBeGreaterThan(14);
    for (let i = 0; i < (full ? 500 : 100); i++) cuts.push(Math.floor(next() * file.length));
    for (let i = 1; i < 400; i += full ? 1 : 7) cuts.push(file.length - i);
    for (const cut of cuts) {
      const message = await refusal(file.subarray(0, cut), `cut at ${cut}`);
      expect(message, `cut at ${cut}`).toMatch(/too early/);
    }
  });

  test("with one bit flipped is refused", { timeout: 300_000 }, async () => {
    const file = await snapshot();
    const next = random(seed + 1);
    const flips: number[] = [];
    for (let i = 0; i < (full ? 1000 : 250); i++) flips.push(Math.floor(next() * file.length * 8));
    // RAM is most of the file: half of the flips go to the other parts.
    const tail = file.length - 6000;
    for (let i = 0; i < (full ? 1000 : 250); i++) flips.push(tail * 8 + Math.floor(next() * 6000 * 8));
    for (let bit = 0; bit < 60 * 8; bit += full ? 1 : 5) flips.push(bit);
    for (const bit of flips) {
      const damaged = file.slice();
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      await refusal(damaged, `seed ${seed}: bit ${bit & 7} of byte ${bit >> 3}`);
    }
  });

  test("damage to a page names the RAM chunk and its pages", async () => {
    const file = await snapshot();
    const damaged = file.slice();
    const at = 1_200_000;
    damaged[at]! ^= 0x40;
    const message = await refusal(damaged, "page");
    const [, chunk, first, end] =
      /^RAM chunk (\d+) \(riscv_virt_board.ram (\S+)\.\.([^,)\s]+)/.exec(message) ?? [];
    expect(chunk).toBe("1");
    expect(Number(end) - Number(first)).toBeGreaterThan(0);
    expect(message).toMatch(/have hash 0x[0-9a-f]+, expected 0x[0-9a-f]+; .*use another copy/);
  });

  test("damage to a section's state names the section", async () => {
    const file = await snapshot();
    const at = Buffer.from(file).indexOf("virtio-mmio@0000000010008000/virtio-blk") + 39 + 8 + 100;
    const damaged = file.slice();
    damaged[at]! ^= 1;
    expect(await refusal(damaged, "section")).toMatch(
      /^section virtio-mmio@0000000010008000\/virtio-blk\/0 at offset 0x/,
    );
  });

  test("a bit flipped in a device section's head is told at that section", async () => {
    const file = await snapshot();
    const name = "virtio-mmio@0000000010008000/virtio-blk";
    const nameAt = Buffer.from(file).indexOf(name);
    const start = nameAt - 1 - 4 - 1;
    // The length of the name (a longer one takes in what follows), the name, instance and version.
    for (let bit = (nameAt - 1) * 8; bit < (nameAt + name.length + 8) * 8; bit++) {
      const damaged = file.slice();
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      const message = await refusal(damaged, `bit ${bit & 7} of byte ${bit >> 3}`);
      const place = message.includes("waits for") || message.includes("the stream has no") ? "" : start;
      if (place !== "") expect(message).toContain(` at offset 0x${place.toString(16)}: `);
    }
  });

  test("noise and files of other kinds are refused", async () => {
    const next = random(seed + 2);
    for (let i = 0; i < (full ? 50 : 10); i++) {
      const noise = Uint8Array.from({ length: 3000 }, () => Math.floor(next() * 256));
      await refusal(noise, "noise");
      const file = (await snapshot()).slice(0, 200_000);
      file.set(noise, Math.floor(next() * 100_000));
      await refusal(file, "noise inside");
    }
    expect(await refusal(new Uint8Array(0), "empty")).toMatch(/header/);
    expect(await refusal(Buffer.from("PK\x03\x04 a zip archive"), "zip")).toMatch(/not a saved machine/);
  });

  test("sections that claim an excessive length are refused without excessive memory", async () => {
    const file = Buffer.from(await snapshot());
    // The toy section's length says 4 GB.
    const at = file.indexOf("virtio-blk") + 10 + 8;
    file.writeUInt32BE(0xffffff00, at);
    const endless = {
      ...memorySource(file),
      sent: 0,
      async read(target: Uint8Array) {
        this.sent += target.length;
        if (this.sent > 2 ** 30) throw new Error("read on for ever");
        const n = Math.min(target.length, Math.max(0, file.length - (this.sent - target.length)));
        target.set(file.subarray(this.sent - target.length, this.sent - target.length + n));
        return target.length;
      },
    };
    const machine = new FakeMachine(options);
    await expect(loadSnapshot(machine, endless)).rejects.toThrow(/virtio-blk\/0.*more than 33554432 bytes/);
  });
});
