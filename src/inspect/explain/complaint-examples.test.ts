// Messages of QEMU and of the programs that start it, as printed: each has one answer.
import { expect, test } from "vitest";
import { complaintFormats, explainComplaint } from "./complaints.ts";

const EXAMPLES: readonly (readonly [code: string, text: string, words: RegExp])[] = [
  [
    "unknown-section",
    "qemu-system-x86_64: load of migration failed: Invalid argument: Unknown section or instance 'apic' 1. Make sure that your current VM setup matches your saved VM setup, including any hotplugged devices",
    /-smp/s,
  ],
  [
    "unknown-section",
    "qemu-system-x86_64: Unknown savevm section or instance '0000:00:06.0/1/usb-ptr' 0. Make sure that your current VM setup matches your saved VM setup, including any hotplugged devices\nqemu-system-x86_64: load of migration failed: Invalid argument",
    /-device usb-tablet,bus=\(the controller at 06\.0\),port=1/s,
  ],
  [
    "unknown-section",
    "qemu-kvm: Unknown savevm section or instance '0000:00:02.4:00.0/virtio-blk' 0. Make sure",
    /-device virtio-blk-pci,bus=\(the port at 02\.4\),addr=00\.0/s,
  ],
  ["unknown-section", "Unknown savevm section or instance 'hpet' 0.", /hpet=on/s],
  ["unknown-section", "Unknown savevm section or instance 's390_css' 0.", /s390-ccw-virtio/s],
  ["unknown-section", "Unknown section or instance 'xive-source' 0.", /ic-mode=xive/s],
  ["unknown-section", "kvm: Unknown savevm section or instance 'pbs-state' 0", /Proxmox/s],
  [
    "unknown-section",
    "qemu-system-riscv64: Unknown savevm section or instance 'riscv_sifive_plic' 0.",
    /aia=none/s,
  ],
  [
    "unknown-section",
    "load of migration failed: Invalid argument: Unknown section or instance '' 0. Make sure that your current VM setup",
    /zeros/s,
  ],
  [
    "unknown-section",
    "Unknown savevm section or instance '0000:00:05.0/some-new-device' 0.",
    /same devices/s,
  ],
  ["unknown-section-id", "qemu-system-x86_64: Unknown savevm section 42", /wherry inspect/s],
  ["unknown-section-id", "load of migration failed: Invalid argument: Unknown section 42", /wherry inspect/s],
  ["section-type", "Unknown savevm section type 5", /subsection/s],
  [
    "section-type",
    "load of migration failed: Invalid argument: Unknown section type 7",
    /send-configuration/s,
  ],
  ["section-type", "Unknown savevm section type 126", /send-section-footer/s],
  ["footer", "qemu-system-x86_64: Missing section footer for 0000:00:03.0/e1000e", /same machine type/s],
  [
    "footer",
    "Missing section footer for 0000:00:1f.0/ICH9LPC\nqemu-system-x86_64: load of migration failed: Invalid argument: Section footer error, section_id: 18",
    /maxmem/s,
  ],
  ["footer", "Missing section footer for 0000:00:04.0/xhci", /p2=/s],
  ["footer-id", "Mismatched section id in footer for timer - read 0x1 expected 0x2", /wherry inspect/s],
  ["footer-id", "Mismatched section id in footer for timer -read 0x1 expected 0x2", /wherry inspect/s],
  [
    "footer-id",
    "Mismatched section id in footer for cpu_common - read 0x0 expected 0x4\nload of migration failed: Invalid argument: Section footer error, section_id: 4",
    /wherry inspect/s,
  ],
  [
    "footer-error",
    "load of migration failed: Invalid argument: Section footer error, section_id: 18",
    /section id 18/s,
  ],
  ["vmdescription", "qemu-dm-120: Expected vmdescription section, but got 0", /Xen/s],
  ["too-new", "cpu: incoming version_id 12 is too new for local version_id 10", /at least as new/s],
  ["too-new", "savevm: unsupported version 12 for 'cpu' v10", /at least as new/s],
  [
    "too-old",
    "cpu: incoming version_id 5 is too old for local minimum version_id  10",
    /intermediate release/s,
  ],
  [
    "too-old",
    "load of migration failed: Invalid argument: error while loading state for instance 0x0 of device 'cpu': cpu: incoming version_id 10 is too old for local minimum version_id 12",
    /intermediate release/s,
  ],
  [
    "subsection",
    "load of migration failed: No such file or directory: error while loading state for instance 0x0 of device '0000:00:03.0/virtio-net': VM subsection 'virtio/features128' in 'virtio' does not exist",
    /virtio\/features128/s,
  ],
  ["subsection", "Loading VM subsection 'cpu/msr_xss' in 'cpu' failed: -22", /cpu\/msr_xss/s],
  ["not-a-stream", "Not a migration stream", /-loadvm/s],
  [
    "not-a-stream",
    "qemu-system-x86_64: SaveVM v2 format is obsolete and don't work anymore\nqemu-system-x86_64: load of migration failed: Operation not supported",
    /wherry inspect/s,
  ],
  [
    "magic",
    "load of migration failed: Invalid argument: Not a migration stream, magic: 48545450 != 5145564d",
    /HTTP/s,
  ],
  [
    "magic",
    "load of migration failed: Invalid argument: Not a migration stream, magic: 1f8b0800 != 5145564d",
    /gzip/s,
  ],
  ["magic", "Not a migration stream (bad magic 514649fb)", /qcow2/s],
  [
    "magic",
    "load of migration failed: Operation not supported: Unsupported migration stream version, file version 9 != 3",
    /damaged/s,
  ],
  ["machine", "Machine type received is 'pc-i440fx-9.2' and local is 'pc-q35-9.2'", /-M pc-i440fx-9.2/s],
  [
    "machine",
    "load of migration failed: Invalid argument: post load hook failed for: configuration, version_id: 1, minimum_version: 0: Machine type received is 'pc-q35-11.1' and local is 'pc-q35-10.0'",
    /-M pc-q35-11.1/s,
  ],
  [
    "machine-unknown",
    "qemu-system-x86_64: unsupported machine type 'pc-i440fx-2.0'\nUse -machine help to list supported machines",
    /-M help/s,
  ],
  ["machine-unknown", 'qemu-system-x86_64: unsupported machine type: "pc-i440fx-2.0"', /pc-i440fx-2.0/s],
  ["page-bits", "Received TARGET_PAGE_BITS is 12 but local is 10", /same -cpu/s],
  [
    "capability",
    "qemu-system-x86_64: Capability mapped-ram is off, but received capability is on\nqemu-system-x86_64: load of migration failed: Invalid argument",
    /mapped-ram on/s,
  ],
  ["capability-unknown", "Received unknown capability switchover-ack", /same|both/s],
  [
    "capability-unknown",
    "error: internal error: Unknown migration capability: 'background-snapshot'",
    /both/s,
  ],
  ["uuid", "UUID received is 1234-5 and local is 6789-0", /-uuid 1234-5/s],
  ["no-configuration", "Configuration section missing", /send-configuration=off/s],
  [
    "length-mismatch",
    "Length mismatch: 0000:00:03.0/e1000.rom: 0x40000 in != 0x80000: Invalid argument",
    /romsize/s,
  ],
  ["length-mismatch", "Size mismatch: pc.bios: 0x20000 != 0x40000: Invalid argument", /firmware/s],
  [
    "length-mismatch",
    "Size mismatch: 0000:00:01.0/vga.vram: 0x1000000 != 0x2000000: Invalid argument\nload of migration failed: Invalid argument: error while loading state for instance 0x0 of device 'ram': Failed to load vmstate version_id: 4, ret: -22",
    /vgamem/s,
  ],
  [
    "length-mismatch",
    "qemu-kvm: Length mismatch: pc.ram: 0x80000000 in != 0x40000000: Invalid argument",
    /-m/s,
  ],
  [
    "size-too-large",
    "Size too large: /rom@etc/acpi/tables: 0x400000 > 0x200000: Invalid argument",
    /machine type/s,
  ],
  ["block-length", "Block pc.ram/0 has a different length 2147483648vs 1073741824", /-m/s],
  ["unknown-ramblock", 'Unknown ramblock "0000:00:02.0/vga.vram", cannot accept migration', /-vga std/s],
  ["unknown-ramblock", 'Unknown ramblock "/rom@etc/acpi/tables", cannot accept migration', /acpi=off/s],
  ["unknown-ramblock", 'qemu-kvm: Unknown ramblock "mem-dimm0", cannot accept migration', /pc-dimm/s],
  [
    "unknown-ramblock",
    "Unknown ramblock \"0000:00:04.0/virtio-net-pci.rom\", cannot accept migration\nload of migration failed: Invalid argument: error while loading state for instance 0x0 of device 'ram': Failed to load vmstate version_id: 4, ret: -22",
    /-device virtio-net-pci,addr=04\.0/s,
  ],
  [
    "ram-blocks",
    "ram blocks mismatch (Number of blocks 12 vs 11) Your QEMU command line parameters are probably not identical on both the source and destination.",
    /same options/s,
  ],
  ["block-address", "Mismatched GPAs for block mem1 4294967296!= 8589934592", /guest-physical/s],
  ["page-size", "Mismatched RAM page size pc.ram (local) 4096 != 2097152", /memory backend/s],
  ["page-size", "qemu-kvm: Postcopy needs matching target page sizes (s=4096 d=65536)", /65536/s],
  ["ram-flags", "Unknown combination of migration flags: 0x7", /capabilities/s],
  ["ram-offset", "qemu-system-x86_64: Illegal RAM offset 12345678000", /same sizes/s],
  ["ram-resized", "RAM block '/rom@etc/acpi/tables' resized during precopy.", /migrate again/s],
  ["xbzrle", "qemu-system-x86_64: XBZRLE page decompression failed. Decode error!", /xbzrle off/s],
  ["xbzrle", "Failed to load XBZRLE page - decode error!", /xbzrle off/s],
  ["ram-compressed", "qemu-system-x86_64: decompress data failed", /compression/s],
  ["mapped-ram", "Migration mapped-ram header has invalid page_size 65536 (expected 4096)", /page size/s],
  [
    "device-memory",
    "qemu-system-x86_64: Failed to load vmstate version_id: 3, ret: -22",
    /amounts of memory/s,
  ],
  ["cut", "Getting RAM address failed", /whole copy/s],
  ["cut", "load of migration failed: Input/output error", /whole copy/s],
  [
    "cut",
    "load of migration failed: Input/output error: Failed to load vmstate version_id: 4, ret: -5",
    /whole copy/s,
  ],
  [
    "cut",
    "qemu-system-x86_64: Failed to load configuration:len\nqemu-system-x86_64: load of migration failed: Input/output error",
    /whole copy/s,
  ],
  ["cut", "qemu-system-x86_64: Failed to read section ID: -5", /whole copy/s],
  [
    "cut",
    "error: Failed to restore domain from foo.save\nerror: operation failed: save image is incomplete",
    /whole copy/s,
  ],
  [
    "command",
    "qemu-system-riscv64: MIG_CMD 0xb unknown (len 0x0)\nqemu-system-x86_64: load of migration failed: Invalid argument",
    /send-switchover-start=off/s,
  ],
  ["command", "MIG_CMD 0x1234 unknown (len 0x0)", /damaged/s],
  ["command-length", "CMD_PACKAGED received with bad length - expecting 4, got 0", /same release/s],
  [
    "device",
    "error while loading state for instance 0x0 of device '0000:00:03.0/virtio-net'",
    /wherry check/s,
  ],
  [
    "device",
    "qemu-system-aarch64: error while loading state for instance 0x0 of device 'cpu'\nqemu-system-aarch64: load of migration failed: Operation not permitted",
    /same -cpu/s,
  ],
  [
    "hook",
    "load of migration failed: Invalid argument: error while loading state for instance 0x0 of device 'cpu': post load hook failed for: cpu, version_id: 22, minimum_version: 22, ret: -1",
    /same -cpu/s,
  ],
  ["field", "Failed to load virtio-net:virtio", /virtio-net.*same/s],
  [
    "field",
    "load of migration failed: Invalid argument: error while loading state for instance 0x0 of device '0000:00:08.0/virtio-console': Failed to load element of type virtio for virtio",
    /ports/s,
  ],
  [
    "field",
    "qemu-system-x86_64: Failed to load virtio-console:virtio\nqemu-system-x86_64: error while loading state for instance 0x0 of device '0000:00:08.0/virtio-console'\nqemu-system-x86_64: load of migration failed: Invalid argument",
    /ports/s,
  ],
  ["validation", "qemu-system-x86_64: Input validation failed: cpuhp_state/devs", /range/s],
  ["einval", "Error -22 while loading VM state", /look for that line/s],
  ["einval", "load of migration failed: Invalid argument", /wherry check/s],
  [
    "einval",
    "kvm: Error -22 while loading savevm\nTASK ERROR: start failed: QEMU exited with code 1",
    /look for that line/s,
  ],
  ["enoent", "load of migration failed: No such file or directory", /subsection/s],
  ["eperm", "load of migration failed: Operation not permitted", /wherry check/s],
  ["eagain", "qemu-system-x86_64: load of migration failed: Resource temporarily unavailable", /lock/s],
  ["enotsup", "load of migration failed: Operation not supported", /version/s],
  ["enomem", "qemu-kvm: load of migration failed: Cannot allocate memory", /huge pages/s],
  ["load-failed", "qemu-kvm: load of migration failed: Bad file descriptor", /Bad file descriptor/s],
  ["features", "Features 0x300000000 unsupported. Allowed features: 0x179000200", /iommu_platform=on/s],
  ["features", "Features 0x1c0010130afffaf unsupported. Allowed featu", /0x1c0010130afffaf/s],
  [
    "features",
    "Features 0x000000000000000f00000000130afffa unsupported. Allowed features: 0x0000000000000000",
    /f00000000130afffa/s,
  ],
  [
    "queue-index",
    "VQ 0 size 0x80 Guest index 0x12c inconsistent with Host index 0x33: delta 0xf9",
    /vhost=off/s,
  ],
  ["queue-index", "VQ 1 size 0x100 < last_avail_idx 0x9 - used_idx 0x300", /vhost=off/s],
  ["queue-address", "VQ 2 address 0x0 inconsistent with Host index 0x5", /same device properties/s],
  [
    "queue-size",
    "qemu-system-x86_64: VQ 0 vring.num 256 exceeds allocated max 64\nqemu-system-x86_64: load of migration failed: Invalid argument: error while loading state for instance 0x0 of device '0000:00:05.0/virtio-blk': Failed to load element of type virtio for virtio",
    /section 0000:00:05.0\/virtio-blk.*queue-size=256/s,
  ],
  ["queue-count", "Invalid number of virtqueues: 0x5000", /same properties/s],
  [
    "vnet-header",
    "qemu-kvm: virtio-net: saved image requires vnet_hdr=on\nqemu-kvm: error while loading state for instance 0x0 of device '0000:00:03.0/virtio-net'",
    /section 0000:00:03.0\/virtio-net.*tap/s,
  ],
  ["queue-pairs", "qemu-kvm: virtio-net: curr_queue_pairs 4 > max_queue_pairs 1", /queues=4/s],
  ["rss", "virtio-net: saved image has invalid RSS indirections_len: 200", /rss=off/s],
  ["virtio-config", "qemu-system-x86_64: Unable to load config...", /same properties/s],
  [
    "virtio-mem",
    "qemu-system-x86_64: virtio-mem: Property 'requested-size' changed from 0x40000000 to 0x0",
    /requested-size=0x40000000/s,
  ],
  ["ram-discard", "qemu-kvm: cannot disable RAM discard: Device or resource busy", /virtio-mem/s],
  ["guest-ring", "virtio_net virtio0: input.0:id 0 is not a head!", /driver/s],
  [
    "vhost",
    "qemu-kvm: vhost_set_features failed: Invalid argument (22)\nqemu-kvm: unable to start vhost net: 22: falling back on userspace virtio",
    /vhost=off/s,
  ],
  ["vhost-state", "qemu-kvm: Back-end does not support migration state transfer", /virtiofsd/s],
  [
    "pci-config",
    "get_pci_config_device: Bad config data: i=0x34 read: 98 device: 40 cmask: ff wmask: 0 w1cmask:0",
    /vectors/s,
  ],
  [
    "pci-config",
    "qemu-system-x86_64: get_pci_config_device: Bad config data: i=0x10 read: 21 device: 1 cmask: ff wmask: c0 w1cmask:0\nqemu-system-x86_64: Failed to load PCIDevice:config\nqemu-system-x86_64: Failed to load virtio-balloon:virtio\nqemu-system-x86_64: error while loading state for instance 0x0 of device '0000:00:08.0/virtio-balloon'\nqemu-system-x86_64: load of migration failed: Invalid argument",
    /section 0000:00:08.0\/virtio-balloon.*BAR/s,
  ],
  [
    "pci-config",
    "get_pci_config_device: Bad config data: i=0x34 read: 98 device: 40 cmask: ff wmask: 0 w1cmask:0\nFailed to load element of type pci config for config\nload of migration failed: Invalid argument: error while loading state for instance 0x0 of device '0000:00:04.0/virtio-net': Failed to load element of type virtio for virtio",
    /section 0000:00:04.0\/virtio-net.*legacy/s,
  ],
  [
    "subsystem",
    "ERROR: Cannot migrate while device properties (subsys/subsys_ven) differqemu-system-x86_64: error while loading state for instance 0x0 of device '0000:00:07.0/e1000e'\nqemu-system-x86_64: load of migration failed: Operation not permitted",
    /subsys_ven=/s,
  ],
  ["pci-slot", "PCI: slot 4 function 0 not available for e1000, in use by virtio-net-pci,id=net0", /addr=/s],
  [
    "css",
    "Devno mismatch, tried to load wrong section! Likely reason: some sequences of plug and unplug  can break migration for machine versions prior to  2.7 (known design flaw).",
    /devno=/s,
  ],
  [
    "spapr-cap",
    "qemu-system-ppc64: cap-ibs higher level (1) in incoming stream than on destination (0)\nqemu-system-ppc64: load of migration failed: Invalid argument",
    /cap-ibs=workaround/s,
  ],
  ["htab", "htab_load() bad index 5 (3+4 entries) in htab stream (htab_shift=24)", /maxmem/s],
  ["pvr", "Compatibility PVR 0x0f000005 not valid for CPU", /max-cpu-compat/s],
  [
    "fw-cfg",
    "warning: ACPI table size 70000 exceeds 65536 bytes, migration may not work",
    /same machine type/s,
  ],
  ["usb-migrate", "usb-redir connection broken during migration", /unplug/s],
  ["scsi", "invalid SCSI request migration data", /same disks/s],
  ["tpm", "tpm-emulator: Setting the stateblob (type 1) failed with a TPM error 0x21", /swtpm/s],
  [
    "msr",
    "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x8ce0c",
    /IA32_ARCH_CAPABILITIES.*microcode/s,
  ],
  ["msr", "error: failed to set MSR 0x48e to 0xfff9fffe04006172", /VMX/s],
  ["msr", "error: failed to set MSR 0x99999 to 0x1", /0x99999/s],
  [
    "tsc",
    "qemu-system-x86_64: warning: TSC frequency mismatch between VM (2600000 kHz) and host (2399998 kHz), and TSC scaling unavailable",
    /2600000 kHz/s,
  ],
  [
    "cpu-features-missing",
    "qemu-system-x86_64: warning: TCG doesn't support requested feature: CPUID.01H:ECX.x2apic [bit 21]",
    /x2apic/s,
  ],
  [
    "cpu-features-missing",
    "operation failed: guest CPU doesn't match specification: missing features: vmx-rdrand-exit,vmx-vmfunc",
    /vmx-rdrand-exit,vmx-vmfunc missing.*nested/s,
  ],
  [
    "cpu-features-missing",
    "error: unsupported configuration: guest and host CPU are not compatible: Host CPU does not provide required features: svm",
    /svm missing/s,
  ],
  [
    "cpu-features-missing",
    "qemu-system-s390x: Some features requested in the CPU model are not available in the configuration: ais",
    /ais=off/s,
  ],
  [
    "cpu-features-missing",
    "qemu-kvm: warning: host doesn't support requested feature: CPUID.07H:EBX.hle [bit 4]\nqemu-kvm: Host doesn't support requested features",
    /TSX/s,
  ],
  [
    "cpu-features-extra",
    "operation failed: guest CPU doesn't match specification: extra features: vmx-ple",
    /vmx-ple besides/s,
  ],
  ["cpu-model", "qemu-system-x86_64: unable to find CPU model 'Foo-v9'", /Foo-v9/s],
  [
    "cpu-property",
    "qemu-system-x86_64: can't apply global Skylake-Server-x86_64-cpu.avx10=on: Property 'Skylake-Server-x86_64-cpu.avx10' not found",
    /as new/s,
  ],
  ["xsave", "qemu-kvm: error: Failed to set XSAVE: Invalid argument", /AVX-512/s],
  ["registers", "qemu-system-aarch64: Failed to put registers after init: Invalid argument", /pmu/s],
  ["nested", "qemu-kvm: Failed to set nested state: Invalid argument", /nested=1/s],
  [
    "arm-register",
    "handle_cpreg_only_in_incoming_stream: system register 0x1013c030 in the incoming stream but unknown on the destination: fail migration",
    /same -cpu/s,
  ],
  [
    "arm-register-missing",
    "qemu-system-aarch64: warning: handle_cpreg_missing_in_incoming_stream: system register 0x1013e711 expected by the destination but not in the incoming stream: skip it",
    /reset values/s,
  ],
  ["arm-feature", "qemu-kvm: SVE not supported by KVM on this host", /sve=off/s],
  [
    "hyperv",
    "Guest enabled re-enlightenment notifications, 'tsc-frequency=' has to be specified",
    /tsc-frequency/s,
  ],
  ["phys-bits", "Host physical bits (39) does not match phys-bits property (46)", /phys-bits=/s],
  ["cpuid-full", "KVM_GET_SUPPORTED_CPUID failed: Argument list too long", /newer QEMU/s],
  [
    "blocked.device",
    "State blocked by non-migratable device '0000:00:08.0/ich9_ahci'",
    /0000:00:08.0\/ich9_ahci/s,
  ],
  [
    "blocked.device",
    "internal error: unable to execute QEMU command 'migrate': State blocked by non-migratable device '0000:00:05.0/vfio'",
    /passed-through/s,
  ],
  [
    "blocked.device",
    "usb-host... USB device is not migratable: State blocked by non-migratable device 'usb-host'",
    /unplug/s,
  ],
  [
    "blocked.invtsc",
    "error: internal error: unable to execute QEMU command 'migrate': State blocked by non-migratable CPU device (invtsc flag)",
    /-invtsc/s,
  ],
  [
    "blocked.virtfs",
    "Migration is disabled when VirtFS export path '/srv/share' is mounted in the guest using mount_tag 'host0'",
    /umount/s,
  ],
  [
    "blocked.vfio",
    "qemu-kvm: 0000:05:00.0: VFIO migration is not supported in kernel",
    /VFIO device 0000:05:00.0/s,
  ],
  ["blocked.vfio", "Error: VFIO device doesn't support migration", /failover/s],
  ["blocked.gpu", "Error: virgl is not yet migratable", /accel3d/s],
  [
    "blocked.vhost",
    "Migration disabled: vhost-user backend lacks VHOST_USER_PROTOCOL_F_LOG_SHMFD feature.",
    /vhost=off/s,
  ],
  [
    "blocked.vhost-scsi",
    "vhost-scsi does not support migration in all cases. When external environment supports it (Orchestrator migrates target SCSI device state or use shared storage over network), set 'migratable' property to true to enable migration.",
    /migratable=true/s,
  ],
  ["blocked.tpm", "Migration disabled: TPM emulator does not support migration", /swtpm/s],
  ["blocked.format", "The vmdk format used by node '#block123' does not support live migration", /qcow2/s],
  ["blocked.encrypted", "Error: SEV: Migration is not implemented", /confidential/s],
  [
    "blocked.ivshmem",
    "Migration is disabled when using feature 'peer mode' in device 'ivshmem'",
    /master=on/s,
  ],
  ["blocked.dump", "Live migration disabled: dump-guest-memory in progress", /query-dump/s],
  [
    "blocked.hyperv",
    "'hv-passthrough' CPU flag prevents migration, use explicit set of hv-* flags instead",
    /hv-/s,
  ],
  ["blocked.nvme", "only one NVMe namespace is supported for migration", /namespace/s],
  ["blocked.chardev", "The vdagent chardev doesn't yet support migration", /10.1/s],
  [
    "blocked.accelerator",
    "State blocked due to non-migratable CPUID feature support,dirty memory tracking support, and XSAVE/XRSTOR support",
    /accelerator/s,
  ],
  [
    "blocked.memory",
    "Can't migrate this vm with hardware poisoned memory, please reboot the vm and try again",
    /reboot/s,
  ],
  [
    "blocked.only-migratable",
    "qemu-system-x86_64: -device edu: disallowing migration blocker (--only-migratable) for: some device",
    /some device/s,
  ],
  ["blocked.other", "Outgoing migration blocked:  a thing that is new", /a thing that is new/s],
  ["snapshot.device", "Error: Device 'pflash1' is writable but does not support snapshots", /qcow2/s],
  ["snapshot.none", "qemu: No block device supports snapshots", /qemu-img create/s],
  ["snapshot.name", "Error: Snapshot 'a' does not exist in one or more devices", /info snapshots/s],
  ["snapshot.background", "Background-snapshot is not compatible with multifd", /multifd/s],
  [
    "snapshot.libvirt",
    "error: Operation not supported: internal snapshots of a VM with pflash based firmware are not supported",
    /external/s,
  ],
  ["capabilities", "Postcopy is not yet compatible with multifd", /turn one/s],
  ["capability-late", "Multifd must be set before incoming starts", /-incoming defer/s],
  ["transport", "Migration requires seekable transport (e.g. file)", /file:/s],
  ["parameter", "Option multifd-channels expects a value between 1 and 255", /multifd-channels/s],
  [
    "run-state",
    "ERROR: invalid runstate transition: 'running' -> 'inmigrate'",
    /running.*query-status|query-status/s,
  ],
  ["in-progress", "There's a migration process in progress", /migrate_cancel/s],
  ["incoming", "'-incoming' was not specified on the command line", /-incoming defer/s],
  [
    "connect",
    "qemu-system-x86_64: Failed to connect to '10.0.0.2:4444': Connection refused",
    /10.0.0.2:4444.*firewall/s,
  ],
  [
    "connect",
    "error: unable to connect to server at 'node2:49152': No route to host",
    /node2:49152.*firewall/s,
  ],
  ["broken-pipe", "qemu-kvm: Unable to write to socket: Broken pipe", /target's error output/s],
  ["no-space", "Error: Error while writing VM state: No space left on device", /RAM size/s],
  [
    "return-path",
    "source_return_path_thread: Received invalid message 0x8abc length 0x0",
    /target's error output/s,
  ],
  ["canceled", "error: operation aborted: migration out job: canceled by client", /cancelled/s],
  [
    "tls-channel",
    "2024-01-10T10:00:00.1Z qemu-kvm: Cannot read from TLS channel: The TLS connection was non-properly terminated.\n2024-01-10T10:00:00.2Z qemu-kvm: Not a migration stream\n2024-01-10T10:00:00.2Z qemu-kvm: load of migration failed: Invalid argument",
    /tls-creds/s,
  ],
  ["tls-handshake", "TLS handshake failed: An unexpected TLS packet was received.", /both sides/s],
  ["tls-certificate", "Certificate does not match the hostname node2", /subjectAltName/s],
  ["tls-certificate", "qemu-kvm: TLS handshake failed: The certificate has expired", /dates/s],
  ["tls-credentials", "No TLS credentials with id 'tls0'", /tls0/s],
  [
    "multifd-magic",
    "qemu-kvm: multifd_recv_initial_packet: received packet magic 5145564d expected 11223344",
    /multifd on/s,
  ],
  [
    "multifd-packet",
    "qemu-system-x86_64: multifd_recv_state_recv: multifd: received packet with 129 pages and expected maximum pages are 128",
    /129.*page size/s,
  ],
  [
    "multifd-channels",
    "multifd: received channel id 8 is greater than number of channels 4",
    /multifd-channels/s,
  ],
  ["zero-copy", "Process can't lock enough memory for using MSG_ZEROCOPY", /ulimit/s],
  [
    "userfaultfd",
    "qemu-kvm: postcopy_ram_supported_by_host: Missing UFFD feature\nPostcopy is not supported",
    /unprivileged_userfaultfd/s,
  ],
  ["postcopy-capability", "qemu-kvm: RAM postcopy is disabled but have 16 byte advise", /postcopy-ram on/s],
  ["postcopy-host", "Postcopy is not supported", /memory/s],
  ["postcopy-state", "CMD_POSTCOPY_LISTEN in wrong postcopy state (0)", /file/s],
  ["postcopy-paused", "qemu-kvm: Detected IO failure for postcopy. Migration paused.", /migrate-recover/s],
  [
    "rdma",
    "RDMA ERROR: rdma migration: error allocating pd and cq! Your mlock() limits may be too low.",
    /ulimit/s,
  ],
  ["cpr", "missing 'cpr' migration channel", /unix:/s],
  ["colo", "ENABLE_COLO command come in migration stream, but x-colo capability is not set", /x-colo/s],
  ["xen", "loading Xen device state failed", /xl restore/s],
  [
    "lock",
    'qemu-kvm: -device virtio-blk-pci: Failed to get "write" lock\nIs another process using the image [/x/disk.img]?',
    /disk image \/x\/disk.img/s,
  ],
  [
    "lock",
    'qemu-system-x86_64: Failed to get shared "write" lock\nIs another process using the image [/var/lib/libvirt/images/a.qcow2]?\nqemu-system-x86_64: load of migration failed: Resource temporarily unavailable',
    /a.qcow2.*lslocks/s,
  ],
  ["lock", 'Failed to get "consistent read" lock', /lslocks/s],
  ["lock-manager", "error: internal error: resource busy: Lockspace resource '4d1f' is locked", /lease/s],
  ["inactive", "Block inactivate failed during switchover", /query-block-jobs/s],
  [
    "image-corrupt",
    "qcow2: Marking image as corrupt: Overlaps with active L2 table; further corruption events will be suppressed",
    /qemu-img check/s,
  ],
  [
    "image-missing",
    "error: Cannot access storage file '/iso/x.iso': No such file or directory",
    /\/iso\/x.iso/s,
  ],
  [
    "image-missing",
    "Live Migration failure: Unable to pre-create chardev file '/var/lib/nova/instances/x/console.log': No such file or directory",
    /console.log/s,
  ],
  [
    "image-size",
    "error: operation failed: migration of disk vda failed: Source and target image have different sizes",
    /qemu-img info/s,
  ],
  ["mirror", "TASK ERROR: block job (mirror) error: drive-scsi0: 'mirror' has been aborted", /NBD/s],
  [
    "block-job",
    "error: operation failed: domain has 'block copy' active: cannot migrate domain with active block job",
    /block copy.*blockjob/s,
  ],
  [
    "bitmap-exists",
    "qemu-kvm: Bitmap already exists ('backup-1') on destination node 'libvirt-1-format'",
    /backup-1/s,
  ],
  [
    "bitmap-name",
    "Cannot migrate bitmap 'b0' on node '#block12': Name is longer than 255 bytes",
    /b0 on node #block12/s,
  ],
  ["bitmap-state", "Bitmap 'b0' is inconsistent and cannot be used", /b0/s],
  ["io", "bdrv_readv_vmstate failed", /storage/s],
  [
    "libvirt.unsafe",
    "error: Unsafe migration: Migration may lead to data corruption if disks use cache other than none or directsync",
    /cache='none'/s,
  ],
  [
    "libvirt.empty-disk",
    "virError(Code=84, Domain=10, Message='Operation not supported: Cannot migrate empty or read-only disk sda')",
    /disk sda/s,
  ],
  ["libvirt.hostdev", "cannot migrate a domain with <hostdev mode='subsystem' type='pci'>", /pci.*detach/s],
  [
    "libvirt.connect",
    "error: operation failed: Failed to connect to remote libvirt URI qemu+ssh://node2/system: Cannot recv data: Host key verification failed.: Connection reset by peer",
    /node2.*ssh-copy-id/s,
  ],
  ["io", "Error: Error -5 while writing VM", /storage/s],
  ["vfio-state", "0000:01:00.0: Failed to load device config space", /firmware/s],
  ["failover", "migration: partially unplugged device on failure", /failover_pair_id/s],
  ["dbus-vmstate", "Required VMState Id are missing: slirp-helper-1", /slirp-helper-1/s],
  ["display", "Error: Could not set up display for migration", /client/s],
  ["guest-clock", "warning: Guest clock was not migrated. This could cause the guest to hang.", /TOD/s],
  ["machine-check", "warning: A machine check is being handled during migration.", /again later/s],
  ["libvirt.flags", "error: cannot perform tunnelled migration without using peer2peer flag", /--p2p/s],
  ["libvirt.save", "error: operation failed: Invalid compressed save format 7", /7/s],
  [
    "libvirt.lock",
    "error: Timed out during operation: cannot acquire state change lock (held by monitor=remoteDispatchDomainMigratePerform3Params)",
    /remoteDispatchDomainMigratePerform3Params.*domjobabort/s,
  ],
  ["libvirt.definition", "error: operation failed: domain 'web' already exists with uuid 1234", /undefine/s],
  ["libvirt.wrapper", "error: internal error: QEMU unexpectedly closed the monitor (vm='web')", /NAME.log/s],
  [
    "kubevirt.storage",
    "cannot migrate VMI: PVC data is not shared, live migration requires that all PVCs must be shared (using ReadWriteMany access mode)",
    /ReadWriteMany/s,
  ],
  [
    "kubevirt.network",
    "InterfaceNotLiveMigratable: cannot migrate VMI which does not use masquerade, bridge with allow-pod-bridge-network-live-migration",
    /masquerade/s,
  ],
  ["kubevirt.devices", "HostDeviceNotLiveMigratable: VMI uses a PCI host devices", /LiveMigratable/s],
  ["kubevirt.timeout", "Live migration stuck for 150 sec and has been aborted", /150 s/s],
  ["kubevirt.target", "Migration target pod is unschedulable", /kubectl describe/s],
  [
    "proxmox.local",
    "2026-01-10 10:00:00 ERROR: migration aborted (duration 00:00:00): can't migrate local disk 'local-lvm:vm-100-disk-0': can't live migrate attached local disks without with-local-disks option",
    /with-local-disks/s,
  ],
  [
    "proxmox.bad-address",
    "migration status error: failed - Error in migration completion: Bad address",
    /journal/s,
  ],
  [
    "completion",
    "migration status error: failed - Error in migration completion: Input/output error",
    /Input\/output error/s,
  ],
  ["proxmox.wrapper", "TASK ERROR: start failed: QEMU exited with code 1", /journal/s],
  [
    "lxd.stateful",
    "Error: Stateful stop requires migration.stateful to be set to true",
    /migration.stateful=true/s,
  ],
  [
    "lxd.wrapper",
    "Error: Failed instance creation: Error transferring instance data: exit status 1",
    /show-log/s,
  ],
  [
    "nova.storage",
    "Migration pre-check error: node2 is not on shared storage: Live migration can not be used without shared storage except a booted from volume VM which does not have a local disk.",
    /block-migration/s,
  ],
];

const UNFILLED = /undefined|NaN|\{\w+\}|^\s|\s$|\? missing/;

test.each(EXAMPLES)("%s: %s", (code, text, words) => {
  const answers = explainComplaint(text);
  expect(answers.map((answer) => answer.code)).toEqual([`complaint.${code}`]);
  const { where, expected, found, cause = "", cure } = answers[0]!;
  expect(`${where} ${expected} ${found} ${cause} ${cure}`).toMatch(words);
  for (const part of [where, expected, found, cause, cure]) {
    expect(part).not.toBe("");
    expect(part).not.toMatch(UNFILLED);
  }
});

test("each answer has an example", () => {
  const shown = new Set(EXAMPLES.map(([code]) => `complaint.${code}`));
  expect([...new Set(complaintFormats().map(([code]) => code))].filter((code) => !shown.has(code))).toEqual(
    [],
  );
});

const SAMPLES: Readonly<Record<string, string>> = {
  d: "17",
  x: "1f",
  w: "thing",
  rest: "things of all kinds",
};
const filled = (format: string) =>
  format
    .replace(/\{\w*:(\w)\w*\}/g, (_, kind: string) => SAMPLES[kind === "r" ? "rest" : kind] ?? "")
    .replace(/\{\w+\}/g, "some thing")
    .replace(/\{\}/g, "");

test("each format has an answer of its own, and no other", () => {
  const answered = complaintFormats().map(([, format]) => {
    const answers = explainComplaint(`qemu-system-x86_64: ${filled(format)}`);
    for (const part of Object.values(answers[0] ?? {})) expect(part, format).not.toMatch(UNFILLED);
    return [answers.map((answer) => answer.code).join(" "), format];
  });
  expect(answered).toEqual(complaintFormats());
});
