// System calls on an open file that Node does not have, made by perl (Debian's perl-base, which is essential)
// in a child process that inherits the file: it shares the open file description, and with it the locks.
import { spawn } from "node:child_process";
import type { FileHandle } from "node:fs/promises";

export interface PerlResult {
  readonly status: number | NodeJS.Signals;
  readonly output: string;
  readonly error: string;
}

/** Runs `script` with the file as $file. Rejects if perl cannot be started. */
export function perl(handle: FileHandle, script: string, ...args: string[]): Promise<PerlResult> {
  return new Promise((resolve, reject) => {
    const open = `use strict; open(my $file, "<&=", 3) or die "$!\\n";\n`;
    const child = spawn("perl", ["-e", open + script, "--", ...args], {
      stdio: ["ignore", "pipe", "pipe", handle.fd],
      // The system's messages in English, and none about a locale that is not installed.
      env: { ...process.env, LC_ALL: "C" },
    });
    let [output, error] = ["", ""];
    // Every slot of `stdio` above is a pipe or known: both streams exist.
    child.stdout?.on("data", (bytes: Buffer) => (output += bytes.toString()));
    child.stderr?.on("data", (bytes: Buffer) => (error += bytes.toString()));
    child.on("error", reject);
    child.on("close", (code, signal) =>
      resolve({ status: code ?? signal ?? 1, output, error: error.trim() }),
    );
  });
}
