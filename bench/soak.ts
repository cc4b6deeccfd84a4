// Whether memory grows in a long run: one machine under Wherry runs the bench's programs in random order, and
// its resident memory is read after each. All of the guest's RAM is touched first, so that later growth is
// not the guest's.
//   node bench/soak.ts [--minutes N] [--engine E] [--seed S]
import { join } from "node:path";
import { fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { directory, options } from "../test/support/cases.ts";
import { compileGuest, writeInitramfs } from "./build.ts";
import { guestPrograms } from "./debian.ts";
import { spread } from "./figures.ts";
import { BenchMachine, wherryMonitor } from "./machines.ts";
import { guestCommand, parseResult } from "./program-commands.ts";
import { PROGRAMS } from "./programs.ts";
import { randomBelow } from "../test/support/random.ts";

const given = options({ minutes: 60, engine: "" });
const GUEST_MIB = 512;
const SCALE = 1 / 4;
/**
 * Limit of growth from the second to the last quarter of the time; the garbage collector may cause less than
 * this.
 */
const MAX_GROWTH_MIB = 16;

const random = randomBelow(given.seed);

const guest = await fetchDebianGuest();
const initrd = join(directory, "initrd.cpio");
await writeInitramfs(initrd, guest.initrd, await compileGuest(), await guestPrograms());
const machine = await BenchMachine.boot(wherryMonitor(given.engine), {
  harts: 2,
  memoryMib: GUEST_MIB,
  kernel: guest.kernel,
  initrd,
});
// The little that is left is the kernel's.
const available = "$(($(sed -n 's/^MemAvailable: *\\([0-9]*\\).*/\\1/p' /proc/meminfo) / 1024 - 40))";
await machine.run(
  `mkdir /a; mount -t tmpfs -o size=100% a /a; dd if=/dev/zero of=/a/f bs=1M count=${available}`,
);
await machine.run("umount /a");

console.log(`seed ${given.seed}, ${given.minutes} minutes, guest of ${GUEST_MIB} MiB on 2 harts`);
const checksums = new Map<string, string | undefined>();
const samples: { minutes: number; mib: number }[] = [];
const start = performance.now();
const elapsed = (): number => (performance.now() - start) / 60_000;
let said = 0;
while (elapsed() < given.minutes) {
  const program = PROGRAMS[random(PROGRAMS.length)];
  if (program === undefined) break;
  const { text } = await machine.run(guestCommand(program, SCALE));
  const { checksum } = parseResult(program, text);
  if (checksums.has(program.name) && checksums.get(program.name) !== checksum)
    throw new Error(`${program.name}: checksum ${checksum}, was ${checksums.get(program.name)}`);
  checksums.set(program.name, checksum);
  samples.push({ minutes: elapsed(), mib: (await machine.memory()).now });
  if (elapsed() >= said) {
    console.log(`minute ${said}: ${samples.length} runs, ${samples.at(-1)?.mib.toFixed(0)} MiB`);
    said = Math.floor(elapsed()) + 1;
  }
}
const { peak } = await machine.memory();
await machine.end();
const quarter = (n: number): number =>
  spread(
    samples.filter(({ minutes }) => Math.floor((4 * minutes) / given.minutes) === n).map(({ mib }) => mib),
  ).median;
const growth = quarter(3) - quarter(1);
console.log(
  `${samples.length} runs; medians of the quarters: ${[0, 1, 2, 3].map((n) => `${quarter(n).toFixed(0)} MiB`).join(", ")}; ` +
    `peak ${peak.toFixed(0)} MiB, ${(peak - GUEST_MIB).toFixed(0)} over the guest's RAM`,
);
const grows = !(growth <= MAX_GROWTH_MIB);
console.log(`${grows ? "FAILED: it grows by" : "ok: growth"} ${growth.toFixed(0)} MiB`);
process.exit(grows ? 1 : 0);
