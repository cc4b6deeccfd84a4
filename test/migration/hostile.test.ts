// Streams that are complete and have valid hashes, but contents that no correct source sends.
import { describe, expect, test } from "vitest";
import { ByteWriter } from "../../src/base/bytes.ts";
import { MigrationDestination } from "../../src/migration/load/move-destination.ts";
import { defaultEnvironment } from "../../src/migration/environment/migration-environment.ts";
import { allPages } from "../../src/migration/ram/ram-save.ts";
import { StreamSaver } from "../../src/migration/save/save-stream.ts";
import { loadSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { StreamWriter } from "../../src/stream/stream-writer.ts";
import {
  MIG_CMD,
  PING_FINAL,
  PING_SETUP,
  QEMU_VM,
  RAM_IDSTR,
  RAM_SAVE_FLAG,
  RAM_VERSION,
} from "../../src/stream/wire.ts";
import { FakeMachine } from "../support/fake-machine.ts";
import { channelPair, memorySink, memorySource } from "../support/fake-network.ts";

const cookie = (value: number) => new ByteWriter().u32(value).finish();
const id = new Uint8Array(16);
const RAM_SECTION_ID = 1;

async function file(
  write: (saver: StreamSaver, machine: FakeMachine, stream: StreamWriter) => Promise<void>,
): Promise<Uint8Array> {
  const machine = new FakeMachine();
  const sink = memorySink();
  const stream = new StreamWriter(sink.channel);
  await write(new StreamSaver(machine, stream, defaultEnvironment), machine, stream);
  await stream.drain();
  await sink.commit();
  return sink.committed as Uint8Array;
}

async function refusal(bytes: Uint8Array): Promise<string> {
  const machine = new FakeMachine();
  return await loadSnapshot(machine, memorySource(bytes)).then(
    () => "accepted",
    (e: Error) => e.message,
  );
}

describe("a file is refused", () => {
  test("that has no RAM at all", async () => {
    const bytes = await file(async (saver, machine, { out }) => {
      saver.header();
      Object.assign(saver.ram, {
        start: () => {
          out.u8(QEMU_VM.SECTION_START).u32(RAM_SECTION_ID).countedString(RAM_IDSTR).u32(0).u32(RAM_VERSION);
          out.u32(0).u32(RAM_SAVE_FLAG.EOS).u8(QEMU_VM.SECTION_FOOTER).u32(RAM_SECTION_ID);
        },
      });
      await saver.startRam();
      const none = allPages(machine.memory).map((bits) => bits.fill(0));
      await saver.ram.pages(QEMU_VM.SECTION_END, none, () => {});
      await saver.devices("paused");
      saver.trailer();
    });
    expect(await refusal(bytes)).toMatch(/the list of RAM blocks is missing/);
  });

  test("that has a command in it", async () => {
    const bytes = await file(async (saver) => {
      saver.header();
      saver.command(MIG_CMD.PING, cookie(1));
    });
    expect(await refusal(bytes)).toMatch(/after section configuration.*found command 2, expected none/);
  });

  test("that ends without the integrity section", async () => {
    const bytes = await file(async (saver, machine) => {
      saver.header();
      await saver.startRam();
      await saver.ram.pages(QEMU_VM.SECTION_END, allPages(machine.memory), () => {});
    });
    const end = Uint8Array.of(0, 6, 0, 0, 0, 2, 123, 125);
    expect(await refusal(Buffer.concat([bytes, end]))).toMatch(
      /after section ram\/0.*expected a device section, found/,
    );
  });
});

describe("a destination refuses and says why", () => {
  async function sent(write: (saver: StreamSaver, machine: FakeMachine) => Promise<void>, early = false) {
    const target = new FakeMachine();
    let dropped: string | undefined;
    const onChange = (_: unknown, reason?: Error) => {
      dropped ??= reason?.message;
    };
    const destination = new MigrationDestination(target, { onChange });
    const { near, far } = channelPair();
    const serving = destination.accept(far);
    const stream = new StreamWriter(near);
    await write(
      new StreamSaver(new FakeMachine(), stream, defaultEnvironment, { moveId: id }),
      new FakeMachine(),
    );
    await stream.drain().catch(() => {});
    await near.close();
    if (early) {
      await serving;
      expect(destination.state).toBe("listening");
      return dropped;
    }
    const arrival = await destination.done;
    await serving;
    expect(arrival.status).toBe("failed");
    expect(target.runState.current).toBe("internal-error");
    expect(target.world.driveOwner).toBeUndefined();
    await expect(target.start()).rejects.toThrow(/can never run/);
    return arrival.error?.message;
  }
  const state = async (saver: StreamSaver, machine: FakeMachine) => {
    saver.header();
    saver.command(MIG_CMD.OPEN_RETURN_PATH, new Uint8Array(0));
    saver.command(MIG_CMD.PING, cookie(PING_SETUP));
    await saver.startRam();
    await saver.ram.pages(QEMU_VM.SECTION_END, allPages(machine.memory), () => {});
    await saver.devices("running");
  };

  test("the final PING before the state", async () => {
    const message = await sent(async (saver) => {
      saver.header();
      saver.command(MIG_CMD.PING, cookie(PING_FINAL));
    }, true);
    expect(message).toMatch(/PING 0x57520001 is out of order/);
  });

  test("an unexpected GO: the end without a final PING", async () => {
    const message = await sent(async (saver, machine) => {
      await state(saver, machine);
      saver.trailer();
    });
    expect(message).toMatch(/after section wherry\/integrity\/0.*expected a command, found type 0x0/);
  });

  test("a second final PING instead of the end", async () => {
    const message = await sent(async (saver, machine) => {
      await state(saver, machine);
      saver.command(MIG_CMD.PING, cookie(PING_FINAL));
      saver.command(MIG_CMD.PING, cookie(PING_FINAL));
    });
    expect(message).toMatch(/end of the stream.*expected the end \(0x0\), found type 0x8/);
  });

  test("an unknown command", async () => {
    const message = await sent(async (saver) => {
      saver.header();
      saver.command(99, new Uint8Array(3));
    }, true);
    expect(message).toMatch(/unknown command 99 with 3 bytes/);
  });
});
