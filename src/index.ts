// Entry `wherry`: the machine without a host. Node and browsers have `wherry/node` and `wherry/browser`; for
// another platform implement HostPlatform, and call `runVcpu` and `runTranslator` in the threads it starts.
export type { Clock, MonotonicNs, SetTimer, WallClockNs } from "./base/clock.ts";
export { messageOf, WherryError } from "./base/errors.ts";
export type { CharBackend } from "./devices/char-backend.ts";
export type { BlockBackend } from "./devices/virtio/block-backend.ts";
export type { NetBackend } from "./devices/virtio/net-backend.ts";
export type { MachineConfig } from "./host/create-machine.ts";
export type { EngineConfig } from "./host/create-vm.ts";
export type { HostPlatform } from "./host/host-platform.ts";
export { HostedMachine, type HostedMachineOptions } from "./host/hosted-machine.ts";
export type { GuestEnd } from "./host/machine-end.ts";
export { MemorySink, pieceChannel } from "./host/memory-snapshot.ts";
export { runTranslator, type TranslatorThreadData } from "./host/run-translator.ts";
export { runVcpu, type VcpuThreadData } from "./host/run-vcpu.ts";
export type { VirtioParts } from "./host/virtio-parts.ts";
export type { EngineKind } from "./hypervisor/shared/engine-kind.ts";
export type { IcountOptions } from "./hypervisor/requests/instruction-clock.ts";
export type { TranslationOptions } from "./hypervisor/translator/translation-thread.ts";
export type { BeforeCompile } from "./hypervisor/translator/translations.ts";
export type { VcpuHost } from "./hypervisor/vcpu/vcpu-thread.ts";
export type { ThreadHandle } from "./hypervisor/vm/vm.ts";
export type { RtcOptions } from "./machines/virt.ts";
export type { MigrationEnvironment } from "./migration/environment/migration-environment.ts";
export type {
  Compression,
  CompressionMethod,
  Compressor,
  Decompressor,
} from "./migration/environment/page-compression.ts";
export type { SnapshotResult } from "./migration/snapshot/snapshot.ts";
export type { Channel, SnapshotSink } from "./stream/channel.ts";
export type { RunState } from "./vmm/run-state.ts";
export type { WasmMemory, WasmModule } from "./base/host-globals.ts";
