// The contract for the state of the hypervisor half: interrupt controller, timer, cached vCPU state.
import { Aclint, aclintState } from "../../src/hypervisor/irqchip/aclint.ts";
import { GuestClock } from "../../src/hypervisor/requests/guest-clock.ts";
import { HartPending } from "../../src/hypervisor/requests/hart-pending.ts";
import { hartBase } from "../../src/hypervisor/shared/memory-map.ts";
import { Plic, plicState } from "../../src/hypervisor/irqchip/plic.ts";
import { VcpuRequests } from "../../src/hypervisor/requests/vcpu-requests.ts";
import { irqchipSection } from "../../src/machines/accelerator-sections.ts";
import { cpuCommonState, cpuState } from "../../src/vmm/riscv-cpu-state.ts";
import { stateSection } from "../../src/state/section.ts";
import { contractSuite } from "./contract.ts";

const HARTS = 2;

function harts(): { buffer: SharedArrayBuffer; vcpus: VcpuRequests[] } {
  const buffer = new SharedArrayBuffer(hartBase(HARTS));
  return { buffer, vcpus: Array.from({ length: HARTS }, (_, i) => new VcpuRequests(buffer, i)) };
}

contractSuite(
  "plic",
  () => {
    const { buffer, vcpus } = harts();
    const device = new Plic(buffer, vcpus);
    return { device, sections: [irqchipSection(plicState, device)] };
  },
  {
    arrange({ device }) {
      for (const source of [1, 10, 33]) device.write(4 * source, source % 8); // priorities
      device.write(0x2080, 0x402); // context 1: sources 1 and 10
      device.write(0x2084, 0x2); // and 33
      device.write(0x201000, 1); // threshold of context 1
      for (const source of [10, 33, 40]) device.setLine(source, true);
      device.read(0x201004); // claim
      device.setLine(40, false);
    },
  },
);

contractSuite(
  "aclint",
  () => {
    const { buffer, vcpus } = harts();
    const pending = vcpus.map((vcpu, i) => new HartPending(buffer, hartBase(i) + 0x800, vcpu));
    const device = new Aclint(buffer, vcpus, pending, new GuestClock(buffer, () => 0, true));
    return { device, sections: [irqchipSection(aclintState, device)] };
  },
  {
    arrange({ device }) {
      device.write(0x4000, 8, 0x1234_5678_9abc_def0n); // mtimecmp of hart 0
      device.write(0x400c, 4, 7n); // high half of hart 1's
      device.write(0x0004, 4, 1n); // msip of hart 1
    },
  },
);

/** The VMM's cached copy of one vCPU, as in Cpus. */
class CpuCopy {
  readonly state = cpuState.create();
  readonly common = cpuCommonState.create();
}

contractSuite(
  "cpu",
  () => {
    const device = new CpuCopy();
    return {
      device,
      sections: [
        stateSection(cpuCommonState, device.common, { idstr: "cpu_common", instanceId: 1 }),
        stateSection(cpuState, device.state, { idstr: "cpu", instanceId: 1 }),
      ],
    };
  },
  {
    arrange({ device: { state, common } }) {
      common.halted = 1;
      Object.assign(state, { pc: 0xffff_ffff_8000_1234n, fcsr: 0x21, priv: 1, mhartid: 1n, mpState: 5 });
      Object.assign(state, {
        satp: (10n << 60n) | 0x80200n,
        mstatus: 0xa_0000_0022n,
        stealTimeShmem: 0n,
        timerCompare: 2n ** 64n - 1n,
      });
      state.x.set([0n, 1n, 2n ** 64n - 1n]);
      state.f[31] = 0xffff_ffff_3f80_0000n;
      state.pmpcfg[0] = 0x1f;
      state.pmpaddr[0] = 2n ** 54n - 1n;
    },
    states: ["state", "common"],
    refuses: ["halted", "x[0]", "fcsr", "priv", "mp_state"],
  },
);
