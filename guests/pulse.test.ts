// Pulse under the installed QEMU (skipped if there is none): it passes on both virtio transports, with harts
// that stop and suspend, and detects each fault that it can plant in itself.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildPulse, PULSE_ADDRESS } from "../src/guest/pulse-guest.ts";

const QEMU = "qemu-system-riscv64";
const RUN_MS = 90_000;
const MODERN = ["-global", "virtio-mmio.force-legacy=false"];

function qemuIsThere(): boolean {
  try {
    execFileSync(QEMU, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

let directory = "";
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "wherry-pulse-"));
  writeFileSync(join(directory, "pulse.bin"), await buildPulse());
});
afterAll(() => rmSync(directory, { recursive: true }));

it("is a Linux Image for the address it is loaded at", async () => {
  const image = await buildPulse();
  const view = new DataView(image.buffer);
  expect(view.getBigUint64(8, true)).toBe(PULSE_ADDRESS - 0x80000000n);
  expect(Number(view.getBigUint64(16, true))).toBeGreaterThan(image.length);
  expect(Buffer.from(image.subarray(48, 60)).toString("latin1")).toBe("RISCV\0\0\0RSC\x05");
  expect(await buildPulse()).toEqual(image);
});

/**
 * Runs pulse until it ends: `keys` is typed after the second report and after each later one. A timer that is
 * postponed just when its tick comes is armed again by the tick, so that once may not suffice.
 */
function run(harts: number, append: string, keys: string, ...more: string[]): Promise<string> {
  const disk = join(directory, `${harts}${keys}.disk`);
  writeFileSync(disk, new Uint8Array(1 << 20));
  const args = `-machine virt -m 128 -bios default -display none -serial stdio -smp ${harts}`.split(" ");
  const drive = ["-drive", `if=none,id=d,format=raw,file=${disk}`, "-device", "virtio-blk-device,drive=d"];
  const append200 = `pulse.report=200 pulse.blocks=8 ${append}`;
  const all = [...args, "-kernel", join(directory, "pulse.bin"), "-append", append200, ...drive, ...more];
  const child = spawn(QEMU, all, { stdio: ["pipe", "pipe", "ignore"] });
  let output = "";
  let typedAt = 1;
  child.stdin.on("error", () => {});
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
    const reports = (output.match(/ OK$/gm) ?? []).length;
    if (reports <= typedAt) return;
    typedAt = reports;
    child.stdin.write(keys);
  });
  const giveUp = setTimeout(() => child.kill(), RUN_MS);
  return new Promise((resolve) =>
    child.on("close", () => {
      clearTimeout(giveUp);
      resolve(output);
    }),
  );
}

describe.runIf(qemuIsThere())("under QEMU", { timeout: 120_000 }, () => {
  it.each([
    ["one hart, legacy virtio", 1, "", []],
    ["four harts, modern virtio", 4, "", MODERN],
    ["SBI's timer, a polled disk, a low dirty rate", 2, "pulse.sbitimer pulse.poll pulse.rate=3", []],
    ["harts that wait, stop and start", 3, "pulse.idle pulse.hotplug=5", MODERN],
    ["harts that suspend", 2, "pulse.suspend=1 pulse.hotplug=20", []],
  ] as const)("runs clean: %s", async (_, harts, append, more) => {
    const output = await run(harts, append, "q", ...more);
    expect(output).toMatch(/^pulse: done .* OK\r?$/m);
    expect(output).not.toContain("FAIL");
  });

  it.each([
    ["C", "counter"],
    ["M", "memory"],
    ["T", "early or doubled tick"],
    ["L", "lost tick"],
    ["F", "floating-point register"],
    ["A", "shared total"],
    ["D", "disk data"],
    ["I", "lost ipi"],
  ])("planted fault %s ends in: %s", async (key, what) => {
    expect(await run(2, "", key)).toMatch(new RegExp(`^pulse: FAIL ${what} `, "m"));
  });
});
