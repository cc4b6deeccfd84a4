// QEMU's section "globalstate" (migration/global_state.c): the machine's run state before it was stopped, as
// a string in a field of fixed size. Left out: the flags that 9.0 and later write at the end of the field
// (whether a suspended guest was stopped).
import { decodeUtf8, encodeUtf8 } from "../base/text.ts";
import { buffer, qemuState, type StateOf, u32 } from "../state/schema.ts";

export const RUNSTATE_BYTES = 100;

export const globalState = qemuState(
  "globalstate",
  { version: 1 },
  { size: u32, runstate: buffer(RUNSTATE_BYTES) },
);

export function encodeRunState(name: string): StateOf<typeof globalState> {
  const bytes = encodeUtf8(name);
  const state = globalState.create();
  state.size = bytes.length + 1;
  state.runstate.set(bytes);
  return state;
}

export function decodeRunState({ runstate }: StateOf<typeof globalState>): string {
  const zero = runstate.indexOf(0);
  return decodeUtf8(zero < 0 ? runstate : runstate.subarray(0, zero));
}
