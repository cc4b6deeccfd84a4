// Differences between two small ext4 images that our writer makes, with e2fsprogs' debugfs.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { Ext4Writer } from "../src/ext4/ext4-writer.ts";
import { applyRecording, type RecordedEntry } from "../src/guest/recorded-configuration.ts";
import { RootFiles } from "../src/guest/root-files.ts";
import { imageDifference } from "./image-difference.ts";

const hasDebugfs = spawnSync("debugfs", ["-V"]).error === undefined;
const BYTES = 32 << 20;
const directory = { uid: 0, gid: 0 };

async function image(path: string, entries: readonly RecordedEntry[]): Promise<string> {
  const file = await open(path, "wx");
  try {
    await file.truncate(BYTES);
    const sink = {
      write: async (at: number, data: Uint8Array) => void (await file.write(data, 0, data.length, at)),
    };
    const identity = { uuid: new Uint8Array(16).fill(1), hashSeed: new Uint8Array(16), label: "", time: 1 };
    const writer = new Ext4Writer(sink, BYTES, identity);
    const files = new RootFiles(writer, 1);
    await applyRecording(files, { packages: {}, entries });
    await writer.finish(files.root);
  } finally {
    await file.close();
  }
  return path;
}

it.skipIf(!hasDebugfs && process.env["CI"] === undefined)(
  "has each entry's contents, owner and whole mode, also setuid, setgid and sticky",
  async () => {
    const work = mkdtempSync(join(tmpdir(), "wherry-difference-"));
    try {
      const same = { path: "a", mode: 0o755, ...directory };
      const helper = { path: "a/helper", mode: 0o755, uid: 0, gid: 0 };
      const before = [same, { ...helper, text: "\0binary" }, { ...same, path: "cache" }];
      const after = [
        ...before.slice(0, 2),
        { ...helper, mode: 0o4754, gid: 101 },
        { path: "a/link", mode: 0o777, uid: 0, gid: 0, target: "helper" },
        { path: "a/text", mode: 0o640, uid: 0, gid: 42, text: "words\n" },
        { path: "cache", mode: 0o700, ...directory },
        { path: "mail", mode: 0o2775, uid: 0, gid: 8 },
        { path: "tmp", mode: 0o1777, ...directory },
      ];
      const [early, late] = [await image(join(work, "0"), before), await image(join(work, "1"), after)];
      expect(imageDifference(early, late, /^(lost\+found|cache)/)).toEqual([
        ...after.slice(2, 5),
        ...after.slice(6),
      ]);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  },
);
