// System registers of Arm CPUs: QEMU saves them as pairs of index and value, and refuses a stream with an
// index that its own CPU does not have (target/arm/machine.c: "system register 0x… in the incoming stream but
// unknown on the destination").
import { hex } from "../../base/hex.ts";
import type { Field, Problem, SectionReport, StreamReport } from "../model/stream-report.ts";

const indexes = (section: SectionReport | undefined): readonly Field[] | undefined =>
  section?.fields.find(({ name }) => name === "cpreg_vmstate_indexes")?.children;

const SHOWN = 4;

/** One problem per CPU of the stream with registers that the same CPU of the target's stream lacks. */
export function systemRegisterProblems(report: StreamReport, target: StreamReport): Problem[] {
  return report.sections.flatMap((section) => {
    const sent = indexes(section);
    if (sent === undefined) return [];
    const same = target.sections.find(
      ({ idstr, instanceId }) => idstr === section.idstr && instanceId === section.instanceId,
    );
    const known = indexes(same);
    if (known === undefined) return [];
    const values = new Set(known.map(({ value }) => value));
    const unknown = sent.filter(({ value }) => !values.has(value));
    const [first] = unknown;
    if (first === undefined) return [];
    const shown = unknown.slice(0, SHOWN).map(({ value, meaning }) => {
      const index = typeof value === "bigint" ? hex(value) : "";
      return meaning === undefined ? index : `${index} (${meaning})`;
    });
    const more = unknown.length > shown.length ? ` and ${unknown.length - shown.length} more` : "";
    return [
      {
        code: "check.arm-register",
        where: `section ${section.idstr}/${section.instanceId}, system registers`,
        offset: first.offset,
        expected: `registers that the target's CPU has (${known.length})`,
        found: `${shown.join(", ")}${more}`,
        cause:
          'another -cpu or CPU property, or a release that gives this CPU other registers (QEMU: "in the incoming stream but unknown on the destination")',
        cure: "use the same -cpu with the same properties on both sides, and a release of the target whose CPU has these registers (as a rule the source's own)",
      },
    ];
  });
}
