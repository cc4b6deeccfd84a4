// The known problems of a stream with causes and remedies, and InspectError, which ends reading: readers and
// decoders throw it with a Problem, and readStream adds that to its report.
import { WherryError } from "../../base/errors.ts";
import { hex } from "../../base/hex.ts";
import type { Problem } from "./stream-report.ts";

export class InspectError extends WherryError {
  readonly problem: Problem;
  constructor(problem: Problem, options?: { cause?: unknown }) {
    super(problem.code, problemText(problem), options);
    this.problem = problem;
  }
}

/** A problem in one line: place, difference, remedy. */
export function problemText(problem: Problem): string {
  const at = problem.offset === undefined ? "" : ` at offset ${hex(problem.offset)}`;
  return `${problem.where}${at}: expected ${problem.expected}, found ${problem.found}; ${problem.cure}`;
}

/** True if a warning reports a fault of the stream; false if the stream is only unusual. */
export const isFault = ({ code }: Problem): boolean => !HARMLESS.has(code);
const HARMLESS = new Set(["stream.guessed", "stream.trailing", "ram.elsewhere"]);

/** The codes of all problems, with cause and remedy. */
const KNOWN = {
  "stream.magic": {
    cause: "not a migration stream, or there are bytes before it",
    cure: "give the file that migrate or savevm wrote, unpacked; cut off the bytes before it (`wherry inspect --offset` skips them)",
  },
  "stream.version": {
    cause: "QEMU before 0.9.1 wrote version 2; there is no other version",
    cure: "give a stream of version 3: migrate it once through a QEMU that still reads the old version",
  },
  "stream.cut": {
    cause:
      "the writer ended before the stream was complete (killed, disk full, migration failed or not yet completed), or the copy is partial",
    cure: "check that the migration's status was `completed`, and use a whole copy of the file",
  },
  "stream.footer": {
    cause:
      "the section's length differs between writer and reader: damage, or a device whose saved state has another version",
    cure: "compare both QEMUs' versions of this device, and use the same machine type on both sides",
  },
  "stream.section-type": {
    cause: "the previous section's length was wrong, or the stream is damaged",
    cure: "use another copy; if it has the same problem, examine the previous section with --hexdump",
  },
  "stream.section-id": {
    cause: "a part of a section whose start is not in the stream: bytes are missing, or streams were joined",
    cure: "use a complete copy of the stream",
  },
  "stream.section-version": {
    cause: "the writer has a newer format of this section, or the stream is damaged",
    cure: "use a newer Wherry, or migrate with an older machine type",
  },
  "stream.size": {
    cause:
      "the VMDESCRIPTION and the bytes of the section disagree: damage, or a fault of the device's description",
    cure: "save the stream again and compare; --hexdump shows the section's bytes",
  },
  "stream.subsection": {
    cause: "the VMDESCRIPTION names a missing subsection: damage, or a fault of the device's description",
    cure: "save the stream again and compare; --hexdump shows the section's bytes",
  },
  "stream.no-size": {
    cause:
      "a section of unknown size: the stream has neither a VMDESCRIPTION that names it nor section footers (machine types before 2.4)",
    cure: "save the stream with machine type 2.4 or newer, without suppress-vmdesc",
  },
  "stream.description": {
    cause: "damage, or a machine property suppress-vmdesc=on (default of machine types before 2.3)",
    cure: "save the stream again with suppress-vmdesc=off: without the VMDESCRIPTION fields have no names",
  },
  "stream.limit": {
    cause: "damage, or a device with extremely large state",
    cure: "use another copy; if it has the same size, raise the limit",
  },
  "stream.configuration": {
    cause: "the stream is damaged, or the writer has a newer version of this section",
    cure: "use another copy, or a newer Wherry",
  },
  "stream.command": {
    cause: "the stream is damaged, or its writer has newer commands",
    cure: "use another copy; QEMU before 10.0 refuses SWITCHOVER_START: send with switchover-ack and multifd off",
  },
  "stream.trailing": {
    cause: "the file was longer before it was overwritten, or several outputs were written to it",
    cure: "nothing needs to be done: QEMU stops reading at the end of the stream",
  },
  "stream.guessed": {
    cause:
      "the stream has no VMDESCRIPTION for this section (postcopy, suppress-vmdesc, an unknown section with parts)",
    cure: "none needed: the ends were found from the bytes that follow; --like names the fields, from a complete stream of the same machine",
  },
  "ram.flags": {
    cause:
      "the length of a previous page was wrong (another target page size), the record is of a newer kind, or damage",
    cure: "use another copy; give the target's page size with --page-size if the stream does not state it",
  },
  "ram.block": {
    cause: "damage: RAM records name only blocks of the list that starts the section",
    cure: "use another copy",
  },
  "ram.range": {
    cause: "damage, or a block that was resized while it was saved",
    cure: "use another copy, or save again",
  },
  "ram.list": {
    cause: "damage, or a capability that adds to the list of RAM blocks and is not known here",
    cure: "use another copy; else save without special capabilities",
  },
  "ram.elsewhere": {
    cause: "with multifd, the pages are sent over separate connections",
    cure: "save to `file:` with mapped-ram and multifd, or without multifd, to have the pages in the file",
  },
  "multifd.packet": {
    cause: "damage, a truncated channel, or a newer QEMU",
    cure: "use another copy of the channel; give the target's page size with --page-size if it is not 4 KiB",
  },
  "opaque.bytes": {
    cause: "a version or variant of the device unknown to its decoder, or damage",
    cure: "none: its bytes are shown undecoded",
  },
  "integrity.differs": {
    cause: "bytes were changed after they were saved",
    cure: "use another copy, or save again",
  },
} as const;

export type ProblemCode = keyof typeof KNOWN;

/** Makes a Problem of a known code. `expected` and `found` complete the message "expected …, found …". */
export function problem(
  code: ProblemCode,
  where: string,
  offset: number | undefined,
  expected: string,
  found: string,
  known: { readonly cause?: string; readonly cure?: string } = {},
): Problem {
  return {
    code,
    where,
    ...(offset === undefined ? {} : { offset }),
    expected,
    found,
    ...KNOWN[code],
    ...known,
  };
}

export function stop(...of: Parameters<typeof problem>): never {
  throw new InspectError(problem(...of));
}
