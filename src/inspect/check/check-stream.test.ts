// Differences in the number of CPUs and in sections that are not devices, in generated streams.
import { describe, expect, test } from "vitest";
import { PAGE, StreamBuilder } from "../../../test/support/stream-builder.ts";
import { checkStream } from "./check-stream.ts";
import { bytesSource } from "../read/byte-source.ts";
import { readStream } from "../read/read-stream.ts";

/** A board with a timer per hart, and other sections. */
function board({ harts = 1, also = [] }: { harts?: number; also?: readonly string[] }) {
  const stream = new StreamBuilder().configuration("virt").ramStart({ ram: PAGE });
  stream.ramPart(() => {}, 3);
  let id = 2;
  const halted = { fields: [{ name: "halted", type: "uint32", size: 4 }] };
  for (let hart = 0; hart < harts; hart++) {
    for (const name of ["cpu_common", "cpu"]) stream.device(id++, name, halted, (out) => out.u32(0), hart);
  }
  const array = { type: "uint64", size: 8, ...(harts > 1 ? { array_len: harts } : {}) };
  const names = ["timecmp", "timers"];
  stream.device(id++, "riscv_mtimer", { fields: names.map((name) => ({ name, ...array })) }, (out) => {
    for (let i = 0; i < 2 * harts; i++) out.u64(1n);
  });
  for (const name of also) stream.device(id++, name, halted, (out) => out.u32(0));
  return readStream(bytesSource(stream.end()));
}
type Board = Parameters<typeof board>[0];

async function judge(source: Board, target: Board) {
  const known = { kind: "stream", name: "target", report: await board(target) } as const;
  return checkStream(await board(source), [known]);
}

describe("another number of CPUs", () => {
  test("more in the stream, or more in the target: the cure is -smp", async () => {
    for (const [sent, wanted] of [
      [2, 1],
      [2, 4],
    ] as const) {
      const { problems, warnings } = await judge({ harts: sent }, { harts: wanted });
      const found = [...problems, ...warnings];
      const of = (section: string) => found.filter(({ where }) => where.startsWith(`section ${section}`));
      const other = sent > wanted ? 1 : 2;
      const cpus = [...of(`cpu/${other}`), ...of(`cpu_common/${other}`)];
      expect(cpus).toHaveLength(2);
      for (const { cause, cure } of cpus) {
        expect(cause).toContain(`${sent} CPUs`);
        expect(cure).toMatch(/^start the target with -smp 2\b/);
      }
      expect(of("riscv_mtimer").map(({ where }) => where)).toEqual([
        "section riscv_mtimer/0, timecmp",
        "section riscv_mtimer/0, timers",
      ]);
      for (const { cure } of of("riscv_mtimer")) expect(cure).toMatch(/-smp/);
      expect(problems).toEqual(expect.arrayContaining(of("riscv_mtimer")));
    }
  });
  test("a device that only one side has still needs -device", async () => {
    const { problems } = await judge({ harts: 2, also: ["dev"] }, { harts: 2 });
    expect(problems).toMatchObject([
      { where: "section dev/0", cure: expect.stringContaining("with the device") },
    ]);
  });
});

test("user networking needs no section if only the target has it, and a network device if only the source has it", async () => {
  const extra = await judge({}, { also: ["slirp", "dev"] });
  expect(extra.problems).toEqual([]);
  expect(extra.warnings).toMatchObject([{ code: "check.device.extra", where: "section dev/0" }]);
  const { problems } = await judge({ also: ["slirp"] }, {});
  expect(problems).toMatchObject([{ where: "section slirp/0", cure: expect.stringContaining("-nic user") }]);
});
