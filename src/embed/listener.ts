// A program's listeners (onConsole, onRunState): their faults are not the machine's. One that throws, or
// rejects, is reported on the console of the program once; the machine and the calls that follow go on.
import { runtimeGlobals } from "../base/runtime-globals.ts";

/** Where the listener returns a promise, so does this one: settled at the same time, never rejected. */
export function safeListener<T>(
  name: string,
  listener: ((value: T) => unknown) | undefined,
): (value: T) => Promise<unknown> | undefined {
  let reported = false;
  const report = (error: unknown): void => {
    if (reported) return;
    reported = true;
    runtimeGlobals.console.error(`wherry: ${name} failed (the machine goes on; reported once):`, error);
  };
  return (value) => {
    try {
      const result = listener?.(value);
      return result instanceof Promise ? result.catch(report) : undefined;
    } catch (error) {
      report(error);
      return undefined;
    }
  };
}
