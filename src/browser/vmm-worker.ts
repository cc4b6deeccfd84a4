// The VMM thread in a browser: a worker that owns one machine and executes the page's calls. Its vCPUs are
// nested workers. (The page's thread cannot be the VMM: it must not block.)
import { messageOf, WherryError } from "../base/errors.ts";
import { randomSource } from "../embed/create-machine.ts";
import { HostedMachine } from "../embed/hosted-machine.ts";
import { MemorySink, pieceChannel } from "../embed/memory-snapshot.ts";
import { browserMigrationEnvironment, browserPlatform } from "./browser-platform.ts";
import { openShareOf, type SavedShare } from "../share/share-state.ts";
import type { FileTree } from "../share/file-tree.ts";
import { filesTree, tarTree } from "../share/tar-tree.ts";
import { zipTree } from "../share/zip-tree.ts";
import { inflate } from "./browser-unpack.ts";
import type { MemoryShare } from "./browser-machine.ts";
import type { VmmHandlers, VmmMessage, VmmRequest } from "./vmm-worker-protocol.ts";

const post = (message: VmmMessage): void => postMessage(message);

let machine: HostedMachine | undefined;

function theMachine(): HostedMachine {
  if (machine === undefined)
    throw new WherryError("browser.machine", "there is no machine yet: create it first");
  return machine;
}

/** Console output of one turn of the event loop is sent as one message: guests write byte by byte. */
let output: Uint8Array<ArrayBuffer>[] = [];
let outputIsRead = Promise.withResolvers<void>();
/** Of the messages that the page has not read. */
const unread: (() => void)[] = [];

function collectOutput(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  if (output.push(bytes) === 1) browserPlatform.defer(flushOutput);
  return outputIsRead.promise;
}

function flushOutput(): void {
  if (output.length === 0) return;
  const bytes = new Uint8Array(output.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of output) {
    bytes.set(piece, at);
    at += piece.length;
  }
  output = [];
  unread.push(outputIsRead.resolve);
  outputIsRead = Promise.withResolvers();
  post({ kind: "console", bytes });
}

function watchEnd({ ended }: HostedMachine): void {
  void ended.then((end) => {
    flushOutput();
    post({ kind: "ended", end });
  });
}

/** Files of the page. */
function openShare({ tag, files = {}, tar, zip }: MemoryShare): Promise<SavedShare> {
  const { wallNs } = browserPlatform.clock;
  const warn = (message: string): void => post({ kind: "warning", message });
  const open = (): Promise<FileTree> => {
    if (zip !== undefined) return zipTree(zip, inflate);
    return tar === undefined ? filesTree(files, { wallNs }) : tarTree(tar);
  };
  return openShareOf(tag, open, warn);
}

const handlers: VmmHandlers = {
  async create({ rng, shares = [], ...config }) {
    const randomBytes = randomSource(config, browserPlatform);
    const random = (target: Uint8Array) => target.set(randomBytes(target.length));
    machine = await HostedMachine.create(
      {
        ...config,
        onConsole: collectOutput,
        onRunState(state) {
          flushOutput();
          post({ kind: "run-state", state });
        },
        onWarning: (message) => post({ kind: "warning", message }),
      },
      { ...(rng === true ? { random } : {}), shares: await Promise.all(shares.map(openShare)) },
      browserPlatform,
    );
    watchEnd(machine);
  },
  start: async () => theMachine().start(),
  pause: async () => theMachine().pause(),
  async reset() {
    const before = theMachine().ended;
    await theMachine().reset();
    if (theMachine().ended !== before) watchEnd(theMachine());
  },
  write: async (input) => theMachine().write(input),
  consoleRead: async () => unread.shift()?.(),
  async save() {
    const sink = new MemorySink();
    await theMachine().save(async () => sink, browserMigrationEnvironment);
    return new Blob([...sink.chunks]);
  },
  async load(state, clock) {
    await theMachine().load(pieceChannel(state.stream()), clock);
  },
  close: async () => theMachine().close(),
};

addEventListener("message", ({ data: { id, call, args } }: MessageEvent<VmmRequest>) => {
  // The types of a call and its arguments correspond; TypeScript cannot express that for a union.
  const handler = handlers[call] as (...args: unknown[]) => Promise<unknown>;
  handler(...args).then(
    (value) => post({ kind: "answer", id, value }),
    (error: unknown) => {
      const code = error instanceof WherryError ? error.code : "machine.internal";
      post({ kind: "refusal", id, code, message: messageOf(error) });
    },
  );
});
