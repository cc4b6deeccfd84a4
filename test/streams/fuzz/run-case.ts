// One case: the inspector reads its bytes, and every other time the loader does.
import type { Case } from "./mutate.ts";
import { fuzzMachine } from "./machines.ts";
import { inspect, load } from "./targets.ts";

/** Throws if something is found. */
export async function runCase({ index, bytes, seed }: Case): Promise<{ whole: boolean; loaded: boolean }> {
  const { problem } = await inspect(bytes);
  const machine = seed.name.startsWith("own")
    ? fuzzMachine(false)
    : index % 2 === 0
      ? fuzzMachine(true)
      : undefined;
  const loaded = machine !== undefined && (await load(bytes, machine));
  return { whole: problem === undefined, loaded };
}
