// QEMU's side of a move, for tests that cut wires: fake machines with a QEMU profile, and both ends of a move
// with QEMU's behaviour (its migration/migration.c and savevm.c): a destination runs the machine from the end
// of the stream on and only then sends SHUT, and closes without a message if it cannot load; a source has no
// GO.
import type { Channel } from "../../src/stream/channel.ts";
import { acceptCommand } from "../../src/migration/load/qemu-load.ts";
import { defaultEnvironment } from "../../src/migration/environment/migration-environment.ts";
import { StreamLoader } from "../../src/migration/load/load-stream.ts";
import { allPages } from "../../src/migration/ram/ram-save.ts";
import { pongMessage, ReturnPath, shutMessage } from "../../src/stream/return-path.ts";
import { cookieBytes, StreamSaver } from "../../src/migration/save/save-stream.ts";
import { beginArrival, failArrival } from "../../src/migration/load/arrival.ts";
import { StreamReader } from "../../src/stream/stream-reader.ts";
import { StreamWriter } from "../../src/stream/stream-writer.ts";
import { MIG_CMD, QEMU_VM } from "../../src/stream/wire.ts";
import { ByteReader } from "../../src/base/bytes.ts";
import type { QemuStreamLoader, QemuStreams, Refusal, QemuProfile } from "../../src/vmm/qemu-profile.ts";
import type { Section } from "../../src/state/section.ts";
import { FakeMachine, type FakeOptions } from "./fake-machine.ts";

export const PROFILE = "qemu-0.1";

export class FakeProfiles implements QemuStreams {
  readonly names = [PROFILE];
  readonly reasons: Refusal[] = [];
  rebuilds = 0;
  /** Of other devices than the machine has. */
  readonly extra: Section[] = [];
  readonly #machine: FakeMachine;

  constructor(machine: FakeMachine) {
    this.#machine = machine;
  }

  profile(name: string): QemuProfile {
    return {
      name,
      sections: [...this.#machine.sections, ...this.extra],
      ramBlocks: this.#machine.memory.blocks.map(({ name: block, size }) => ({ name: block, size })),
      switchoverStart: true,
      refusals: async () => this.reasons,
      commandLines: () => ({ qemu: ["qemu"], wherry: ["wherry"] }),
    };
  }
  loader(): QemuStreamLoader {
    return {
      release: PROFILE,
      sections: this.#machine.sections,
      dropped: (idstr) => (idstr === "slirp" ? "connections end" : undefined),
      droppedBlock: (name) => (name.startsWith("/rom@") ? "rebuilt" : undefined),
      rebuild: () => this.rebuilds++,
    };
  }
}

export class QemuFakeMachine extends FakeMachine {
  readonly profiles: FakeProfiles;
  constructor(options: FakeOptions = {}) {
    super(options);
    this.profiles = new FakeProfiles(this);
    Object.assign(this.vm, { builtinFirmware: false });
    this.qemu = this.profiles;
  }
  get profile(): QemuProfile {
    return this.profiles.profile(PROFILE);
  }
}

/** A QEMU started with -incoming that accepts one connection. Returns true if the machine runs there. */
export async function qemuDestination(machine: QemuFakeMachine, channel: Channel): Promise<boolean> {
  beginArrival(machine);
  const reader = new StreamReader(channel);
  let hasReturnPath = false;
  const loader = new StreamLoader(machine, reader, {
    onCommand: async ({ name, data }) => {
      if (name === "OPEN_RETURN_PATH") hasReturnPath = true;
      else if (name === "PING") await channel.write(pongMessage(new ByteReader(data).u32()));
      else acceptCommand(reader, name);
    },
  });
  try {
    await loader.readState();
    // It runs from the end on, with or without the VMDESCRIPTION.
    await reader.need(1);
    await loader.readQemuTrailer().catch(() => {});
    loader.apply();
    await machine.activateDrives();
  } catch (error) {
    failArrival(machine, error);
    channel.abort(error as Error);
    return false;
  }
  machine.startBlocker = undefined;
  await machine.start();
  if (hasReturnPath) await channel.write(shutMessage(0)).catch(() => {});
  await channel.close();
  return true;
}

/**
 * A QEMU that migrates. True if its migration is `completed`; otherwise it resumes, unless another process
 * has its drive.
 */
export async function qemuSource(
  machine: QemuFakeMachine,
  channel: Channel,
  hasReturnPath: boolean,
): Promise<boolean> {
  const stream = new StreamWriter(channel);
  const saver = new StreamSaver(machine, stream, defaultEnvironment, { profile: machine.profile });
  const returnPath = hasReturnPath ? new ReturnPath(channel) : undefined;
  try {
    saver.header();
    if (hasReturnPath) {
      saver.command(MIG_CMD.OPEN_RETURN_PATH, new Uint8Array(0));
      saver.command(MIG_CMD.PING, cookieBytes(1));
    }
    await saver.startRam();
    await saver.ram.pages(QEMU_VM.SECTION_PART, allPages(machine.memory), () => {});
    await stream.drain();
    await machine.stop("finish-migrate");
    saver.command(MIG_CMD.SWITCHOVER_START, new Uint8Array(0));
    await saver.ram.pages(QEMU_VM.SECTION_END, allPages(machine.memory), () => {});
    await saver.devices("running");
    await machine.inactivateDrives();
    saver.trailer();
    await stream.drain();
    if (returnPath !== undefined && (await returnPath.shut) !== 0) throw new Error("refused");
    await channel.close();
    machine.runState.set("postmigrate");
    return true;
  } catch (error) {
    channel.abort(error as Error);
    const { driveOwner } = machine.world;
    if (driveOwner === undefined || driveOwner === machine) await machine.start();
    return false;
  }
}
