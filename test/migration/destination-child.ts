// A process that waits for a fake machine at the address in its argument, to be killed by a test.
import { MigrationDestination } from "../../src/migration/load/move-destination.ts";
import { listenAt, parseAddress } from "../../src/node/node-channels.ts";
import { nodeEnvironment } from "../../src/node/node-environment.ts";
import { FakeMachine } from "./fake-machine.ts";

const address = parseAddress(process.argv[2] ?? "");
if (address.transport === "file") throw new Error("a socket address is needed");
const machine = new FakeMachine({ ramPages: 2000, seed: 99 });
const destination = new MigrationDestination(machine, { environment: nodeEnvironment });
await listenAt(address, (channel) => void destination.accept(channel));
process.send?.("listening");
process.send?.((await destination.done).status);
