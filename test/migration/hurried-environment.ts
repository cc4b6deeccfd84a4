// A host on which time-outs of seconds pass in milliseconds, for tests of silence. A time-out is a sequence
// of short waits, each with a turn of the event loop: a test process that was not scheduled for some time
// resumes at one of them, not at the end, and handles the messages that have arrived first.
import type { SetTimer } from "../../src/base/clock.ts";
import {
  defaultEnvironment,
  type MigrationEnvironment,
} from "../../src/migration/environment/migration-environment.ts";

const TIMES_FASTER = 100;
const STEP_MS = 5;

const setTimer: SetTimer = (ms, fire) => {
  let left = ms / TIMES_FASTER;
  let timer: { cancel(): void };
  const step = (): void => {
    const next = Math.min(left, STEP_MS);
    left -= next;
    timer = defaultEnvironment.setTimer(next, left > 0 ? step : fire);
  };
  step();
  return { cancel: () => timer.cancel() };
};

export const hurriedEnvironment: MigrationEnvironment = { ...defaultEnvironment, setTimer };
