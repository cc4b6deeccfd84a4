// The rule that keeps saved state loadable: which changes are allowed between two dumps of all schemas. The
// bytes of a version that is still accepted must not change; growth needs a higher version with `since`, or a
// subsection. The meaning of values is not checked.
import type { FieldSchema, StateSchema } from "../src/state/schema.ts";

/** One line for each change that breaks the loading of older states, with what to do instead. */
export function schemaViolations(before: readonly StateSchema[], after: readonly StateSchema[]): string[] {
  return before.flatMap((old) => {
    const now = after.find(({ name }) => name === old.name);
    return now === undefined
      ? [`${old.name}: removed, so streams that have it no longer load: keep its definition`]
      : changed(old, now);
  });
}

function changed(old: StateSchema, now: StateSchema): string[] {
  const found: string[] = [];
  const say = (text: string): number => found.push(`${now.name}: ${text}`);
  const dropsOld = now.minimumVersion > old.version;
  if (now.version < old.version) say(`version went back from ${old.version} to ${now.version}`);
  else if (now.version === old.version) {
    const { version: v } = now;
    if (now.minimumVersion !== old.minimumVersion) {
      say(
        `minimumVersion ${old.minimumVersion} became ${now.minimumVersion} in version ${v}: raise version too`,
      );
    }
    for (const line of fieldChanges(old.fields, now.fields)) {
      say(
        `${line} within version ${v}: raise version to ${v + 1} and give new fields .since(${v + 1}), or put them in a subsection`,
      );
    }
  } else if (!dropsOld) {
    const readByOld = now.fields.filter(
      (f) => (f.since ?? 0) <= old.version && !isNewConditional(f, old.fields),
    );
    if (JSON.stringify(readByOld.map(shape)) !== JSON.stringify(old.fields.map(shape))) {
      say(
        `version ${now.version} still accepts ${old.version} but would not read its bytes: give new fields .since(${now.version}), ` +
          `keep removed ones as unused(), or raise minimumVersion to ${now.version}`,
      );
    }
  }
  for (const sub of old.subsections ?? []) {
    const kept = now.subsections?.find(({ name }) => name === sub.name);
    if (kept !== undefined) found.push(...changed(sub, kept));
    else if (!dropsOld) say(`subsection ${sub.name} removed: streams that have it no longer load: keep it`);
  }
  return found;
}

/** The properties that determine the bytes of a field. */
function shape({ type, size, count, since, conditional, struct }: FieldSchema): unknown {
  return [type === "unused_buffer" ? "buffer" : type, size, count, since, conditional, struct];
}

function isNewConditional(field: FieldSchema, old: readonly FieldSchema[]): boolean {
  return field.conditional === true && !old.some(({ name }) => name === field.name);
}

function fieldChanges(old: readonly FieldSchema[], now: readonly FieldSchema[]): string[] {
  const nameOf = ({ name }: FieldSchema): string => name;
  const [oldNames, nowNames] = [old.map(nameOf), now.map(nameOf)];
  const added = nowNames.filter((name) => !oldNames.includes(name));
  const removed = oldNames.filter((name) => !nowNames.includes(name));
  const lines = [
    ...added.map((name) => `field ${name} added`),
    ...removed.map((name) => `field ${name} removed`),
  ];
  for (const field of old) {
    const same = now.find(({ name }) => name === field.name);
    if (same === undefined || JSON.stringify(shape(same)) === JSON.stringify(shape(field))) continue;
    lines.push(`field ${field.name} changed from ${JSON.stringify(field)} to ${JSON.stringify(same)}`);
  }
  const kept = oldNames.filter((name) => nowNames.includes(name));
  if (kept.join() !== nowNames.filter((name) => oldNames.includes(name)).join())
    lines.push("fields reordered");
  return lines;
}
