// Entry `wherry`: the machine without a platform. Node and browsers have `wherry/node` and `wherry/browser`;
// for another one implement Platform, and call `runVcpu` and `runTranslator` in the threads it starts.
export type { CallOptions, Signal } from "./base/abort.ts";
export type { Clock, MonotonicNs, SetTimer, WallClockNs } from "./base/clock.ts";
export { messageOf, WherryError } from "./base/errors.ts";
export { type BlockFile, MemoryFile } from "./block/block-file.ts";
export type { BlockImage, Extent, ImageFormat } from "./block/block-image.ts";
export { type FetchRange, HttpFile, type RangeResponse } from "./block/http-file.ts";
export { ImageBackend } from "./block/images/image-backend.ts";
export { type ImageStore, openImage, type OpenOptions } from "./block/images/open-image.ts";
export { createQcow2, type Qcow2Options } from "./block/qcow2/qcow2-create.ts";
export type { ClusterCodec } from "./block/qcow2/cluster-codec.ts";
export type { CharBackend } from "./devices/char-backend.ts";
export type { BlockBackend } from "./devices/virtio/block-backend.ts";
export type { DiskRecord, DiskState } from "./devices/virtio/disk-section.ts";
export type { FrameOffload } from "./devices/virtio/frames/frame-segments.ts";
export type { NetBackend, OffloadsTaken } from "./devices/virtio/net-backend.ts";
export type { MachineConfig } from "./embed/create-machine.ts";
export type { EngineConfig } from "./embed/create-vm.ts";
export type { HostPlatform, Platform } from "./embed/platform.ts";
export { HostedMachine, type HostedMachineOptions } from "./embed/hosted-machine.ts";
export type { GuestEnd } from "./embed/machine-end.ts";
export { MemorySink, pieceChannel } from "./embed/memory-snapshot.ts";
export { runTranslator, type TranslatorThreadData } from "./embed/run-translator.ts";
export { runVcpu, type VcpuThreadData } from "./embed/run-vcpu.ts";
export type { Service9p } from "./devices/virtio/virtio-9p.ts";
export type { SerialPort } from "./devices/virtio/virtio-console.ts";
export type { NetPart, SharePart, VirtioParts } from "./embed/virtio-parts.ts";
export type { EngineParts } from "./hypervisor/interpreter/engine-parts.ts";
export type { EngineKind } from "./hypervisor/shared/engine-kind.ts";
export type { IcountOptions } from "./hypervisor/requests/instruction-clock.ts";
export type { TranslationOptions } from "./hypervisor/shared/translation-options.ts";
export type { BeforeCompile } from "./hypervisor/translator/translations.ts";
export type { VcpuHost, VcpuPlatform } from "./hypervisor/vcpu/vcpu-thread.ts";
export type { ThreadHandle } from "./hypervisor/vm/vm.ts";
export type { PackedFormat } from "./machines/boot/packed-kernel.ts";
export type { RtcOptions, SavedPart, VirtShare } from "./machines/virt.ts";
export type { MigrationEnvironment } from "./migration/environment/migration-environment.ts";
export type {
  Compression,
  CompressionMethod,
  Compressor,
  Decompressor,
} from "./migration/environment/page-compression.ts";
export type { SnapshotResult } from "./migration/snapshot/snapshot.ts";
export type { Channel, SnapshotSink } from "./stream/channel.ts";
export type { Ownable, RestoreClock } from "./vmm/machine.ts";
export type { ByteReader, ByteWriter } from "./base/bytes.ts";
export type { Section } from "./state/section.ts";
export type { RunState } from "./vmm/run-state.ts";
export type { WasmMemory, WasmModule } from "./base/runtime-globals.ts";
