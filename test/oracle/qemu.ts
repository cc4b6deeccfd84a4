// QEMU as the oracle: runs an image of RAM to power-off and returns RAM. RAM is a file that QEMU maps, so
// nothing is loaded or dumped. The comparisons were made with Debian 12's QEMU 7.2.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tmpdir } from "node:os";

const QEMU = "qemu-system-riscv64";
/** The default CPU without the hypervisor extension, which Wherry refuses. */
const CPU = "rv64,h=off,Zfh=true";

/** Undefined if QEMU is not installed. */
export function qemuVersion(): string | undefined {
  const { stdout, status } = spawnSync(QEMU, ["--version"], { encoding: "utf8" });
  return status === 0 ? stdout.split("\n")[0] : undefined;
}

/** Starts at the first byte of RAM in M-mode; the guest ends by writing 0x5555 to the test device. */
export async function runInQemu(image: Uint8Array, timeoutMs = 120_000): Promise<Uint8Array> {
  const directory = mkdtempSync(join(tmpdir(), "wherry-qemu-"));
  try {
    const path = join(directory, "ram");
    writeFileSync(path, image);
    const memory = `memory-backend-file,id=ram,size=${image.length},mem-path=${path},share=on`;
    const args = ["-machine", "virt,memory-backend=ram", "-m", `${image.length / 1024}k`, "-object", memory];
    args.push("-cpu", CPU, "-bios", "none", "-nodefaults", "-display", "none");
    // With one hart QEMU executes an AMO as a load and a store, which raise other faults than an AMO. The
    // runner parks the second hart.
    args.push("-smp", "2", "-accel", "tcg,thread=multi");
    const child = spawn(QEMU, args, { stdio: ["ignore", "ignore", "pipe"] });
    let stderr = "";
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (...status) => resolve(status));
    });
    clearTimeout(timer);
    if (code !== 0) throw new Error(`${QEMU} ended with ${signal ?? code}: ${stderr}`);
    return new Uint8Array(readFileSync(path));
  } finally {
    rmSync(directory, { recursive: true });
  }
}
