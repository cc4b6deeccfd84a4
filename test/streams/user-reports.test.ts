// Reports of users about a stream that does not load: for each, a stream that shows it, and the answers of
// the inspector, of check and, if it reads such streams, of Wherry's loader: each names cause and cure.
// verdicts.ts compares QEMU's messages with check; test/virtio/{state,hostile}.test.ts has the loader's
// answers about virtio.
import { describe, expect, test } from "vitest";
import { checkStream, type CheckTarget } from "../../src/inspect/check/check-stream.ts";
import { checkQueues } from "../../src/inspect/check/check-virtio.ts";
import { explainComplaint } from "../../src/inspect/explain/complaints.ts";
import { parseDump } from "../../src/inspect/check/dump-vmstate.ts";
import type { Problem, StreamReport } from "../../src/inspect/model/stream-report.ts";
import { bytesSource } from "../../src/inspect/read/byte-source.ts";
import { readStream } from "../../src/inspect/read/read-stream.ts";
import { defaultEnvironment } from "../../src/migration/environment/migration-environment.ts";
import { loadSnapshot, saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { MIG_PRI } from "../../src/state/section.ts";
import { toySection } from "../support/fake-machine.ts";
import { memorySink, memorySource } from "../support/fake-network.ts";
import { QemuFakeMachine } from "../support/fake-qemu.ts";
import { PAGE, page, pageOf, StreamBuilder } from "../support/stream-builder.ts";
import { VIRTIO_IDSTR, virtioStream } from "../support/virtio-stream.ts";

const inspect = (bytes: Uint8Array): Promise<StreamReport> => readStream(bytesSource(bytes));

/** Checks against a stream of the target. */
async function check(bytes: Uint8Array, target: Uint8Array) {
  const known: CheckTarget = { kind: "stream", name: "target", report: await inspect(target) };
  return checkStream(await inspect(bytes), [known]);
}

/** A board as in QEMU's profile, with a serial port of some version and additions of the test. */
function board(more: (stream: StreamBuilder) => void = () => {}, machine = "pc-q35-9.0", ram = 16 * PAGE) {
  const stream = new StreamBuilder().configuration(machine);
  stream.ramStart({ "pc.ram": ram, "0000:00:03.0/e1000.rom": 4 * PAGE });
  stream.ramPart((out) => page(out, "pc.ram", 0, pageOf(1)), 3);
  serial(stream, 3);
  more(stream);
  return stream;
}
function serial(stream: StreamBuilder, version: number): void {
  const fields = [{ name: "ier", type: "uint8", size: 1 }];
  stream.devices.push({ name: "serial", instance_id: 0, vmsd_name: "serial", version, fields });
  stream.section(4, 5, "serial", version, (out) => void out.u8(1));
}
/** The board's -dump-vmstate. */
const dumpOf = (version: number, minimum: number): CheckTarget => ({
  kind: "dump",
  name: "dump",
  dump: parseDump(
    JSON.stringify({
      vmschkmachine: { Name: "pc-q35-9.0" },
      "isa-serial": {
        Description: {
          name: "serial",
          version_id: version,
          minimum_version_id: minimum,
          Fields: [{ field: "ier", version_id: 0, field_exists: false, size: 1 }],
        },
      },
    }),
  ),
});

const small = { ramPages: 3, dirtyPerMs: 0, fill: 0.3 };
/** A machine saved by Wherry in QEMU's format. */
async function qemuStream(machine = new QemuFakeMachine(small)): Promise<Buffer> {
  const sink = memorySink();
  await saveSnapshot(machine, async () => sink, defaultEnvironment, undefined, machine.profile);
  return Buffer.from(sink.committed as Uint8Array);
}
/** The message of Wherry's loader. */
const load = (bytes: Uint8Array) =>
  loadSnapshot(new QemuFakeMachine(small), memorySource(bytes)).then(
    () => "accepted",
    (error: Error) => error.message,
  );

/** Every answer has a cause and a cure. */
function expectAnswer(problem: Problem | undefined, expected: Partial<Problem>, cure: RegExp): void {
  expect(problem).toMatchObject(expected);
  expect(problem?.cause).toMatch(/\w/);
  expect(problem?.cure).toMatch(cure);
}

test("a stream without faults has no problems", async () => {
  const bytes = board().end();
  const { problems, warnings } = await check(bytes, bytes);
  expect([problems, warnings]).toEqual([[], []]);
  expect(await load(await qemuStream())).toBe("accepted");
});

test("missing section footer", async () => {
  const bytes = await qemuStream();
  const { sections } = await inspect(bytes);
  const globalstate = sections.find(({ idstr }) => idstr === "globalstate");
  bytes[(globalstate?.dataOffset ?? 0) + (globalstate?.size ?? 0)] = 0x55;
  const { problem } = await inspect(bytes);
  expectAnswer(problem, { code: "stream.footer", where: "section globalstate/0" }, /machine type/);
  const checked = await check(bytes, await qemuStream());
  expect(checked.problems[0]).toEqual(problem);
  expect(await load(bytes)).toMatch(/section globalstate\/0.*footer/);
  const [said] = explainComplaint("Missing section footer for globalstate");
  expectAnswer(said, { where: "section globalstate" }, /wherry check/);
});

test("no section footers, no configuration, if the target has them", async () => {
  const plain = new StreamBuilder(false).configuration("pc-q35-9.0").ramStart({ "pc.ram": PAGE });
  serial(
    plain.ramPart(() => {}, 3),
    3,
  );
  const { problems } = await check(plain.end(), board(() => {}, "pc-q35-9.0", PAGE).end());
  expectAnswer(problems[0], { code: "check.frame", found: "none" }, /send-section-footer=off/);
  const bare = new StreamBuilder().ramStart({ "pc.ram": PAGE });
  serial(
    bare.ramPart(() => {}, 3),
    3,
  );
  const checked = await check(bare.end(), board(() => {}, "pc-q35-9.0", PAGE).end());
  expectAnswer(checked.problems[0], { code: "check.frame" }, /send-configuration=off/);
});

describe("unknown savevm section or instance", () => {
  test("a device that the target lacks", async () => {
    const bytes = board((stream) => stream.device(9, "0000:00:04.0/e1000", { fields: [] }, () => {})).end();
    const { problems } = await check(bytes, board().end());
    expectAnswer(
      problems[0],
      { code: "check.device.missing", where: "section 0000:00:04.0/e1000/0" },
      /addr=0x4/,
    );
    expect(problems).toHaveLength(1);
  });
  test("the same device at another place", async () => {
    const at = (address: string) =>
      board((stream) => stream.device(9, `0000:00:${address}.0/e1000`, { fields: [] }, () => {})).end();
    const { problems } = await check(at("04"), at("05"));
    expectAnswer(problems[0], { code: "check.device.missing" }, /same addresses and order/);
    expect(problems[0]?.expected).toContain("0000:00:05.0/e1000/0");
  });
  test("a second instance, and Wherry's answer", async () => {
    const two = board((stream) => stream.device(9, "serial", { fields: [] }, () => {}, 1)).end();
    const { problems } = await check(two, board().end());
    expect(problems).toMatchObject([{ where: "section serial/1" }]);
    const source = new QemuFakeMachine(small);
    source.profiles.extra.push(toySection("virtio-net", 0, MIG_PRI.DEFAULT, 5));
    expect(await load(await qemuStream(source))).toMatch(/virtio-net\/0.*no such device.*same order/);
  });
});

describe("ROM or RAM block size mismatch", () => {
  test("of an option ROM, of RAM", async () => {
    const stream = new StreamBuilder().configuration("pc-q35-9.0");
    stream.ramStart({ "pc.ram": 32 * PAGE, "0000:00:03.0/e1000.rom": 8 * PAGE });
    stream.ramPart(() => {}, 3);
    serial(stream, 3);
    const { problems } = await check(stream.end(), board().end());
    expectAnswer(
      problems[0],
      { code: "check.ram.size", where: "ram block pc.ram", expected: "65536 bytes (0x10000)" },
      /same -m/,
    );
    expectAnswer(
      problems[1],
      { code: "check.ram.size", where: "ram block 0000:00:03.0/e1000.rom" },
      /romfile/,
    );
  });
  test("Wherry's answer", async () => {
    const message = await load(await qemuStream(new QemuFakeMachine({ ...small, ramPages: 4 })));
    expect(message).toMatch(/riscv_virt_board\.ram.*(0x4000|16384).*(0x3000|12288)/s);
  });
});

test("unknown ramblock", async () => {
  const stream = new StreamBuilder().configuration("pc-q35-9.0");
  stream.ramStart({ "pc.ram": 16 * PAGE, "/rom@etc/acpi/tables": 4 * PAGE, "0000:00:02.0/vga.vram": PAGE });
  stream.ramPart(() => {}, 3);
  serial(stream, 3);
  const { problems, warnings } = await check(stream.end(), board().end());
  expectAnswer(
    problems[0],
    { code: "check.ram.unknown", where: "ram block /rom@etc/acpi/tables" },
    /acpi=off/,
  );
  expectAnswer(
    problems[1],
    { code: "check.ram.unknown", where: "ram block 0000:00:02.0/vga.vram" },
    /same devices/,
  );
  // In the other direction QEMU has no message.
  expect(warnings).toMatchObject([{ code: "check.ram.extra", where: "ram block 0000:00:03.0/e1000.rom" }]);
});

test("virtio features unsupported", async () => {
  const version1 = 1n << 32n;
  const bytes = virtioStream({ features: version1 | (1n << 29n) });
  const { warnings } = await check(bytes, virtioStream({ features: version1 }));
  expectAnswer(
    warnings[0],
    { code: "check.virtio.features", where: `section ${VIRTIO_IDSTR}/0, features` },
    /event_idx=on/,
  );
  const [said] = explainComplaint(`Features 0x120000000 unsupported. Allowed features: 0x100000000
error while loading state for instance 0x0 of device '${VIRTIO_IDSTR}'`);
  expectAnswer(said, { where: `section ${VIRTIO_IDSTR}` }, /event_idx=on/);
});

test("virtio queue index inconsistent", async () => {
  const bytes = virtioStream({ queueSize: 128, lastAvail: 0x33, availIndex: 0x12c, usedIndex: 0x33 });
  const { warnings } = await checkQueues(await inspect(bytes), bytesSource(bytes));
  expectAnswer(
    warnings[0],
    { code: "virtio.queue-index", where: `section ${VIRTIO_IDSTR}/0, VQ 0 (requestq)` },
    /vhost=off/,
  );
});

describe("version too new or too old", () => {
  const version = (n: number) => {
    const stream = new StreamBuilder().configuration("pc-q35-9.0").ramStart({ "pc.ram": PAGE });
    serial(
      stream.ramPart(() => {}, 3),
      n,
    );
    return stream.end();
  };
  test("by the target's dump", async () => {
    const checked = checkStream(await inspect(version(4)), [dumpOf(3, 2)]);
    expectAnswer(
      checked.problems[0],
      {
        code: "check.version.new",
        where: "section serial/0",
        expected: "version 2 to 3",
        found: "version 4",
      },
      /at least as new/,
    );
    const old = checkStream(await inspect(version(1)), [dumpOf(3, 2)]);
    expectAnswer(old.problems[0], { code: "check.version.old" }, /intermediate release/);
    expect(checkStream(await inspect(version(2)), [dumpOf(3, 2)])).toMatchObject({
      problems: [],
      warnings: [],
    });
  });
  test("by a stream of the target: certainly too new, possibly too old", async () => {
    expect((await check(version(4), version(3))).problems).toMatchObject([{ code: "check.version.new" }]);
    const old = await check(version(2), version(3));
    expect(old.problems).toEqual([]);
    expectAnswer(old.warnings[0], { code: "check.version.old" }, /-dump-vmstate/);
  });
  test("Wherry's answer", async () => {
    const extra = { ...small, extraSections: [toySection("rng", 0, MIG_PRI.DEFAULT, 9)] };
    const newer = new QemuFakeMachine(small);
    newer.profiles.extra.push({ ...toySection("rng", 0, MIG_PRI.DEFAULT, 9), version: 7 });
    const message = await loadSnapshot(
      new QemuFakeMachine(extra),
      memorySource(await qemuStream(newer)),
    ).then(
      () => "accepted",
      (error: Error) => error.message,
    );
    expect(message).toMatch(/section rng\/0.*version 7.*docs\/qemu\.md/);
  });
});

test("a truncated stream", async () => {
  const bytes = await qemuStream();
  for (const part of [0.1, 0.5, 0.9]) {
    const cut = bytes.subarray(0, Math.floor(bytes.length * part));
    const { problem } = await inspect(cut);
    expectAnswer(problem, { code: "stream.cut" }, /whole copy/);
    expect((await check(cut, bytes)).problems[0]).toEqual(problem);
    expect(await load(cut)).toMatch(/ends .* too early/);
  }
});

test("machine type mismatch", async () => {
  const { problems } = await check(board(() => {}, "pc-q35-9.1").end(), board().end());
  expectAnswer(
    problems[0],
    {
      code: "check.machine",
      expected: "machine type pc-q35-9.0, as in target",
      found: "machine type pc-q35-9.1",
    },
    /-M pc-q35-9.1/,
  );
  const bytes = await qemuStream();
  const at = bytes.indexOf("virt", 8);
  bytes.write("vert", at);
  expect(await load(bytes)).toMatch(/vert/);
});

test("a stream in Wherry's own format in QEMU", async () => {
  const sink = memorySink();
  await saveSnapshot(new QemuFakeMachine(small), async () => sink);
  const own = Buffer.from(sink.committed as Uint8Array);
  const { sections } = await inspect(own);
  // The fake machine lacks the board's section.
  expect(sections.map(({ idstr }) => idstr)).toContain("wherry/integrity");
  const board = new StreamBuilder()
    .configuration("virt")
    .ramStart({ ram: PAGE })
    .ramPart(() => {}, 3);
  board.device(2, "wherry/machine", { fields: [] }, () => {});
  const { problems } = await check(board.end(), await qemuStream());
  expect(problems).toHaveLength(1);
  expectAnswer(problems[0], { code: "check.own-form" }, /--profile/);
});

test('"Error -22 while loading VM state"', async () => {
  const [said] = explainComplaint("Error -22 while loading VM state");
  expectAnswer(said, { code: "complaint.einval" }, /wherry check/);
  // check reports all reasons; QEMU stops at the first.
  const stream = new StreamBuilder().configuration("pc-i440fx-9.0").ramStart({ "pc.ram": 2 * PAGE });
  serial(
    stream.ramPart(() => {}, 3),
    4,
  );
  stream.device(9, "hpet", { fields: [] }, () => {});
  const { problems } = await check(stream.end(), board().end());
  expect(problems.map(({ code }) => code)).toEqual([
    "check.machine",
    "check.version.new",
    "check.device.missing",
    "check.ram.size",
  ]);
});
