// Finds sections and fields by the names that users enter: `cpu/0`, `serial`, `cpu/0/env.pc`,
// `fw_cfg/0/fw_cfg/dma.dma_addr`.
import type { Field, SectionReport, StreamReport } from "./stream-report.ts";

/** Sections of this name, with the given instance or, without one, any, that have fields. */
export function sectionsNamed(report: StreamReport, name: string): SectionReport[] {
  return report.sections.filter(
    ({ idstr, instanceId }) => name === idstr || name === `${idstr}/${instanceId}`,
  );
}

/**
 * Finds the field SECTION/FIELD. FIELD is the path of names with `.` or `/` between them (neither before
 * `[`). SECTION is `idstr/instance`, or `idstr` for the first of that name. Undefined if there is none.
 */
export function fieldAt(report: StreamReport, path: string): Field | undefined {
  for (const { idstr, instanceId, fields } of report.sections) {
    for (const head of [`${idstr}/${instanceId}`, idstr]) {
      const found = path.startsWith(`${head}/`) ? within(fields, path.slice(head.length + 1)) : undefined;
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

function within(fields: readonly Field[], path: string): Field | undefined {
  for (const field of fields) {
    if (field.name === path) return field;
    if (field.children === undefined || !path.startsWith(field.name)) continue;
    const rest = path.slice(field.name.length);
    const found = /^[./]/.test(rest) ? within(field.children, rest.slice(1)) : within(field.children, rest);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Names that could follow the valid start of `path`, for messages. */
export function namesAt(report: StreamReport, path: string): string[] {
  const section = report.sections.find(({ idstr, instanceId, fields }) => {
    return fields.length > 0 && (path.startsWith(`${idstr}/${instanceId}`) || path.startsWith(`${idstr}/`));
  });
  if (section === undefined) {
    const withFields = report.sections.filter(({ fields }) => fields.length > 0);
    return withFields.map(({ idstr, instanceId }) => `${idstr}/${instanceId}`);
  }
  return section.fields.map(({ name }) => name);
}
