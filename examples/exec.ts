// Runs a command in the guest of a saved machine, and leaves the saved machine as it is: each run starts from
// the same state. The machine was started with --agent, and its guest has qemu-guest-agent.
//   wherry save tmp/web.state --qmp web
//   npx node examples/exec.ts tmp/web.state uname -a
import { AgentError, Machine } from "wherry/node";

const [state, command, ...args] = process.argv.slice(2);
if (state === undefined || command === undefined) throw new Error("usage: exec.ts STATE COMMAND [ARGUMENT…]");

await using vm = await Machine.restore(state, { agent: true });
if (vm.runState === "paused") await vm.start();
try {
  const { exitCode } = await vm.exec(command, {
    args,
    timeoutMs: 60_000,
    onStdout: (bytes) => process.stdout.write(bytes),
    onStderr: (bytes) => process.stderr.write(bytes),
  });
  process.exitCode = exitCode;
} catch (error) {
  if (!(error instanceof AgentError)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
}
