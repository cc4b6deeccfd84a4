// QEMU's messages about devices that refuse their state: virtio and vhost, PCI, and devices of single boards.
import { featureCure } from "../check/check-virtio.ts";
import { CHECK, type ComplaintTable, type Explanation, INSPECT, type Words } from "./complaint-formats.ts";
import { virtioType } from "../decode/virtio-devices.ts";
import { featureNames } from "../decode/virtio-features.ts";

export const DEVICES: ComplaintTable = {
  // --- virtio
  "complaint.features": {
    says: [
      "Features 0x{found:x} unsupported. Allowed features: 0x{allowed:x}",
      "Features 0x{found:x} unsupported. Allowed features:",
      "Features 0x{found:x} unsupported",
    ],
    expected: "features within those that the target's device offers",
    found: "0x{found}",
    cause:
      "the guest uses virtio features that the target's device does not offer: other properties, another release or machine type, or another backend (a tap without vnet_hdr, a vhost without the feature)",
    cure: "give the device the same properties, backend and machine type on both sides",
    explain: features,
  },
  "complaint.queue-index": {
    says: [
      "VQ {queue:d} size 0x{size:x} Guest index 0x{guest:x} inconsistent with Host index 0x{host:x}",
      "VQ {queue:d} size 0x{size:x} < last_avail_idx 0x{host:x} - used_idx 0x{used:x}",
    ],
    where: "VQ {queue}",
    expected: "a guest index within 0x{size} of 0x{host}",
    found: "0x{guest}",
    cause:
      "the device's state and the guest's memory are inconsistent: memory was written after the device was saved (by vhost or another backend that kept running), the RAM is not this stream's (x-ignore-shared, another file), or the ring's address was read wrongly (IOMMU loaded after the device)",
    cure: "save with the guest stopped and vhost=off; load RAM and devices that were saved together; `wherry check` reports the queue and both indexes; if the guest runs nevertheless, bind the device's driver again",
    explain: ({ guest, size }) =>
      guest === undefined ? { expected: `at most 0x${size} requests in use`, found: "more" } : {},
  },
  "complaint.queue-address": {
    says: "VQ {queue:d} address 0x0 inconsistent with Host index 0x{host:x}",
    where: "VQ {queue}",
    expected: "a queue with an address, or index 0",
    found: "no address, index 0x{host}",
    cause:
      "the transport's or the device's state was read with a layout that is not the writer's, or is damaged",
    cure: `use the same device properties (disable-modern, disable-legacy, queues) on both sides; ${CHECK}`,
  },
  "complaint.queue-size": {
    says: [
      "VQ {queue:d} vring.num {found:d} exceeds allocated max {wanted:d}",
      "virtio: queue {queue:d} size {found:d} exceeds max size {wanted:d}",
    ],
    expected: "a queue {queue} of at most {wanted} entries",
    found: "{found} entries",
    cause: "the target's device has a smaller queue than the source's",
    cure: "give the target's device the source's size: queue-size={found} (virtio-blk), virtqueue_size={found} (virtio-scsi), rx_queue_size and tx_queue_size (virtio-net)",
  },
  "complaint.queue-count": {
    says: [
      "Invalid number of virtqueues: 0x{found:x}",
      "Invalid number of virtqueues: {found:x}",
      "Invalid queue number",
    ],
    expected: "at most 1024 queues",
    found: "0x{found}",
    cause: "the device's state was read with a layout that is not the writer's, or is damaged",
    cure: `give the device the same properties on both sides; ${INSPECT}`,
  },
  "complaint.vnet-header": {
    says: [
      "virtio-net: saved image requires vnet_hdr=on",
      "virtio-net: saved image requires TUN_F_UFO support",
    ],
    expected: "a network backend that passes virtio-net's headers (and UFO)",
    found: "one that does not",
    cause:
      "the source's backend was a tap with offloads, the target's is another (user, socket, bridge helper without vnet_hdr), or its kernel no longer offers UFO",
    cure: "use the same kind of backend on both sides: -netdev tap,vnet_hdr=on; or start the source's guest with guest_ufo=off,host_ufo=off",
  },
  "complaint.queue-pairs": {
    says: [
      "virtio-net: curr_queue_pairs {found:x} > max_queue_pairs {wanted:x}",
      "virtio-net: curr_queues {found:x} > max_queues {wanted:x}",
    ],
    expected: "at most {wanted} pairs of queues",
    found: "{found}",
    cause: "the guest uses more pairs of queues than the target's network backend has",
    cure: "give the target -netdev tap,queues={found} (libvirt: <driver queues='{found}'/>) and mq=on, as on the source",
  },
  "complaint.rss": {
    says: [
      "virtio-net: saved image has invalid RSS indirections_len",
      "Can't post-load eBPF RSS",
      "Can't load eBPF RSS",
    ],
    expected: "receive-side scaling as on the source",
    found: "another",
    cause: "the target's backend or kernel has no eBPF for RSS, or the stream is damaged",
    cure: "use the same kernel and backend on both sides, or rss=off on the source before its guest starts",
  },
  "complaint.virtio-config": {
    says: ["Unable to load config", "virtio: Queue has no space", "Invalid config len"],
    expected: "a configuration of the device's length",
    found: "another",
    cause: "the device has another number of queues, scanouts or properties on the two sides",
    cure: `give the device the same properties and machine type on both sides; ${CHECK}`,
  },
  "complaint.virtio-mem": {
    says: ["Property '{name}' changed from {found:w} to {wanted:w}"],
    where: "virtio-mem",
    expected: "{name} {wanted}, as the target was started with",
    found: "{found}",
    cause:
      "virtio-mem's size, address or block size was changed on the source, or the target was started with other values",
    cure: "start the target with the source's present value (qom-get, or query-memory-devices on the source): {name}={found}",
  },
  "complaint.ram-discard": {
    says: [
      "cannot disable RAM discard",
      "Cannot set discarding of RAM broken",
      "Failed to discard RAM range",
      "Unable to set RAM discard",
      "Failed to prepare for RAM discard",
    ],
    where: "memory",
    expected: "memory that can (or need not) be given back to the host",
    found: "the reverse",
    cause:
      "two features disagree about ballooned and hot-unplugged memory: VFIO and RDMA forbid to give memory back, a balloon and virtio-mem need it; or the backend cannot be populated",
    cure: "take one of both away (RDMA: rdma-pin-all off; virtio-mem with VFIO needs QEMU 6.1 and newer), or give the backend enough memory",
  },
  "complaint.guest-ring": {
    says: [
      "id {id:d} is not a head!",
      "Guest moved used index from",
      "Virtqueue size exceeded",
      "Looped descriptor",
      "virtio: bogus descriptor or out of resources",
    ],
    where: "a virtqueue",
    expected: "rings in guest memory that agree with the device",
    found: "rings that do not",
    cause:
      "memory and device are of different moments, as after a restore of RAM without its devices, a backend that wrote after the save, or a target whose queue is placed elsewhere; in the guest's log it means that the device answered what the driver did not ask",
    cure: "save and load RAM and devices together, with the guest stopped; bind the device's driver again in the guest (unbind, bind), or reboot it",
  },

  // --- vhost
  "complaint.vhost": {
    says: [
      "vhost_set_features failed",
      "vhost_set_vring_{name:w} failed",
      "vhost_set_mem_table failed",
      "vhost_set_log_base failed",
      "vhost VQ {queue:d} ring restore failed",
      "vhost VQ {queue:d} notifier",
      "vhost-user device expecting VHOST_USER_PROTOCOL_F_CONFIG",
      "Failed to set msg fds",
      "Failed to read msg header",
      "vhost initialization failed",
      "unable to start vhost net",
      "vhost-{name:w}: vhost start failed",
      "vhost-net requested but could not be initialized",
      "Failed to get postcopy_advise reply from vhost",
      "Failed to send postcopy_{name:w} to vhost",
      "failed to receive valid ack for postcopy set-mem-table",
      "failed to respond to set-mem-table for postcopy",
      "Regions already registered at postcopy-listen",
      "inflight buffer subsection has not been loaded",
      "invalid postcopy reply for region",
    ],
    rank: "probable",
    where: "vhost",
    expected: "a vhost backend that takes the guest's features and rings",
    found: "a refusal",
    cause:
      "the host's kernel (vhost-net, vhost-vsock) or the vhost-user program lacks a feature that the guest uses, is older than the source's, or has ended",
    cure: "use the same kernel and backend program on both hosts; look into the backend's own log; or vhost=off on both sides",
  },
  "complaint.vhost-state": {
    says: [
      "Back-end does not support migration state transfer",
      "Back-end did not accept migration state transfer",
      "Error loading back-end state of {name:w}",
      "Error loading  back-end state of {name:w}",
      "Back-end failed to process its internal state",
      "does not support migration through qemu",
      "vhost transport does not support migration state transfer",
    ],
    where: "vhost-user backend",
    expected: "a backend that can give and take its own state",
    found: "one that cannot, or that refused",
    cause:
      "virtiofsd and others keep state of their own, which needs VHOST_USER_PROTOCOL_F_DEVICE_STATE on both sides",
    cure: "use virtiofsd 1.11 or newer with --migration-mode find-paths (and the same shared directory) on both hosts, QEMU 9.0 or newer; or unmount the file system and unplug the device before the migration",
  },

  "complaint.vfio-state": {
    says: [
      "Failed to mmap VFIO migration region",
      "Failed to setup VFIO migration region",
      "Invalid zero-sized VFIO migration region",
      "VFIO migration init failed",
      "Multifd device transfer requested but unsupported in the current config",
      "got DEV_CONFIG_STATE in main migration channel but doing multifd transfer",
      "got DEV_CONFIG_LOAD_READY",
      "duplicate DEV_CONFIG_LOAD_READY",
      "got device state packet but not doing multifd transfer",
      "multifd: received empty device state packet",
      "multifd: received SYNC device state packet",
      "unterminated multifd device state idstr",
      "Failed to load device config space",
      "Failed loading device config space, end flag incorrect",
      "queuing state buffer {buffer:d} would exceed the size max",
      "qemu_loadvm_approve_switchover failed",
    ],
    where: "VFIO device",
    expected: "a device of the host that takes the other's state, in the same way of transfer",
    found: "a refusal, or another way",
    cause:
      "the two hosts' devices have other firmware or drivers, the state is larger than the target allows, or x-migration-multifd-transfer is on at one side only",
    cure: "use the same device, firmware, kernel and vfio properties (x-migration-multifd-transfer, x-migration-max-queued-buffers-size) on both sides, and the same release; the kernel's log has the driver's reason",
  },
  "complaint.failover": {
    says: [
      "migration: partially unplugged device on failure",
      "Virtio-net failover will not work",
      "failover primary device",
    ],
    where: "virtio-net failover",
    expected: "a primary device that the guest lets go before the migration",
    found: "one that it does not",
    cause:
      "the guest's driver does not release the passed-through card, or failover_pair_id= names another virtio-net",
    cure: "give the card failover_pair_id=ID of a virtio-net with failover=on, and a guest with net_failover (Linux 4.17 and newer)",
  },
  "complaint.dbus-vmstate": {
    says: [
      "Required VMState Id are missing: {name:rest}",
      "VMState Id '{name}' is invalid",
      "Duplicated VMState Id '{name}'",
      "VMState Id property is missing",
      "Invalid vmstate size",
      "DBus vmstate buffer is too large",
      "Too large vmstate data to save",
      "Invalid DBus vmstate proxy name",
      "Not enough data available to load for Id: '{name}'",
    ],
    where: "dbus-vmstate",
    expected: "the helper programs whose state the stream has",
    found: "{name}",
    cause:
      "a helper (slirp-helper, a vhost-user program) that saves its state over D-Bus is missing on one side, or has more than 1 MiB",
    cure: "start the same helpers on both sides, on the bus of -object dbus-vmstate,addr=, with the same ids",
    explain: ({ name }) => (name === undefined ? { found: "another, or too large a state" } : {}),
  },
  "complaint.display": {
    says: "Could not set up display for migration",
    where: "display",
    expected: "a SPICE or VNC client that can be told of the new host",
    found: "one that cannot",
    cause: "client_migrate_info was called without a display, or for another protocol than it has",
    cure: "leave it out (the client reconnects), or give the protocol, host name and port of the target's display",
  },
  "complaint.guest-clock": {
    says: ["Guest clock was not migrated", "Guest clock will not be migrated"],
    rank: "warning",
    where: "s390x guest clock",
    expected: "the guest's time of day in the stream",
    found: "none",
    cause: "the source's (or target's) kernel cannot read (or set) the guest's clock",
    cure: "use a kernel with KVM's TOD attributes on both hosts, and the same machine type",
  },
  "complaint.machine-check": {
    says: [
      "A machine check is being handled during migration",
      "Received a fwnmi while migration was in progress",
    ],
    rank: "warning",
    where: "pseries machine check",
    expected: "no hardware error while the machine moves",
    found: "one",
    cause: "the guest handles a machine check of the source's host just now",
    cure: "migrate again later; replace the failing memory of the source's host",
  },

  // --- PCI
  "complaint.pci-config": {
    says: "Bad config data: i=0x{at:x} read: {found:x} device: {wanted:x}",
    expected: "0x{wanted}, as in the target's device",
    found: "0x{found}",
    cause:
      "a register that the guest cannot write differs: the device has other properties on the two sides, or its machine type gives it others",
    cure: "give the device the same properties on both sides (vectors, queues, disable-modern, disable-legacy, romsize) and use the same machine type; `wherry check STREAM --target STREAM_OF_THE_TARGET` names the register",
    explain: ({ at = "0" }, device) => {
      const register = configRegister(Number.parseInt(at, 16));
      const where = `PCI config space, ${register.name}`;
      return {
        where: device === undefined ? where : `section ${device}, ${where}`,
        ...(register.why === undefined ? {} : register.why),
      };
    },
  },
  "complaint.subsystem": {
    says: "Cannot migrate while device properties (subsys/subsys_ven) differ",
    expected: "a network card with the source's subsys and subsys_ven",
    found: "others",
    cause: "e1000e was started with another subsys_ven= or subsys= on the target",
    cure: "give -device e1000e the same subsys_ven= and subsys= on both sides (without them QEMU's defaults)",
  },
  "complaint.pci-slot": {
    says: [
      "PCI: slot {slot:d} function {function:d} not available for {name:w}",
      "PCI: slot {slot:d} function 0 already occupied",
    ],
    where: "PCI slot {slot}",
    expected: "a free slot for this device",
    found: "another device in it",
    cause: "two devices have one address: those with addr= must come before those without",
    cure: "give each device the source's addr= (`info pci` there lists them)",
  },

  // --- Boards
  "complaint.css": {
    says: "Devno mismatch, tried to load wrong section",
    where: "s390x channel subsystem",
    expected: "devices with the source's device numbers",
    found: "another number",
    cause: "with machine types before 2.7, devices that were plugged and unplugged get other section numbers",
    cure: "give each device its devno=, and use a machine type of 2.7 or newer",
  },
  "complaint.spapr-cap": {
    says: [
      "cap-{name:w} higher level ({found:d}) in incoming stream than on destination ({wanted:d})",
      "cap-{name:w} lower level ({found:d}) in incoming stream than on destination ({wanted:d})",
    ],
    where: "machine capability cap-{name}",
    expected: "{name}={wanted}",
    found: "{name}={found}",
    cause: "the two sides were started with another -M pseries,cap-…, or with another machine type or host",
    cure: "start the target with -M pseries,cap-{name}={found}",
    explain: ({ name = "", found = "" }) => ({
      cure: `start the target with -M pseries,cap-${name}=${capLevel(name, found)}`,
    }),
  },
  "complaint.htab": {
    says: [
      "htab_load() bad index",
      "htab_load() bad version",
      "htab_shift mismatch",
      "Requested HPT of order {found:d}",
      "Failed to allocate KVM HPT",
    ],
    where: "hash page table",
    expected: "a table of the target's size",
    found: "another",
    cause:
      "the target has another amount of maximum memory (maxmem=), from which the table's size follows, or the stream is damaged",
    cure: "give both sides the same -m …,maxmem= and resize-hpt=",
  },
  "complaint.pvr": {
    says: ["Compatibility PVR 0x{found:x} not valid for CPU", "Unknown compatibility PVR 0x{found:x}"],
    where: "CPU",
    expected: "a compatibility mode that the target's CPU has",
    found: "PVR 0x{found}",
    cause: "the guest negotiated the mode of a newer CPU than the target has",
    cure: "start the source with -M pseries,max-cpu-compat=power8 (or power9): the oldest of the hosts",
  },
  "complaint.fw-cfg": {
    says: [
      "ACPI table size {found:d} exceeds {wanted:d} bytes, migration may not work",
      "fw_cfg: {}file slots",
    ],
    where: "firmware's tables",
    expected: "tables of at most {wanted} bytes",
    found: "{found}",
    rank: "warning",
    cause: "many devices or CPUs make the ACPI tables larger than the size that the other side reserves",
    cure: "use the same machine type, and the same devices and CPUs from the start, on both sides",
  },
  "complaint.usb-migrate": {
    says: [
      "USB device is not migratable",
      "usb-host{}not migratable",
      "usb-redir connection broken during migration",
    ],
    rank: "probable",
    where: "USB device",
    expected: "USB devices that can move",
    found: "a device of the host",
    cause: "a passed-through USB device stays at its host",
    cure: "unplug it before the migration (device_del), and plug it in again afterwards; network redirection (usb-redir) by SPICE moves with the client",
  },
  "complaint.scsi": {
    says: [
      "invalid SCSI request migration data",
      "SCSI reservation key 0x{found:x} on device '{name}' not registered",
      "scsi-block migration rollback",
    ],
    where: "SCSI disk",
    expected: "requests and reservations that the target can take over",
    found: "others",
    cause: "the target's disks are others than the source's, or a persistent reservation could not be moved",
    cure: "give both sides the same disks at the same SCSI addresses; the guest registers its reservation again",
  },
  "complaint.tpm": {
    says: [
      "Setting the stateblob",
      "Could not set the TPM state blob",
      "tpm-emulator: {}",
      "Unexpected response from swtpm",
      "TPM result for CMD_SET_STATEBLOB: 0x{found:x}",
    ],
    where: "TPM",
    expected: "a TPM that takes the state",
    found: "a refusal by swtpm",
    cause: "swtpm on the target is older, has another TPM version, or another key for its state",
    cure: "use the same swtpm release and TPM version on both hosts, and the same encryption secret",
  },
};

// --- Features

function features({ found = "0", allowed }: Words, device: string | undefined): Explanation {
  if (allowed === undefined) return {};
  const name = device?.slice(device.lastIndexOf("/") + 1);
  const missing = BigInt(`0x${found}`) & ~BigInt(`0x${allowed}`);
  // Without the device's type, only the bits above 23 have a known meaning.
  const names = (featureNames(virtioType(name ?? ""), missing) ?? "none").split(/ (?=VIRTIO|VHOST|bit)/);
  const known = names.filter((word) => !word.startsWith("bit") && word !== "none");
  return {
    expected: `features within 0x${allowed}`,
    found:
      missing === 0n ? `0x${found}, which are all offered` : `0x${found}: ${names.join(" ")} not offered`,
    ...(known.length === 0 ? {} : { cure: featureCure(known) }),
  };
}

// --- PCI

interface Register {
  readonly name: string;
  readonly why?: { readonly cause: string; readonly cure: string };
}

const NAMES_REGISTER = "`wherry check STREAM --target STREAM_OF_THE_TARGET` names the register";
const BAR = {
  cause:
    "a base address register has another size or kind: the device has another amount of memory, another number of vectors or queues, or is legacy (I/O) on one side and modern on the other",
  cure: `give the device the same properties on both sides (vectors, disable-legacy, disable-modern, vgamem_mb, romsize) and use the same machine type; ${NAMES_REGISTER}`,
};

/** Registers of the type 0 header, by the offset at which each ends; capabilities follow. */
const CONFIG_REGISTERS: readonly (readonly [end: number, name: string, why?: Register["why"]])[] = [
  [
    0x02,
    "vendor id",
    { cause: "another device is at this address", cure: "give both sides the same device at this address" },
  ],
  [
    0x04,
    "device id",
    {
      cause: "another device is at this address, or a virtio device that is transitional on one side only",
      cure: "give both sides the same device at this address, with the same disable-legacy= (a PCIe slot turns it on)",
    },
  ],
  [0x08, "status"],
  [0x09, "revision"],
  [0x0c, "class"],
  [0x0f, "header type"],
  [0x28, "base address (size or kind of a BAR)", BAR],
  [0x30, "subsystem id"],
  [
    0x34,
    "expansion ROM",
    {
      cause: "the option ROM has another size on the two sides",
      cure: "give the device a ROM of the source's size (romsize=), or none (romfile=)",
    },
  ],
  [
    0x35,
    "pointer to the capabilities",
    {
      cause:
        "the device has another list of PCI capabilities: a virtio device that is modern on one side and legacy or transitional on the other, or one without MSI-X (vectors=0), or another machine type",
      cure: `give the device the same disable-legacy=, disable-modern=, vectors= and bus (PCI or PCIe) on both sides, and use the same machine type; ${NAMES_REGISTER}`,
    },
  ],
  [0x40, "header"],
  [0x100, "a capability"],
];

function configRegister(at: number): Register {
  const [, name = "an extended capability", why] = CONFIG_REGISTERS.find(([end]) => at < end) ?? [];
  return { name: `${name} at 0x${at.toString(16)}`, ...(why === undefined ? {} : { why }) };
}

/** The level of a pseries capability as its option has it. */
function capLevel(name: string, level: string): string {
  if (["cfpc", "sbbc"].includes(name)) return ["broken", "workaround", "fixed"][Number(level)] ?? level;
  if (name === "ibs")
    return ["broken", "workaround", "fixed-ibs", "fixed-ccd", "fixed-na"][Number(level)] ?? level;
  if (name === "hpt-max-page-size") return `${2 ** Number(level)}`;
  return level === "0" ? "off" : "on";
}
