// QEMU's and libvirt's messages about CPUs: models, features, model-specific registers, nested state, clocks.
import type { ComplaintTable, Explanation, Words } from "./complaint-formats.ts";
import { sysregName } from "../decode/arm-sysregs.ts";

const SAME_CPU =
  "use one -cpu for all hosts, whose features the oldest of them has (a named model instead of host; libvirt: cpu mode='custom', `virsh hypervisor-cpu-baseline`), from the guest's start";

export const CPUS: ComplaintTable = {
  "complaint.msr": {
    says: [
      "error: failed to set MSR 0x{msr:x} to 0x{value:x}",
      "failed to set MSR 0x{msr:x}",
      "error: failed to get MSR 0x{msr:x}",
      "KVM get MSR (index=0x{msr:x}) feature failed",
    ],
    where: "CPU, MSR 0x{msr}",
    expected: "a value that the target's KVM accepts",
    found: "0x{value}",
    cause:
      "the guest uses a register or a bit that the target's processor or kernel does not have: another processor, microcode or kernel",
    cure: SAME_CPU,
    explain: ({ msr = "0", value }) => msrAnswer(Number.parseInt(msr, 16), value),
  },
  "complaint.tsc": {
    says: [
      "TSC frequency mismatch between VM ({found:d} kHz) and host ({wanted:d} kHz)",
      "Mismatch between user-specified TSC frequency and migrated TSC frequency",
      "Failed to set TSC frequency",
      "Failed to set TSC deadline MSR",
    ],
    where: "CPU, time stamp counter",
    expected: "a host whose TSC runs at the guest's rate, or can be scaled to it",
    found: "another rate",
    cause: "the hosts' processors have different TSC frequencies, and the target's cannot scale it",
    cure: "use a target of the same frequency or with TSC scaling, and tsc-frequency= as on the source; let the guest use kvm-clock (or Hyper-V's reference time), and not invtsc",
    explain: ({ found, wanted }) =>
      found === undefined
        ? {}
        : { expected: `${wanted} kHz, the host's`, found: `${found} kHz, the guest's` },
  },
  "complaint.cpu-features-missing": {
    says: [
      "doesn't support requested feature: {feature:rest}",
      "doesn't support requested feature, {feature:rest}",
      "doesn't support requested features",
      "This feature depends on other features that were not requested: {feature:rest}",
      "missing features: {feature:rest}",
      "Host CPU does not provide required features: {feature:rest}",
      "Host CPU does not provide required features",
      "Some features requested in the CPU model are not available in the current configuration: {feature:rest}",
      "Some features requested in the CPU model are not available in the configuration: {feature:rest}",
      "Feature '{feature}' is not available for CPU model '{model}'",
      "CPU doesn't have compatibility",
      "guest CPU doesn't match specification",
      "guest and host CPU are not compatible",
      "CPUs are incompatible",
      "CPU arch {feature:w} does not match host arch",
    ],
    where: "CPU",
    expected: "a host with the guest's CPU features",
    found: "{feature} missing",
    cause:
      "the target's processor, microcode, kernel or accelerator (TCG instead of KVM) lacks features that the guest was started with",
    cure: `${SAME_CPU}; or turn the features off on the source (-cpu MODEL,-FEATURE) and restart the guest`,
    explain: ({ feature }) => featureAnswer(feature),
  },
  "complaint.cpu-features-extra": {
    says: [
      "guest CPU doesn't match specification: extra features: {feature:rest}",
      "extra features: {feature:rest}",
      "Host CPU provides forbidden features: {feature:rest}",
      "Host CPU provides forbidden feature '{feature}'",
      "Host CPU does not strictly match guest CPU: Extra features: {feature:rest}",
    ],
    where: "CPU",
    expected: "the guest's CPU features and no others",
    found: "{feature} besides",
    cause: "QEMU or KVM on the target turns features on that the source's guest does not have",
    cure: "turn them off in the guest's definition (<feature policy='disable' name='…'/>), and use the same QEMU and machine type on both sides",
  },
  "complaint.cpu-model": {
    says: [
      "unable to find CPU model '{model}'",
      "CPU model '{model}' not found",
      "CPU model {model:w} not found",
      "Unknown CPU model {model:w}",
      "Selected CPU generation is too new",
      "Selected CPU GA level is too new",
      "Host CPU model does not match required CPU",
      "host CPU model does not match required CPU model {model:w}",
      "CPU vendors do not match",
      "host CPU vendor does not match required CPU vendor {model:w}",
      "Target CPU model {found:w} does not match source {model:w}",
      "Target CPU {part:w} {found:w} does not match source {model:w}",
      "Target CPU does not match source",
      "CPU model '{model}' requires KVM",
    ],
    where: "CPU",
    expected: "a CPU model that both sides have",
    found: "{model}",
    cause: "the CPU model is unknown to this QEMU or host, or the two definitions have different ones",
    cure: SAME_CPU,
    explain: ({ model }) => (model === undefined ? { found: "another" } : {}),
  },
  "complaint.cpu-property": {
    says: [
      "Property '{model}-cpu.{name:w}' not found",
      "can't apply global {name:w}",
      "Expected key=value format, found {name:w}",
      "Property '{model}.{name:w}' not found",
    ],
    rank: "probable",
    where: "the target's command line",
    expected: "properties that this QEMU's devices have",
    found: "{name}",
    cause: "this QEMU is older than the property, or so new that it was removed",
    cure: "use a QEMU as new as the source's; or start the source without the property and restart the guest",
  },
  "complaint.xsave": {
    says: [
      "Failed to set XSAVE",
      "Failed to get XSAVE",
      "Failed to set XCRs",
      "Failed to put FPU",
      "Failed to set special registers",
      "Failed to set vcpu events",
    ],
    where: "CPU",
    expected: "registers that the target's KVM accepts",
    found: "a refusal",
    cause:
      "the guest's CPU has register state (AVX-512, AMX, PKU, MPX) that the target's processor or kernel lacks",
    cure: SAME_CPU,
  },
  "complaint.registers": {
    says: [
      "kvm_buf_set_msrs: Assertion",
      "kvm_put_msrs: Assertion",
      "Failed to put registers after init",
      "Failed to put registers after reset",
      "Failed to set MSRs",
      "Failed to get MSRs",
      "Failed to set one_reg",
      "Failed to put register",
    ],
    rank: "probable",
    where: "CPU",
    expected: "registers that the target's KVM accepts",
    found: "a refusal",
    cause:
      "another processor or kernel on the target, or a CPU property that this host's KVM lacks (Arm: pmu, sve, pauth, mte and the virtual machine's address size)",
    cure: `${SAME_CPU}; Arm: on both sides the same pmu=, sve=, pauth=, and hosts of the same kind and kernel`,
  },
  "complaint.nested": {
    says: [
      "Failed to set nested state",
      "Failed to get nested state",
      "Received nested state when kernel cannot restore it",
      "Received nested state size less than min",
      "Received unsupported nested state size",
      "Received invalid nested state format",
      "vCPU set in guest-mode inconsistent with migrated kernel nested state",
      "Guest maybe enabled nested virtualization but kernel does not support required capabilities",
      "Nested VMX virtualization does not support live migration yet",
    ],
    where: "CPU, nested virtualization",
    expected: "a target that takes over a guest's guests",
    found: "one that does not",
    cause:
      "the guest runs virtual machines of its own, and the target's kernel or processor has other nested features (VMX controls, AMD instead of Intel), or nested=0",
    cure: "turn nested virtualization on at the target (kvm_intel or kvm_amd nested=1) and use the same kernel and processor generation; or shut the inner guests down and unload their hypervisor, or -cpu …,-vmx (-svm), and restart the guest",
  },
  "complaint.arm-register": {
    says: ["system register 0x{index:x} in the incoming stream but unknown on the destination"],
    where: "CPU, system registers",
    expected: "registers that the target's CPU has",
    found: "register 0x{index}",
    cause: "another -cpu or CPU property, or a release that gives this CPU other registers",
    cure: "use the same -cpu with the same properties on both sides, and a release of the target whose CPU has the register; `wherry check STREAM --target STREAM_OF_THE_TARGET` lists all of them by name",
    explain: register,
  },
  "complaint.arm-register-missing": {
    says: "system register 0x{index:x} expected by the destination but not in the incoming stream",
    rank: "warning",
    where: "CPU, system registers",
    expected: "all registers that the target's CPU has",
    found: "register 0x{index} missing",
    cause:
      "the target's CPU has registers that the source's has not: another -cpu, a CPU property (el2, el3, sve, pmu; -M virtualization=, secure=) or an older release. QEMU leaves them at their reset values and goes on",
    cure: "use the same -cpu, CPU properties and -M options on both sides; if loading failed, another message has the reason",
    explain: (words) => ({ found: `${register(words).found} missing` }),
  },
  "complaint.arm-feature": {
    says: [
      "SVE not supported by KVM on this host",
      "cannot enable sve{found:d}",
      "cannot disable sve{found:d}",
      "cannot set sve-max-vq={found:d}",
      "'pauth' feature not supported",
      "'pmu' feature not supported",
      "'sve' feature not supported",
      "Addressing limited to {found:d} bits",
    ],
    where: "CPU",
    expected: "a host with the guest's Arm features",
    found: "one without",
    cause:
      "the target's processor or kernel lacks SVE lengths, pointer authentication, a PMU, or address bits that the guest has",
    cure: "start the guest with -cpu …,sve=off (or the lengths that all hosts have), pauth=off, pmu=off, or on hosts of one kind",
  },
  "complaint.hyperv": {
    says: [
      "Guest enabled re-enlightenment notifications, 'tsc-frequency=' has to be specified",
      "Hyper-V {feature:w} is not supported by kernel",
      "Hyper-V {feature:w} requires Hyper-V {needed:w}",
      "KVM_GET_SUPPORTED_HV_CPUID failed",
    ],
    where: "CPU, Hyper-V's features",
    expected: "the source's hv-* features on the target",
    found: "{feature} missing",
    cause:
      "the target's kernel lacks a Hyper-V feature of the guest, or re-enlightenment needs to know the TSC's rate",
    cure: "use a kernel as new as the source's on the target, and the same hv-* flags; with hv-reenlightenment also tsc-frequency=",
    explain: ({ feature }) => (feature === undefined ? { found: "tsc-frequency= missing" } : {}),
  },
  "complaint.phys-bits": {
    says: [
      "phys-bits should be between 32 and {wanted:d}  (but is {found:d})",
      "Host physical bits ({wanted:d}) does not match phys-bits property ({found:d})",
      "Target CPU maxphysaddr does not match source",
    ],
    where: "CPU",
    expected: "the guest's physical address bits on the target",
    found: "another number",
    cause: "the hosts' processors have different physical address sizes",
    cure: "start the guest with -cpu …,host-phys-bits=off,phys-bits=N (libvirt: <maxphysaddr mode='emulate' bits='N'/>) for the smallest host",
  },
  "complaint.cpuid-full": {
    says: ["cpuid_data is full, no space for cpuid", "KVM_GET_SUPPORTED_CPUID failed"],
    where: "CPU",
    expected: "CPUID leaves that QEMU can hold",
    found: "more",
    cause: "the host's processor has more CPUID leaves than this QEMU knows",
    cure: "use a newer QEMU, or a named CPU model instead of host",
  },
};

function register({ index = "0" }: Words): { readonly found: string } {
  const name = index.length > 16 ? undefined : sysregName(BigInt(`0x${index}`));
  return { found: `register 0x${index}${name === undefined ? "" : ` (${name})`}` };
}

// --- Features

const FEATURES: readonly (readonly [RegExp, string])[] = [
  [
    /\bsvm\b|\bvmx/i,
    "nested virtualization: turn it on at the target's host (kvm_intel or kvm_amd nested=1), or take vmx (svm) from the guest's CPU",
  ],
  [
    /\brtm\b|\bhle\b|tsx/i,
    "TSX was disabled by microcode or kernel (tsx=off): use a model without it (…-noTSX), or boot the hosts alike",
  ],
  [
    /\bmpx\b|bnd/i,
    "MPX was removed from kernels since 5.6 and from processors: take mpx from the guest's CPU",
  ],
  [
    /spec-ctrl|ssbd|stibp|md-clear|ibpb|ibrs|arch-cap|taa-no|mds-no|rdctl-no/i,
    "a mitigation: install the same microcode and kernel on both hosts",
  ],
  [
    /avx512|amx|\bpku\b|avx/i,
    "vector registers: both hosts need processors that have them (and the same kernel options)",
  ],
  [/invtsc/i, "invtsc also forbids migration without tsc-frequency="],
  [
    /\bais\b|\bzpci\b/i,
    "s390x: turn the facility off (-cpu …,ais=off), or use KVM with a kernel that has it",
  ],
  [/waitpkg|umip|la57|shstk|ibt/i, "an extension of newer processors: both hosts need it"],
  [/x2apic/i, "x2APIC: TCG has it since QEMU 9.0; use KVM, or take x2apic from the guest's CPU"],
];

function featureAnswer(feature: string | undefined): Explanation {
  if (feature === undefined) return { found: "some missing" };
  const names = feature.replace(/[\s.'")\]}]+$/, (end) =>
    end.includes("]") && feature.includes("[") ? "]" : "",
  );
  const hint = FEATURES.find(([pattern]) => pattern.test(names))?.[1];
  return {
    found: `${names} missing`,
    ...(hint === undefined
      ? {}
      : {
          cure: `${hint}; ${SAME_CPU}; or turn the features off on the source (-cpu MODEL,-FEATURE) and restart the guest`,
        }),
  };
}

// --- Model-specific registers

interface Msr {
  readonly name: string;
  readonly cure?: string;
}
const MSRS: readonly (readonly [from: number, to: number, Msr])[] = [
  [0x10, 0x10, { name: "IA32_TSC", cure: "use hosts with TSC scaling or of one frequency" }],
  [0x34, 0x34, { name: "SMI_COUNT" }],
  [
    0x3a,
    0x3a,
    { name: "IA32_FEATURE_CONTROL", cure: "vmx and sgx alike on both hosts (nested=1), or -cpu …,-vmx" },
  ],
  [0x3b, 0x3b, { name: "IA32_TSC_ADJUST" }],
  [
    0x48,
    0x48,
    { name: "IA32_SPEC_CTRL", cure: "the same microcode on both hosts; or -cpu …,-spec-ctrl,-ssbd,-stibp" },
  ],
  [0x49, 0x49, { name: "IA32_PRED_CMD", cure: "the same microcode on both hosts" }],
  [0x8b, 0x8b, { name: "IA32_UCODE_REV" }],
  [
    0x8c,
    0x8f,
    { name: "IA32_SGXLEPUBKEYHASH", cure: "the same SGX setting in both hosts' firmware; or -cpu …,-sgx" },
  ],
  [0x9e, 0x9e, { name: "IA32_SMBASE", cure: "SMM alike on both sides (-M …,smm=)" }],
  [0xce, 0xce, { name: "MSR_PLATFORM_INFO" }],
  [0xe1, 0xe1, { name: "IA32_UMWAIT_CONTROL", cure: "-cpu …,-waitpkg on both sides" }],
  [
    0x10a,
    0x10a,
    {
      name: "IA32_ARCH_CAPABILITIES",
      cure: "the same microcode and kernel on both hosts; or -cpu …,-arch-capabilities (its bits: rdctl-no, mds-no, taa-no, …)",
    },
  ],
  [0x10b, 0x10b, { name: "IA32_FLUSH_CMD" }],
  [0x122, 0x122, { name: "IA32_TSX_CTRL", cure: "tsx= alike on both hosts' kernels; or a model …-noTSX" }],
  [0x140, 0x140, { name: "MISC_FEATURES_ENABLES" }],
  [0x174, 0x176, { name: "IA32_SYSENTER" }],
  [0x17a, 0x17b, { name: "IA32_MCG" }],
  [
    0x186,
    0x18d,
    { name: "IA32_PERFEVTSEL", cure: "-cpu …,pmu=off on both sides, or hosts with as many counters" },
  ],
  [0xc1, 0xc8, { name: "IA32_PMC", cure: "-cpu …,pmu=off on both sides, or hosts with as many counters" }],
  [0x1a0, 0x1a0, { name: "IA32_MISC_ENABLE" }],
  [0x1c4, 0x1c5, { name: "IA32_XFD", cure: "AMX alike on both hosts; or -cpu …,-amx-tile" }],
  [0x1cc, 0x1d4, { name: "IA32_FRED", cure: "-cpu …,-fred on both sides" }],
  [0x1d9, 0x1d9, { name: "IA32_DEBUGCTL" }],
  [0x200, 0x20f, { name: "MTRR" }],
  [0x250, 0x26f, { name: "MTRR" }],
  [0x277, 0x277, { name: "IA32_PAT" }],
  [0x2ff, 0x2ff, { name: "MTRR" }],
  [
    0x345,
    0x345,
    {
      name: "IA32_PERF_CAPABILITIES",
      cure: "-cpu …,pmu=off on both sides, or the same processor and kernel",
    },
  ],
  [
    0x309,
    0x30c,
    { name: "IA32_FIXED_CTR", cure: "-cpu …,pmu=off on both sides, or hosts with as many counters" },
  ],
  [
    0x38d,
    0x390,
    { name: "IA32_PERF_GLOBAL_CTRL", cure: "-cpu …,pmu=off on both sides, or hosts with as many counters" },
  ],
  [0x400, 0x47f, { name: "IA32_MC (machine check)" }],
  [
    0x480,
    0x493,
    {
      name: "IA32_VMX capabilities",
      cure: "nested virtualization alike on both hosts (same processor generation and kernel); or -cpu …,-vmx",
    },
  ],
  [0x560, 0x58f, { name: "IA32_RTIT (processor trace)", cure: "-cpu …,-intel-pt on both sides" }],
  [0x6a0, 0x6a8, { name: "IA32_CET", cure: "-cpu …,-shstk,-ibt on both sides" }],
  [0x6e0, 0x6e0, { name: "IA32_TSC_DEADLINE" }],
  [
    0xda0,
    0xda0,
    { name: "IA32_XSS", cure: "-cpu …,-xsaves on both sides, or hosts with the same supervisor state" },
  ],
  [0x1200, 0x12ff, { name: "IA32_LBR", cure: "-cpu …,-arch-lbr on both sides" }],
  [0x1500, 0x16ff, { name: "IA32_LBR", cure: "-cpu …,-arch-lbr on both sides" }],
  [0x14ce, 0x14cf, { name: "IA32_LBR", cure: "-cpu …,-arch-lbr on both sides" }],
  [
    0x40000000,
    0x400001ff,
    { name: "Hyper-V", cure: "the same hv-* flags and a kernel as new on the target" },
  ],
  [
    0x4b564d00,
    0x4b564dff,
    {
      name: "KVM paravirtual",
      cure: "the same kvm-* flags (kvm-asyncpf, kvm-steal-time, kvm-pv-eoi) and a kernel as new on the target",
    },
  ],
  [0xc0000080, 0xc0000080, { name: "EFER", cure: "the same svm, lm and nx on both sides" }],
  [0xc0000081, 0xc0000084, { name: "SYSCALL" }],
  [0xc0000100, 0xc0000102, { name: "FS_BASE, GS_BASE, KERNEL_GS_BASE" }],
  [
    0xc0000103,
    0xc0000103,
    { name: "TSC_AUX", cure: "-cpu …,-rdtscp,-rdpid on both sides, or hosts that have it" },
  ],
  [0xc0000104, 0xc0000104, { name: "AMD64_TSC_RATIO", cure: "-cpu …,-tsc-scale on both sides" }],
  [0xc0000300, 0xc0000303, { name: "AMD64_PERF_CNTR_GLOBAL", cure: "-cpu …,pmu=off on both sides" }],
  [0xc0010000, 0xc0010007, { name: "K7_EVNTSEL, K7_PERFCTR", cure: "-cpu …,pmu=off on both sides" }],
  [0xc0010015, 0xc0010015, { name: "K7_HWCR" }],
  [0xc0010117, 0xc0010117, { name: "VM_HSAVE_PA", cure: "-cpu …,-svm on both sides" }],
  [0xc001011f, 0xc001011f, { name: "VIRT_SSBD", cure: "-cpu …,-virt-ssbd on both sides" }],
  [0xc0010200, 0xc001020b, { name: "F15H_PERF", cure: "-cpu …,pmu=off on both sides" }],
];

function msrAnswer(index: number, value: string | undefined): Explanation {
  const known = MSRS.find(([from, to]) => index >= from && index <= to)?.[2];
  const found = value === undefined ? "a refusal" : `0x${value}`;
  if (known === undefined) return { found };
  return {
    where: `CPU, MSR 0x${index.toString(16)} (${known.name})`,
    found,
    ...(known.cure === undefined ? {} : { cure: `${known.cure}; ${SAME_CPU}` }),
  };
}
