// Entry `wherry/browser`: machines in a page. Needs cross-origin isolation (docs/browser.md).
export { WherryError } from "../base/errors.ts";
export type { MachineConfig } from "../embed/create-machine.ts";
export type { EngineConfig } from "../embed/create-vm.ts";
export type { GuestEnd } from "../embed/machine-end.ts";
export type { EngineKind } from "../hypervisor/shared/engine-kind.ts";
export type { IcountOptions } from "../hypervisor/requests/instruction-clock.ts";
export type { RtcOptions } from "../machines/virt.ts";
export type { RestoreClock } from "../vmm/machine.ts";
export type { RunState } from "../vmm/run-state.ts";
export {
  type BrowserMachine,
  createMachine,
  type MachineHardware,
  type MemoryShare,
  type MachineOptions,
} from "./browser-machine.ts";
