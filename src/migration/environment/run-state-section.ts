// QEMU's section "globalstate": the run state the machine is to have once it has arrived.
import { decodeUtf8, encodeUtf8, quoted } from "../../base/text.ts";
import type { ByteReader } from "../../base/bytes.ts";
import { MIG_PRI, type Section } from "../../state/section.ts";
import type { RunState } from "../../vmm/run-state.ts";
import { GET_ANOTHER_COPY, MigrationError } from "../../stream/migration-error.ts";
import { GLOBALSTATE_IDSTR, GLOBALSTATE_RUNSTATE_SIZE } from "../../stream/wire.ts";

/** Run states a machine can be moved or saved in. */
const movable: readonly RunState[] = ["running", "paused", "prelaunch", "suspended", "shutdown", "io-error"];

export function isMovable(state: RunState): boolean {
  return movable.includes(state);
}

/**
 * As QEMU writes it: a machine that cannot go on as it was (moved already, or its guest panicked) arrives paused. The
 * rest of the field is QEMU's since 9.0: whether a suspended guest was stopped.
 */
export function qemuGlobalStateSection(loaded: (state: RunState) => void): Section {
  const section = globalStateSection("paused", loaded);
  return {
    ...section,
    decode(reader: ByteReader) {
      const { text } = readRunState(reader);
      return () => loaded(movable.find((state) => state === text) ?? "paused");
    },
  };
}

function readRunState(reader: ByteReader): { size: number; text: string } {
  const size = reader.u32();
  const field = reader.bytes(GLOBALSTATE_RUNSTATE_SIZE);
  const zero = field.indexOf(0);
  return { size, text: decodeUtf8(zero < 0 ? field : field.subarray(0, zero)) };
}

/** `loaded` hears the run state when the section is applied. */
export function globalStateSection(current: RunState, loaded: (state: RunState) => void): Section {
  return {
    idstr: GLOBALSTATE_IDSTR,
    instanceId: 0,
    vmsdName: GLOBALSTATE_IDSTR,
    version: 1,
    minimumVersion: 1,
    priority: MIG_PRI.DEFAULT,
    encode(writer) {
      const name = encodeUtf8(current);
      writer.u32(name.length + 1).bytes(name);
      for (let i = name.length; i < GLOBALSTATE_RUNSTATE_SIZE; i++) writer.u8(0);
    },
    decode(reader: ByteReader) {
      const { size, text } = readRunState(reader);
      const state = movable.find((s) => s === text);
      if (state === undefined || size > GLOBALSTATE_RUNSTATE_SIZE) {
        throw new MigrationError(
          "migration.run-state",
          `globalstate.runstate: expected one of ${movable.join(", ")}, found ${quoted(text)} (size ${size}); ${GET_ANOTHER_COPY}`,
        );
      }
      return () => loaded(state);
    },
    describe: () => ({
      fields: [
        { name: "size", type: "uint32", size: 4 },
        { name: "runstate", type: "buffer", size: GLOBALSTATE_RUNSTATE_SIZE },
      ],
    }),
  };
}
