// A guest agent that runs commands and opens files on this host, for the scripts that the guest's shell runs.
import { type ChildProcess, spawn } from "node:child_process";
import { constants, type FileHandle, open } from "node:fs/promises";
import { constants as system } from "node:os";
import type { Agent } from "../../src/agent/agent-client.ts";
import { AgentError } from "../../src/agent/agent-error.ts";

interface Arguments {
  readonly path: string;
  readonly arg?: readonly string[];
  readonly mode?: string;
  readonly handle?: number;
  readonly count?: number;
  readonly pid?: number;
  readonly "input-data"?: string;
  readonly "buf-b64"?: string;
}

/** `delays` gives how long a command's start takes, in seconds. */
export function hostAgent(delays: (script: string) => number = () => 0): Agent {
  const files = new Map<number, FileHandle>();
  const children = new Map<number, ChildProcess>();
  let handles = 0;
  const file = ({ handle = 0 }: Arguments): FileHandle => files.get(handle) as FileHandle;
  const commands: Record<string, (args: Arguments) => Promise<unknown>> = {
    async "guest-file-open"(args) {
      // As the agent, it does not wait for a pipe.
      const flags = args.mode === "r" ? constants.O_RDONLY : constants.O_RDWR;
      files.set(++handles, await open(args.path, flags | constants.O_NONBLOCK));
      return handles;
    },
    async "guest-file-close"(args) {
      await file(args).close();
      return {};
    },
    async "guest-file-read"(args) {
      const { bytesRead, buffer } = await file(args).read(Buffer.alloc(args.count ?? 4096));
      return { count: bytesRead, eof: bytesRead === 0, "buf-b64": buffer.toString("base64", 0, bytesRead) };
    },
    async "guest-file-write"(args) {
      const bytes = Buffer.from(args["buf-b64"] ?? "", "base64");
      const written = await file(args)
        .write(bytes)
        .catch((cause: Error) => {
          throw new AgentError("agent.command", "the guest agent refuses guest-file-write", { cause });
        });
      return { count: written.bytesWritten, eof: false };
    },
    "guest-file-flush": async () => ({}),
    async "guest-exec"({ path, arg = [], "input-data": input }) {
      const late = delays(arg[1] ?? "");
      const words = late === 0 ? [path, ...arg] : ["sh", "-c", `sleep ${late}; exec "$0" "$@"`, path, ...arg];
      const child = spawn(words[0] as string, words.slice(1), { stdio: ["pipe", "ignore", "ignore"] });
      child.stdin?.on("error", () => {}).end(Buffer.from(input ?? "", "base64"));
      children.set(child.pid as number, child);
      return { pid: child.pid };
    },
    async "guest-exec-status"({ pid = 0 }) {
      const child = children.get(pid) as ChildProcess;
      const { exitCode, signalCode } = child;
      const ended = signalCode === null ? { exitcode: exitCode } : { signal: system.signals[signalCode] };
      return { exited: exitCode !== null || signalCode !== null, ...ended };
    },
  };
  return { execute: async (command, args) => await commands[command]?.(args as unknown as Arguments) };
}
