// `wherry trace`: shows the translation of a running machine's code.
import { type Options, parsed, type ValuesOf } from "../options/command-line.ts";
import { controlOptions, withClient } from "./control-commands.ts";
import { address, number } from "../options/option-values.ts";
import { MAX_VCPUS } from "../../hypervisor/shared/memory-map.ts";

export const traceOptions = {
  ...controlOptions,
  cpu: {
    value: "N",
    parse: number(0, MAX_VCPUS - 1),
    help: "the hart whose page tables translate the address (default 0)",
  },
} satisfies Options;

/** Prints the region that is entered at the address, guest assembly next to WebAssembly. */
export function trace(text: string, { qmp, cpu = 0 }: ValuesOf<typeof traceOptions>): Promise<void> {
  const at = parsed("ADDRESS", text, address);
  return withClient(qmp, async (client) => {
    const request = { cpu, address: `0x${at.toString(16)}` };
    const answer = (await client.execute("x-wherry-trace-region", request)) as { text: string };
    process.stdout.write(answer.text);
  });
}
