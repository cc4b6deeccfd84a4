// Entry `wherry`: the machine without a host. For Node and browsers there are `wherry/node` and `wherry/browser`; with
// this one it can be joined to another platform: implement HostPlatform, and call `runVcpu` and `runTranslator` in the
// threads it starts.
export type { Clock, SetTimer } from "./base/clock.ts";
export { messageOf, WherryError } from "./base/errors.ts";
export { type CharBackend, CharPipe } from "./devices/char-backend.ts";
export type { BlockBackend } from "./devices/virtio/block-backend.ts";
export { VirtioBlk } from "./devices/virtio/virtio-blk.ts";
export { VirtioNet } from "./devices/virtio/virtio-net.ts";
export { VirtioRng } from "./devices/virtio/virtio-rng.ts";
export {
  type CreatedMachine,
  createMachine,
  type MachineConfig,
  type MachineDevices,
} from "./host/create-machine.ts";
export { HostedMachine, type HostedMachineOptions } from "./host/hosted-machine.ts";
export type { GuestEnd } from "./host/machine-end.ts";
export { MemorySink, pieceChannel } from "./host/memory-snapshot.ts";
export type { HostPlatform } from "./host/host-platform.ts";
export { runTranslator, type TranslatorThreadData } from "./host/run-translator.ts";
export { runVcpu, type VcpuThreadData } from "./host/run-vcpu.ts";
export type { EngineKind } from "./hypervisor/shared/engine-kind.ts";
export type { ThreadHandle } from "./hypervisor/vm/vm.ts";
export type { Channel, SnapshotSink } from "./stream/channel.ts";
export { loadSnapshot, type SnapshotResult, saveSnapshot } from "./migration/snapshot/snapshot.ts";
export type { MachineEvent } from "./vmm/machine.ts";
export type { RunState } from "./vmm/run-state.ts";
