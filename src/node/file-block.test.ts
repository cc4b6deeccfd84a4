// Disk images in files: contents, exclusive write access, refusals and their messages.
import { spawn } from "node:child_process";
import { chmod, mkdir, mkdtemp, open, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { newQcow2 } from "../block/qcow2/qcow2-create.ts";
import { type FileBlock, type FileBlockOptions, openFileBlock } from "./file-block.ts";

let directory: string;
let path: string;
const opened: FileBlock[] = [];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-disk-"));
  path = join(directory, "disk.img");
  await writeFile(path, new Uint8Array(1 << 20));
});
afterEach(async () => {
  for (const block of opened.splice(0)) await block.close().catch(() => {});
  await rm(directory, { recursive: true });
});
async function disk(readonly = false, more: Partial<FileBlockOptions> = {}): Promise<FileBlock> {
  const block = await openFileBlock({ path, readonly, ...more });
  opened.push(block);
  return block;
}
const ones = (length: number): Uint8Array => new Uint8Array(length).fill(1);

describe("a file as a disk", () => {
  it("keeps what is written", async () => {
    const block = await disk();
    expect(block.sizeBytes).toBe(1 << 20);
    await block.activate();
    await block.write(512, ones(1024));
    await block.flush();
    expect((await readFile(path)).subarray(512, 1536).every((b) => b === 1)).toBe(true);
    const back = new Uint8Array(2048);
    await block.read(0, back);
    expect([back[511], back[512], back[1535], back[1536]]).toEqual([0, 1, 1, 0]);
  });

  it("reads and writes at once what needs no more than the page cache", async () => {
    for (const format of ["raw", "qcow2"] as const) {
      if (format === "qcow2") await writeFile(path, newQcow2(path, 8 << 20));
      const block = await disk(false, { format });
      expect(block.writeNow(0, ones(512))).toBe(false);
      await block.activate();
      // A slow host is no fault: then it is done otherwise, for some requests.
      const soon = (work: () => boolean): boolean => Array.from({ length: 200 }, work).some(Boolean);
      const isNew = format === "qcow2";
      expect(soon(() => block.writeNow(4096, ones(512)))).toBe(!isNew);
      await block.write(4096, ones(512));
      // The file ends behind it, now also that of a qcow2 image.
      await block.write(12288, ones(512));
      expect(soon(() => block.writeNow(4608, ones(1024)))).toBe(true);
      const back = new Uint8Array(4096);
      expect(soon(() => block.readNow(4096, back))).toBe(true);
      expect([back[0], back[1535], back[1536]]).toEqual([1, 1, 0]);
      await block.flush();
      await block.read(4096, back.fill(7));
      expect([back[0], back[1535], back[1536]]).toEqual([1, 1, 0]);
      if (isNew) expect(soon(() => block.readNow(4 << 20, back))).toBe(true);
      if (isNew) expect(back.every((byte) => byte === 0)).toBe(true);
      await block.inactivate();
      expect(block.writeNow(4608, ones(512))).toBe(false);
      await block.close();
      expect(block.readNow(4096, back)).toBe(false);
    }
    const readonly = await disk(true, { format: "raw" });
    await readonly.activate();
    expect(readonly.writeNow(0, ones(512))).toBe(false);
  });

  it("writes zeroes without filling holes", async () => {
    await truncate(path, 0);
    await truncate(path, 8 << 20);
    const block = await disk();
    await block.activate();
    await block.write(4 << 20, ones(512));
    await block.writeZeroes(0, 8 << 20);
    await block.discard(0, 8 << 20);
    const bytes = await readFile(path);
    expect(bytes.every((b) => b === 0)).toBe(true);
    expect((await stat(path)).blocks * 512).toBeLessThan(4 << 20);
  });

  it("gives space back that is discarded, raw and qcow2, and keeps what is around it", async () => {
    const space = async (): Promise<number> => (await stat(path)).blocks * 512;
    for (const format of ["raw", "qcow2"] as const) {
      await truncate(path, 0);
      if (format === "raw") await truncate(path, 8 << 20);
      else await writeFile(path, newQcow2(path, 8 << 20));
      const block = await openFileBlock({ path, format });
      await block.activate();
      await block.write(0, ones(8 << 20));
      await block.flush();
      const before = await space();
      await block.discard(1 << 20, 4 << 20);
      await block.writeZeroes(6 << 20, 1 << 20, true);
      await block.flush();
      expect(before - (await space()), format).toBeGreaterThan(4 << 20);
      const bytes = new Uint8Array(8 << 20);
      await block.read(0, bytes);
      const kept = [(1 << 20) - 1, 5 << 20, (6 << 20) - 1, 7 << 20, (8 << 20) - 1];
      expect(kept.map((at) => bytes[at])).toEqual([1, 1, 1, 1, 1]);
      expect([1 << 20, (5 << 20) - 1, 6 << 20].map((at) => bytes[at])).toEqual([0, 0, 0]);
      await block.close();
    }
  });

  it("is released even if its last flush fails", async () => {
    const block = await disk();
    await block.activate();
    const someFile = await open(path);
    vi.spyOn(Object.getPrototypeOf(someFile), "datasync").mockRejectedValueOnce(new Error("EIO: i/o error"));
    await someFile.close();
    await expect(block.close()).rejects.toThrow("EIO");
    await (await disk()).activate();
  });

  it("is written only between activate and inactivate", async () => {
    const block = await disk();
    await expect(block.write(0, ones(512))).rejects.toThrow(/not activated/);
    await block.activate();
    await block.write(0, ones(512));
    await block.inactivate();
    await expect(block.write(0, ones(512))).rejects.toThrow(/not activated/);
    const back = new Uint8Array(512);
    await block.read(0, back);
    expect(back[0]).toBe(1);
    const readonly = await disk(true);
    await readonly.activate();
    await expect(readonly.write(0, ones(512))).rejects.toThrow(/readonly/);
  });

  it("has one writer at a time, also in one process", async () => {
    const [a, b] = [await disk(), await disk()];
    await a.activate();
    await expect(b.activate()).rejects.toThrow(
      /cannot be locked for writing: another process, or another drive of this machine, has it open for writing/,
    );
    await a.inactivate();
    await b.activate();
    await expect(a.activate()).rejects.toThrow(/cannot be locked/);
    await b.close();
    await a.activate();
  });

  it("has one writer or any number of readers, in both orders", async () => {
    const [writer, reader, another] = [await disk(), await disk(true), await disk(true)];
    await reader.activate();
    await another.activate();
    await expect(writer.activate()).rejects.toThrow(/locked for writing: .* has it open for reading/);
    await reader.inactivate();
    await another.close();
    await writer.activate();
    await expect(reader.activate()).rejects.toThrow(
      /locked for reading: .* open for writing.*force-share=on/,
    );
    await writer.inactivate();
    await reader.activate();
  });

  it("is read beside its writer with force-share=on, in both orders", async () => {
    const [writer, sharer] = [await disk(), await disk(true, { forceShare: true })];
    await writer.activate();
    await sharer.activate();
    await writer.inactivate();
    await writer.activate();
    const owner = await disk(true);
    await writer.inactivate();
    await owner.activate();
  });

  it("is not locked with locking=off", async () => {
    const [writer, unlocked] = [await disk(), await disk(false, { locking: false })];
    await writer.activate();
    await unlocked.activate();
  });

  it("is refused where no lock can be had: no perl, or a file system without locks", async () => {
    const block = await disk();
    const programs = join(directory, "bin");
    vi.stubEnv("PATH", programs);
    await expect(block.activate()).rejects.toThrow(/perl \(package perl-base\).*ENOENT; locking=off/);
    await mkdir(programs);
    await writeFile(join(programs, "perl"), "#!/bin/sh\necho No locks available >&2; exit 37\n", {
      mode: 0o755,
    });
    await expect(block.activate()).rejects.toThrow(/for writing: No locks available; locking=off opens it/);
    vi.unstubAllEnvs();
    await block.activate();
  });

  it("is unlocked as soon as its holder is killed", async () => {
    const module = new URL("./file-block.ts", import.meta.url).href;
    const script = `import { openFileBlock } from ${JSON.stringify(module)};
      const block = await openFileBlock({ path: ${JSON.stringify(path)} });
      await block.activate(); console.log("locked"); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await new Promise((resolve) => child.stdout.once("data", resolve));
    const block = await disk();
    await expect(block.activate()).rejects.toThrow(/cannot be locked/);
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
    await block.activate();
    expect(block.active).toBe(true);
  });

  it("stays locked while holes are made for it, and no hole is made after its holder was killed", async () => {
    const module = new URL("./file-block.ts", import.meta.url).href;
    const script = `import { openFileBlock } from ${JSON.stringify(module)};
      const block = await openFileBlock({ path: ${JSON.stringify(path)} });
      await block.activate(); await block.discard(0, 65536); console.log("made"); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await new Promise((resolve) => child.stdout.once("data", resolve));
    const own = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, "utf8");
    const perl = Number(own.trim());
    const isThere = (): boolean => {
      try {
        return process.kill(perl, 0);
      } catch {
        return false;
      }
    };
    expect(isThere()).toBe(true);
    // It does not come to the end of its pipe, and holds the lock.
    process.kill(perl, "SIGSTOP");
    child.kill("SIGKILL");
    await vi.waitFor(() => expect(isThere()).toBe(false), { timeout: 20_000 });
    await (await disk()).activate();
  });

  it("is locked by one of many concurrent openers", async () => {
    const blocks = await Promise.all(Array.from({ length: 8 }, () => disk()));
    const results = await Promise.allSettled(blocks.map((block) => block.activate()));
    expect(results.filter((r) => r.status === "fulfilled")).toHaveLength(1);
  });
});

it("zeroes that must keep their space are made by the file system, and discards give it back", async () => {
  const block = await disk();
  await block.activate();
  await block.write(0, ones(1 << 20));
  await block.flush();
  const full = (await stat(path)).blocks;
  await block.writeZeroes(4096, 512 * 1024, false);
  await block.flush();
  const bytes = await readFile(path);
  expect(bytes.indexOf(0)).toBe(4096);
  expect(bytes.indexOf(1, 4096)).toBe(4096 + 512 * 1024);
  expect((await stat(path)).blocks).toBe(full);
  await block.writeZeroes(4096, 512 * 1024, true);
  await block.close();
  expect((await stat(path)).blocks).toBeLessThan(full);
});

describe("refused with a reason", () => {
  it.each([
    ["a missing file", async () => join(directory, "none.img"), /none\.img: no such file; make one/],
    ["a directory", async () => directory, /a directory/],
    ["a device", async () => "/dev/null", /not a regular file/],
    [
      "an odd size",
      async () => {
        await truncate(path, 1000);
        return path;
      },
      /1000 bytes; a raw image is a multiple of 512/,
    ],
    [
      "an empty file",
      async () => {
        await truncate(path, 0);
        return path;
      },
      /0 bytes/,
    ],
  ])("%s", async (_name, make, message) => {
    await expect(openFileBlock({ path: await make() })).rejects.toThrow(message);
  });

  it.skipIf(process.getuid?.() === 0)("a file that may not be written", async () => {
    await chmod(path, 0o444);
    await expect(openFileBlock({ path })).rejects.toThrow(/no permission to write it; readonly=on/);
    await (await openFileBlock({ path, readonly: true })).close();
  });

  it("a writer that would share with other writers", async () => {
    await expect(openFileBlock({ path, forceShare: true })).rejects.toThrow(/force-share=on .*readonly=on/);
  });

  it("a file truncated meanwhile: the read fails, and so does activation", async () => {
    const block = await disk();
    await truncate(path, 4096);
    await expect(block.read(8192, new Uint8Array(512))).rejects.toThrow(/it was truncated/);
    await expect(block.activate()).rejects.toThrow(/4096 bytes, it had 1048576/);
  });
});
