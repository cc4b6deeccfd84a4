// Latency of a kick: one hart computes (pulse, without idling); this thread kicks it at random moments and
// waits until it is outside guest mode. Wall time, so run it on a quiet host; the loop's own time without a
// guest is printed for comparison.
//   node bench/kick.ts [--engine interpreter] [--kicks N]
import { parseArgs } from "node:util";
import { CharPipe } from "../src/devices/char-backend.ts";
import { buildPulse } from "../src/guest/pulse-guest.ts";
import { createMachine } from "../src/embed/create-machine.ts";
import type { EngineKind } from "../src/hypervisor/shared/engine-kind.ts";
import { CTL_MODE } from "../src/hypervisor/shared/memory-map.ts";
import { makeRequests, REQ, VCPU_MODE, VcpuRequests } from "../src/hypervisor/requests/vcpu-requests.ts";
import type { Vm } from "../src/hypervisor/vm/vm.ts";
import { clock } from "../src/node/node-runtime.ts";

const { monotonicNs } = clock;
import { nodePlatform } from "../src/node/node-platform.ts";

const { values } = parseArgs({
  options: { engine: { type: "string", default: "translator" }, kicks: { type: "string", default: "20000" } },
});
const kicks = Number(values.kicks);
const LIMIT_US = 100;
/** By then the code is translated and optimised. */
const WARM_UP_MS = 3000;
const MAX_PAUSE_US = 200;

const { machine } = await createMachine(
  {
    harts: 1,
    memoryBytes: 64 << 20,
    kernel: await buildPulse(),
    append: "pulse.nodisk pulse.report=1000000 pulse.mem=16",
    engine: values.engine as EngineKind,
  },
  { serial: new CharPipe(() => {}) },
  nodePlatform,
);
const vcpu = new VcpuRequests((machine.vm as unknown as Vm).buffer, 0);

/** Spins: a timer's resolution is a hundred times the measured time. */
function spin(us: number): void {
  for (const end = monotonicNs() + us * 1000; monotonicNs() < end; );
}

async function sample(kick: () => void, isThere: () => boolean): Promise<string> {
  const us: number[] = [];
  while (us.length < kicks) {
    // This thread also handles the guest's exits.
    await new Promise(setImmediate);
    spin(Math.random() * MAX_PAUSE_US);
    if (!isThere()) continue;
    const start = monotonicNs();
    kick();
    us.push((monotonicNs() - start) / 1000);
  }
  us.sort((a, b) => a - b);
  const at = (share: number): string => (us[Math.floor(share * (us.length - 1))] as number).toFixed(1);
  const late = us.filter((t) => t > LIMIT_US).length;
  return `median ${at(0.5)}, 99 % ${at(0.99)}, 99.9 % ${at(0.999)}, worst ${at(1)} µs; ${late} of ${us.length} over ${LIMIT_US} µs`;
}

const kick = (): void => makeRequests(REQ.OUTSIDE_GUEST_MODE, [vcpu]);
await machine.start();
await new Promise((resolve) => setTimeout(resolve, WARM_UP_MS));
const inGuest = (): boolean => vcpu.load(CTL_MODE) === VCPU_MODE.IN_GUEST_MODE;
console.log(`${values.engine}: ${await sample(kick, inGuest)}`);
await machine.stop();
console.log(`a stopped hart: ${await sample(kick, () => true)}`);
await machine.vm.destroy();
