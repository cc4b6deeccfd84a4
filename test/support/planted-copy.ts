// A temporary copy of the repository's configuration and chosen parts, to plant a violation in.
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");

export interface PlantedCopy {
  readonly root: string;
  plant(path: string, text: string): void;
  /** Runs a tool of node_modules/.bin; `output` is stdout and stderr. */
  run(tool: string, ...args: string[]): { status: number | null; output: string };
  remove(): void;
}

/**
 * Copies `parts`, files and directories of the repository; node_modules is a link, package.json is minimal.
 */
export function plantedCopy(parts: readonly string[]): PlantedCopy {
  const root = mkdtempSync(join(tmpdir(), "wherry-gate-"));
  for (const part of parts) cpSync(join(ROOT, part), join(root, part), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(root, "node_modules"));
  writeFileSync(join(root, "package.json"), '{ "name": "planted", "type": "module" }\n');
  return {
    root,
    plant(path, text) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    },
    run(tool, ...args) {
      const { status, stdout, stderr } = spawnSync(join(ROOT, "node_modules/.bin", tool), args, {
        cwd: root,
        encoding: "utf8",
        maxBuffer: 2 ** 26,
        env: { ...process.env, PATH: `${join(ROOT, "node_modules/.bin")}:${process.env["PATH"]}` },
      });
      return { status, output: stdout + stderr };
    },
    remove: () => rmSync(root, { recursive: true, force: true }),
  };
}
