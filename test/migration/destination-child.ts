// A process that waits for a fake machine at the unix socket in its argument, to be killed by a test.
import { MigrationDestination } from "../../src/migration/load/move-destination.ts";
import { listenAt } from "../../src/node/channels/node-channels.ts";
import { nodeEnvironment } from "../../src/node/channels/node-environment.ts";
import { FakeMachine } from "../support/fake-machine.ts";

const address = { transport: "unix", path: process.argv[2] as string } as const;
const machine = new FakeMachine({ ramPages: 2000, seed: 99 });
const destination = new MigrationDestination(machine, { environment: nodeEnvironment });
await listenAt(address, (channel) => void destination.accept(channel));
process.send?.("listening");
process.send?.((await destination.done).status);
