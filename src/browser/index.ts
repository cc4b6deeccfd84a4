// Entry `wherry/browser`: machines in a page. Needs cross-origin isolation (docs/browser.md).
export { WherryError } from "../base/errors.ts";
export type { GuestEnd } from "../host/machine-end.ts";
export type { RunState } from "../vmm/run-state.ts";
export { type BrowserMachine, createMachine, type MachineOptions } from "./browser-machine.ts";
