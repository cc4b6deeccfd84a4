// QEMU and Wherry lock the same image: what each of them may do beside the other, with the installed QEMU.
import { execFileSync, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openFileBlock } from "../../src/node/file-block.ts";

const QEMU = "qemu-system-riscv64";
let directory = "";
let image = "";
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-lock-"));
  image = join(directory, "image");
  await writeFile(image, new Uint8Array(1 << 20));
});
afterAll(() => rm(directory, { recursive: true }));

function isInstalled(): boolean {
  try {
    execFileSync(QEMU, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Resolves when QEMU has opened the image, to a function that ends it; rejects with its refusal. */
function qemu(drive: string): Promise<() => Promise<void>> {
  const machine = "-M virt -m 64M -S -display none -serial none -monitor none -qmp stdio".split(" ");
  const disk = ["-drive", `if=none,id=d,format=raw,file=${image}${drive}`];
  const child = spawn(QEMU, [...machine, ...disk, "-device", "virtio-blk-device,drive=d"]);
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  return new Promise((resolve, reject) => {
    let [output, error] = ["", ""];
    child.stderr.on("data", (bytes: Buffer) => (error += bytes.toString()));
    // Answered once all devices exist.
    child.stdin.on("error", () => {}).write('{"execute": "qmp_capabilities"}');
    child.stdout.on("data", (bytes: Buffer) => {
      output += bytes.toString();
      if (!output.includes('"return"')) return;
      resolve(() => {
        child.kill();
        return ended;
      });
    });
    child.on("error", reject);
    child.on("close", () => reject(new Error(error)));
  });
}

const NOTHING = undefined;
const OPTIONS: Record<string, string> = {
  write: "",
  read: ",readonly=on",
  shared: ",readonly=on,force-share=on",
};

describe.runIf(isInstalled())("an image that QEMU and Wherry open", () => {
  test.each([
    ["write", "write", /open for writing/, /Failed to get "write" lock/],
    ["write", "read", /open for writing/, /Failed to get "write" lock|Failed to get shared "write" lock/],
    ["read", "write", /open for reading/, /Failed to get shared "write" lock|Failed to get "write" lock/],
    ["read", "read", NOTHING, NOTHING],
    ["write", "shared", NOTHING, NOTHING],
  ])("first for %s, then for %s", async (first, second, wherryRefuses, qemuRefuses) => {
    const block = async (use: string) => {
      const opened = await openFileBlock({
        path: image,
        readonly: use !== "write",
        forceShare: use === "shared",
      });
      return { activate: () => opened.activate(), close: () => opened.close() };
    };
    const end = await qemu(OPTIONS[first] ?? "");
    const mine = await block(second);
    if (wherryRefuses === undefined) await mine.activate();
    else await expect(mine.activate()).rejects.toThrow(wherryRefuses);
    await end();
    await mine.activate();
    await mine.close();

    const holder = await block(first);
    await holder.activate();
    if (qemuRefuses === undefined) await (await qemu(OPTIONS[second] ?? ""))();
    else await expect(qemu(OPTIONS[second] ?? "")).rejects.toThrow(qemuRefuses);
    await holder.close();
    await (await qemu(OPTIONS[second] ?? ""))();
  });
});
