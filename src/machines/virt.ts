// QEMU's RISC-V `virt` board: the whole machine, wired in one function. Addresses, interrupt numbers, RAM
// block names and the order of sections are QEMU 7.2's. Everything but the interrupt controller, software
// interrupts and timers, which are in the hypervisor half.
import type { Clock, SetTimer } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import type { CharBackend } from "../devices/char-backend.ts";
import { DeviceClock } from "../devices/device-clock.ts";
import { FW_CFG_NB_CPUS, FW_CFG_SIZE, FW_CFG_UUID, FwCfg, fwCfgState } from "../devices/fw-cfg.ts";
import { VirtioConsole } from "../devices/virtio/virtio-console.ts";
import { VirtioNet } from "../devices/virtio/virtio-net.ts";
import { GOLDFISH_RTC_SIZE, GoldfishRtc, goldfishRtcState } from "../devices/goldfish-rtc.ts";
import {
  GpexHost,
  gpexRootState,
  pciBusState,
  pciHostState,
  unclaimedPciWindow,
} from "../devices/gpex-host.ts";
import { type FlashStorage, PflashCfi01, pflashState } from "../devices/pflash-cfi01.ts";
import { Serial, serialState, UART_LSR } from "../devices/serial.ts";
import { SIFIVE_TEST_SIZE, SifiveTest } from "../devices/sifive-test.ts";
import {
  VM_GENERATION_ID_SIZE,
  VmGenerationId,
  type VmGenerationIdParts,
} from "../devices/vm-generation-id.ts";
import { type DiskRecord, diskSection } from "../devices/virtio/disk-section.ts";
import type { VirtioDevice, VirtioBoard } from "../devices/virtio/virtio-device.ts";
import {
  EmptyVirtioMmio,
  VIRTIO_MMIO_INTERRUPT_STATUS,
  VIRTIO_MMIO_QUEUE_NOTIFY,
  VirtioMmio,
} from "../devices/virtio/virtio-mmio.ts";
import { AddressSpace } from "../memory/address-space.ts";
import type { GuestMemory, RamBlock } from "../memory/guest-memory.ts";
import { type IrqLine, LineStatus } from "../memory/irq-line.ts";
import type { StateDefinition } from "../state/schema.ts";
import type { AcceleratorVm, SystemEvent, VmEvents } from "../accelerator/accelerator.ts";
import type { Cpus } from "../vmm/cpus.ts";
import { Machine, type Ownable, type Quiescable } from "../vmm/machine.ts";
import { EXTENSION_NAMES } from "../riscv/extensions.ts";
import { type Section, stateSection } from "../state/section.ts";
import { BootBlock, type BootImages } from "./boot/boot-block.ts";
import { BootError, type Segment } from "./boot/boot-image.ts";
import { identitySection } from "./identity-section.ts";
import type { Irqchip, QemuVirtio } from "./qemu/qemu-parts.ts";
import { QemuProfiles } from "./qemu/qemu-profiles.ts";
import { checkOptions, extensionsIn, optionsState, type StartOptions } from "./start-options.ts";
import type { SaveTime } from "./save-time.ts";
import { type BootOptions, type BootPlan, nextStage, placeImages, planBoot } from "./boot/virt-boot.ts";
import {
  FLASH_SIZE,
  MIB,
  UART_CLOCK_HZ,
  VIRT_IRQ,
  VIRT_MEMMAP,
  VIRTIO_COUNT,
  virtioSlotBase,
  VM_GENERATION,
} from "./boot/virt-map.ts";

const VIRTIO_MMIO_SIZE = 0x200;
const UART_SIZE = 8;
const RNG_SEED_SIZE = 32;
const A0 = 10;
const A1 = 11;

/** The board's real-time clock. */
export interface RtcOptions {
  /**
   * The initial time, in ns since 1970. Default: the host's time. An incoming machine brings its own time.
   */
  readonly baseNs?: bigint | undefined;
  /**
   * The clock that advances it: the host's wall clock (the default), or guest time, which stops with the
   * machine.
   */
  readonly clock?: "host" | "vm" | undefined;
}

export interface VirtOptions extends BootOptions {
  readonly rtc?: RtcOptions;
  /** Guest time counts instructions. */
  readonly countsInstructions?: boolean;
  readonly harts: number;
  /** Bytes of RAM, a multiple of 2 MiB. */
  readonly memorySize: number;
  /** Default: all that a hart has. */
  readonly isaExtensions?: readonly string[];
  /** Default: `riscv,sv57`. */
  readonly mmuType?: string;
  /** virtio-mmio version 1, QEMU's default. Default here: version 2. */
  readonly legacyVirtio?: boolean;
}

// The board does not access its devices' own state.
// oxlint-disable-next-line typescript/no-explicit-any
type AnyVirtioDevice = VirtioDevice<any>;

/** The board's connections to the host. */
export interface VirtBackends {
  readonly clock: Clock;
  readonly setTimer: SetTimer;
  readonly randomBytes: (length: number) => Uint8Array;
  /** Runs a task soon, after pending events of the VMM thread. */
  readonly defer: (task: () => void) => void;
  readonly serial: CharBackend;
  /** At most eight; the first device is in the highest slot, as in QEMU. */
  readonly virtio?: readonly ((board: VirtioBoard) => AnyVirtioDevice)[];
  readonly drives?: readonly (Ownable & { readonly record?: DiskRecord })[];
  /** Shared directories, whose devices are in `virtio`. */
  readonly shares?: readonly VirtShare[];
  /** What a network card is connected to, as far as it is saved. */
  readonly network?: VirtNetwork | undefined;
}

/** A part that is saved with the machine, and active when the machine is here. */
export interface SavedPart extends Ownable {
  readonly section: Section;
}

/** A share, with the state of the guest's files. */
export interface VirtShare extends SavedPart {
  /** Its tag while the guest has it mounted. */
  readonly mounted: string | undefined;
  /** Set by the machine: hears of a share's files that were lost on the way, with the reasons. */
  onStale?: (tag: string, files: readonly string[]) => void;
}

/** A network as a part of the machine. Without `owned`, it keeps nothing for the guest. */
export interface VirtNetwork {
  readonly section: Section;
  /** Has the network while the machine is here. */
  readonly owned?: Ownable | undefined;
}

export interface VirtParts {
  /** Its memory blocks are those of virtRamBlocks, in the same order. */
  readonly vm: AcceleratorVm;
  readonly cpus: Cpus;
  /**
   * Sections of the hypervisor half (vCPUs, timer, interrupt controller). The devices' sections follow them.
   */
  readonly sections: readonly Section[];
  /**
   * Interrupt controller and timer of the hypervisor half. Without it, the machine cannot be moved to or from
   * QEMU.
   */
  readonly irqchip?: Irqchip;
  readonly saveTime: SaveTime;
}

/** The board's RAM blocks in QEMU's order. */
export function virtRamBlocks(
  memorySize: number,
): { name: string; guestPhys: number; size: number; readonly: boolean }[] {
  if (memorySize < 2 * MIB || memorySize % (2 * MIB) !== 0) {
    const found = `${memorySize} bytes`;
    throw new BootError("boot.memory", `memory size: expected a multiple of 2 MiB, found ${found}`);
  }
  const { dram, flash, mrom } = VIRT_MEMMAP;
  return [
    { name: "riscv_virt_board.ram", guestPhys: dram.base, size: memorySize, readonly: false },
    { name: "virt.flash0", guestPhys: flash.base, size: FLASH_SIZE, readonly: true },
    { name: "virt.flash1", guestPhys: flash.base + FLASH_SIZE, size: FLASH_SIZE, readonly: true },
    { name: "riscv_virt_board.mrom", guestPhys: mrom.base, size: mrom.size, readonly: true },
  ];
}

/** How late the event of a wake-up may be. */
const WAKEUP_POLL_MS = 100;

export class VirtMachine extends Machine {
  /** The devices behind the guest's accesses outside RAM. */
  readonly addressSpace = new AddressSpace();
  /** What the next reset starts. */
  boot: BootPlan;
  override carried: BootBlock;
  /** The guest has suspended itself, and nobody has been told that it is awake. */
  #isAsleep = false;
  net: VirtioNet | undefined;

  constructor(parts: VirtParts, boot: BootPlan, carried: BootBlock) {
    super({ name: "virt", vm: parts.vm, memory: parts.vm.memory, cpus: parts.cpus });
    this.boot = boot;
    this.carried = carried;
  }

  override get resetBlocker(): string | undefined {
    const { vm, memory } = this;
    if (this.boot.kernelEntry !== 0 || (!vm.builtinFirmware && nextStage(memory) === undefined))
      return undefined;
    return (
      "this machine came without the kernel that it was started with, as those of QEMU and of older Wherrys do, " +
      "so nothing can be booted: give the kernel (--kernel, --initrd, --append) to the side that it comes to"
    );
  }

  /** Event handlers for the accelerator. */
  events(serial: CharBackend): VmEvents {
    return {
      mmio: this.addressSpace,
      systemEvent: (event) => this.#systemEvent(event),
      consoleWrite(bytes) {
        if (serial.writable === false) return 0;
        serial.write(bytes);
        return bytes.length;
      },
      consoleRead: (max) => serial.read(max),
      internalError: (vcpu, message) =>
        this.crash(vcpu === undefined ? message : `vCPU ${vcpu}: ${message}`, "internal-error"),
    };
  }

  /**
   * A suspended guest needs nothing from the board: its last hart waits for an interrupt in the hypervisor
   * half, which does not tell when one comes.
   */
  watchSuspend(setTimer: SetTimer): void {
    let isPolling = false;
    const poll = (): void => {
      isPolling = this.#isAsleep && this.runState.running;
      if (isPolling && this.isSuspended) setTimer(WAKEUP_POLL_MS, poll);
      else if (isPolling) {
        isPolling = false;
        this.#awake();
      }
    };
    this.onEvent(({ event }) => {
      if (event === "RESET") this.#isAsleep = false;
      else if (!isPolling && ["SUSPEND", "RESUME"].includes(event)) poll();
    });
  }

  override start(): Promise<void> {
    // It may have been saved in its sleep.
    this.#isAsleep ||= !this.runState.running && this.isSuspended;
    return super.start();
  }

  override wakeUp(): void {
    super.wakeUp();
    this.#awake();
  }
  #awake(): void {
    if (!this.#isAsleep) return;
    this.#isAsleep = false;
    this.emit({ event: "WAKEUP" });
  }
  #suspendByGuest(): void {
    this.#awake();
    this.#isAsleep = true;
    this.emit({ event: "SUSPEND" });
  }

  #systemEvent(event: SystemEvent): void {
    if (event === "suspend") this.#suspendByGuest();
    else if (event === "reset") this.resetByGuest();
    else if (event === "shutdown") this.shutdownByGuest("guest-shutdown");
    else if (event === "crash") this.crash("the guest asked for a shutdown after a failure", "shutdown");
  }

  // The guest's request comes during an access whose vCPU waits for the answer, so it is executed soon, not
  // now.

  resetByGuest(): void {
    const blocker = this.resetBlocker;
    if (blocker === undefined) this.#soon(this.reset(true));
    else this.crash(`the guest asked for a reset, and ${blocker}`, "internal-error");
  }
  shutdownByGuest(reason: string): void {
    this.emit({ event: "SHUTDOWN", guest: true, reason });
    this.#soon(this.stop("shutdown"));
  }
  crash(message: string, state: "internal-error" | "shutdown"): void {
    this.emit({ event: "GUEST_PANICKED", message });
    this.#soon(this.stop(state));
  }

  #soon(work: Promise<unknown>): void {
    // Neither the requesting vCPU nor, for long, any other executes further: the last instruction must not
    // depend on the host. If `work` finds the VM destroyed, so does this.
    this.cpus.pauseAll().catch(() => {});
    work.catch((error: unknown) => this.emit({ event: "GUEST_PANICKED", message: messageOf(error) }));
  }
}

/**
 * Throws BootError if an image is unusable or does not fit. Call `initialize` on the machine before starting
 * it.
 */
export function createVirtMachine(
  options: VirtOptions,
  parts: VirtParts,
  backends: VirtBackends,
): VirtMachine {
  const { vm, cpus } = parts;
  const { memory } = vm;
  let isaExtensions = options.isaExtensions ?? EXTENSION_NAMES;
  const hardware = {
    harts: options.harts,
    memorySize: options.memorySize,
    mmuType: options.mmuType ?? "riscv,sv57",
    timebaseHz: vm.clock.frequencyHz,
  };
  const plan = (images: BootImages, isa: readonly string[], rtcClock: "host" | "vm", areOwn = false) => {
    const block = new BootBlock(images, 2 * options.memorySize, areOwn);
    const builtinFirmware = block.images.firmware === undefined;
    const boot = planBoot(block.images, { ...hardware, builtinFirmware, isaExtensions: isa });
    return { block, boot, isa, rtcClock, builtinFirmware };
  };
  const { baseNs, clock: givenRtcClock } = options.rtc ?? {};
  let rtcClock = givenRtcClock ?? (options.countsInstructions === true ? "vm" : "host");
  const first = plan(placeImages(options, options.memorySize), isaExtensions, rtcClock);
  const given = first.block.images;
  const machine = new VirtMachine(parts, first.boot, first.block);
  const take = (planned: typeof first): void => {
    isaExtensions = planned.isa;
    rtcClock = planned.rtcClock;
    machine.boot = planned.boot;
    machine.carried = planned.block;
    if (vm.builtinFirmware !== planned.builtinFirmware) vm.setBuiltinFirmware(planned.builtinFirmware);
    cpus.resetVector = BigInt(vm.builtinFirmware ? planned.boot.kernelEntry : VIRT_MEMMAP.mrom.base);
  };
  take(first);
  machine.watchSuspend(backends.setTimer);
  const startOptions = (): StartOptions => ({
    isa: { names: isaExtensions, isGiven: options.isaExtensions !== undefined },
    rtc: { clock: rtcClock, isGiven: givenRtcClock !== undefined },
    net: machine.net,
  });
  machine.addSection(
    identitySection({
      insistsOnBuiltin: options.firmware === "builtin",
      own: () => ({ harts: options.harts, builtinFirmware: vm.builtinFirmware }),
      saveTime: parts.saveTime,
      boot: () => machine.carried,
      options: () => optionsState(startOptions()),
      plan: (state) => {
        const hasOptions = state.isaLength !== 0;
        if (hasOptions) checkOptions(state, startOptions());
        if (state.hasMac) machine.net?.expectAddress(state.mac);
        const isa = hasOptions ? extensionsIn(state) : isaExtensions;
        const clock = hasOptions ? (state.rtcFollowsGuest ? "vm" : "host") : rtcClock;
        if (state.hasBoot === 0) return plan(given, isa, clock, true);
        // What is given here takes the place of what comes: a kernel with its ramdisk and command line.
        const came = first.block.imagesIn(state, (at, page) => memory.read(at, page));
        const { firmware = came.firmware } = given;
        const images = given.kernel === undefined ? { ...came, firmware } : { ...given, firmware };
        return plan(images, isa, clock, true);
      },
      take,
    }),
  );
  vm.createIrqchip(VIRT_MEMMAP);
  const space = machine.addressSpace;
  const irq = (source: number): IrqLine => ({ set: (level) => vm.irqLine(source, level) });
  const guestTimeNs = (): bigint => (vm.clock.read() * 1_000_000_000n) / BigInt(vm.clock.frequencyHz);
  const guestClock = new DeviceClock(guestTimeNs, backends.setTimer);
  const wallClock = new DeviceClock(
    () => (rtcClock === "vm" ? guestTimeNs() : backends.clock.wallNs()),
    backends.setTimer,
  );
  for (const clock of [guestClock, wallClock]) {
    machine.devices.push({ quiesce: async () => clock.stop(), unquiesce: () => clock.start() });
  }
  for (const section of parts.sections) machine.addSection(section);
  const addState = <T>(
    definition: StateDefinition<T>,
    state: T,
    afterLoad: () => void = () => {},
    idstr = definition.name,
    instanceId = 0,
  ): void => machine.addSection(stateSection(definition, state, { idstr, instanceId, afterLoad }));

  const pci = new GpexHost();
  space.add("pcie-ecam", VIRT_MEMMAP.pcieEcam.base, VIRT_MEMMAP.pcieEcam.size, pci);
  for (const window of ["pciePio", "pcieMmio", "pcieMmioHigh"] as const) {
    space.add(window, VIRT_MEMMAP[window].base, VIRT_MEMMAP[window].size, unclaimedPciWindow);
  }
  machine.devices.push(pci);
  addState(gpexRootState, pci.root, undefined, "0000:00:00.0/gpex_root");
  addState(pciHostState, pci.host);
  addState(pciBusState, pci.bus);

  const serial = new Serial({
    backend: backends.serial,
    irq: irq(VIRT_IRQ.UART0),
    clock: guestClock,
    clockHz: UART_CLOCK_HZ,
    // A driver reads LSR before each byte that it sends.
    lsrShadow: vm.shadowRead?.(VIRT_MEMMAP.uart0.base + UART_LSR),
  });
  space.add("serial", VIRT_MEMMAP.uart0.base, UART_SIZE, serial);
  // THR is the most expensive register, with one exit for each byte. A driver polls LSR for its effect.
  vm.coalesceMmio?.(VIRT_MEMMAP.uart0.base, 1);
  machine.devices.push(serial);
  addState(serialState, serial.state, () => serial.afterLoad());

  const rtc = new GoldfishRtc({ irq: irq(VIRT_IRQ.RTC), wallClock });
  if (rtcClock === "vm" || baseNs !== undefined) rtc.setTime(baseNs ?? backends.clock.wallNs());
  space.add("goldfish_rtc", VIRT_MEMMAP.rtc.base, GOLDFISH_RTC_SIZE, rtc);
  machine.devices.push(rtc);
  addState(goldfishRtcState, rtc.state, () => rtc.afterLoad());

  for (const i of [0, 1]) {
    const block = blockOf(memory, `virt.flash${i}`);
    const flash = new PflashCfi01(flashStorage(vm, memory, block));
    space.add(block.name, block.guestPhys, block.size, flash);
    machine.devices.push(flash);
    addState(pflashState, flash.state, () => flash.afterLoad(), pflashState.name, i);
  }

  const test = new SifiveTest({
    shutdown: (code) => machine.shutdownByGuest(code === 0 ? "guest-shutdown" : `guest-failure ${code}`),
    reset: () => machine.resetByGuest(),
  });
  space.add("sifive_test", VIRT_MEMMAP.test.base, SIFIVE_TEST_SIZE, test);

  const shares = backends.shares ?? [];
  // Before the devices: a machine without the share is refused by the share's name.
  for (const share of shares) {
    machine.drives.push(share);
    share.onStale = (tag, files) => machine.emit({ event: "X_WHERRY_SHARE_STALE", tag, files });
    machine.addSection(share.section);
  }
  const virtio = addVirtio(machine, backends, irq, options.legacyVirtio ?? false);

  const fwCfg = new FwCfg(memory);
  fwCfg.add(FW_CFG_UUID, new Uint8Array(16));
  fwCfg.addU16(FW_CFG_NB_CPUS, options.harts);
  fwCfg.addFile("bios-geometry", new Uint8Array(0));
  fwCfg.addFile("bootorder", new Uint8Array(0));
  fwCfg.addFile("etc/boot-fail-wait", Uint8Array.of(0xff, 0xff, 0xff, 0xff));
  space.add("fw_cfg", VIRT_MEMMAP.fwCfg.base, FW_CFG_SIZE, fwCfg);
  machine.devices.push(fwCfg);
  addState(fwCfgState, fwCfg.state);

  if (parts.irqchip !== undefined) {
    machine.qemu = new QemuProfiles({
      machine,
      cpus,
      irqchip: parts.irqchip,
      memorySize: options.memorySize,
      get isaExtensions() {
        return isaExtensions;
      },
      legacyVirtio: options.legacyVirtio ?? false,
      get rtcClock() {
        return rtcClock;
      },
      virtio,
      mountedShares: () => shares.flatMap(({ mounted }) => mounted ?? []),
      images: () => machine.carried.images,
      fwCfg: fwCfg.state,
      serial: { state: serial.state, update: () => serial.afterLoad() },
      rtcLoaded(virtual, guestTime) {
        const host = backends.clock.wallNs();
        rtc.fromQemu({ virtual, host, base: rtcClock === "vm" ? guestTime : host });
      },
    });
  }

  const generation = new VmGenerationId({
    rom: generationRom(memory),
    interrupt: () => vm.irqEdge(VIRT_IRQ.VM_GENERATION),
    randomBytes: backends.randomBytes,
  });
  machine.onRestored = (clock) => {
    generation.renew();
    return clock === "host" ? parts.saveTime.catchUp(vm.clock) : undefined;
  };

  for (const [i, drive] of (backends.drives ?? []).entries()) {
    machine.drives.push(drive);
    machine.addSection(diskSection(i, drive.record));
  }
  const { network } = backends;
  if (network !== undefined) {
    machine.addSection(network.section);
    // The last: it cannot fail.
    if (network.owned !== undefined) machine.drives.push(network.owned);
  }
  let arriving = options.incoming === true;
  machine.onReset = () => {
    // The guest will load its programs anew, and elsewhere.
    memory.dropCode();
    if (!arriving) {
      generation.create();
      for (const segment of machine.boot.segments) writeSegment(memory, segment);
      writeSegment(memory, machine.boot.deviceTree(backends.randomBytes(RNG_SEED_SIZE)));
    }
    arriving = false;
    if (!vm.builtinFirmware) return;
    for (const cpu of cpus.all) {
      cpu.state.x[A0] = BigInt(cpu.id);
      cpu.state.x[A1] = BigInt(machine.boot.fdtAddress);
    }
  };
  vm.setEvents(machine.events(backends.serial));
  return machine;
}

function addVirtio(
  machine: VirtMachine,
  backends: VirtBackends,
  irq: (source: number) => IrqLine,
  legacy: boolean,
): QemuVirtio[] {
  const carried: QemuVirtio[] = [];
  const devices = backends.virtio ?? [];
  if (devices.length > VIRTIO_COUNT) {
    throw new BootError(
      "boot.virtio",
      `${devices.length} virtio devices: the board has ${VIRTIO_COUNT} slots`,
    );
  }
  const board: VirtioBoard = {
    memory: machine.memory,
    defer: backends.defer,
    expectMore: () => machine.vm.expectDoorbell?.(),
    legacy,
  };
  for (let slot = VIRTIO_COUNT - 1; slot >= 0; slot--) {
    const guestPhys = virtioSlotBase(slot);
    const make = devices[VIRTIO_COUNT - 1 - slot];
    if (make === undefined) {
      machine.addressSpace.add(
        `virtio-mmio.${slot}`,
        guestPhys,
        VIRTIO_MMIO_SIZE,
        new EmptyVirtioMmio(legacy),
      );
      continue;
    }
    const device = make(board);
    if (device instanceof VirtioNet) machine.net ??= device;
    const source = VIRT_IRQ.VIRTIO + slot;
    const interruptStatus =
      machine.vm.interruptStatus?.(guestPhys + VIRTIO_MMIO_INTERRUPT_STATUS, source) ??
      new LineStatus(irq(source));
    const transport = new VirtioMmio({ device, interruptStatus, guestPhys });
    machine.addressSpace.add(`virtio-mmio.${slot}`, guestPhys, VIRTIO_MMIO_SIZE, transport);
    for (const i of device.queues.keys()) {
      machine.vm.ioeventfd(guestPhys + VIRTIO_MMIO_QUEUE_NOTIFY, i, () => transport.notify(i));
    }
    machine.devices.push(transport satisfies Quiescable);
    machine.addSection(transport.section);
    carried.push({
      kind: device.kind.name,
      queues: device.kind.queues.map(({ size }) => size),
      queueSizes: () => device.queues.map(({ state }) => state.num),
      offeredFeatures: device.offeredFeatures,
      guestFeatures: () => device.state.guestFeatures,
      ports: device instanceof VirtioConsole ? device.portNames : undefined,
    });
  }
  return carried;
}

function blockOf(memory: GuestMemory, name: string): RamBlock {
  const block = memory.blockByName(name);
  if (block === undefined)
    throw new BootError("boot.memory", `guest memory has no block ${name}: see virtRamBlocks`);
  return block;
}

function flashStorage(vm: AcceleratorVm, memory: GuestMemory, block: RamBlock): FlashStorage {
  const slot = memory.blocks.indexOf(block);
  let direct = true;
  return {
    size: block.size,
    read: (offset) => memory.bytes[block.hostOffset + offset] ?? 0xff,
    write: (offset, bytes) => memory.writeBlock(block, offset, bytes),
    setDirectRead(on) {
      if (on === direct) return;
      direct = on;
      vm.setMemorySlot(slot, on);
    },
  };
}

function generationRom(memory: GuestMemory): VmGenerationIdParts["rom"] {
  const block = blockOf(memory, "riscv_virt_board.mrom");
  const offset = VM_GENERATION.base - block.guestPhys;
  const at = block.hostOffset + offset;
  return {
    read: () => memory.bytes.slice(at, at + VM_GENERATION_ID_SIZE),
    write: (id) => memory.writeBlock(block, offset, id),
  };
}

function writeSegment(memory: GuestMemory, segment: Segment): void {
  const { guestPhys, bytes, memorySize } = segment;
  const block = memory.blockAt(guestPhys, memorySize);
  if (block === undefined) throw new BootError("boot.memory", `no RAM at ${guestPhys}+${memorySize}`);
  memory.writeBlock(block, guestPhys - block.guestPhys, bytes);
  memory.zeroBlock(block, guestPhys - block.guestPhys + bytes.length, memorySize - bytes.length);
}
