// QEMU's other forms of RAM in whole moves of running machines, with OpenSBI as their guest: multifd both
// ways, with and without the option; files with mapped-ram both ways; and the messages if both sides do not
// match. RAM alone: qemu-ram.test.ts.
import { describe, expect, test } from "vitest";
import type { MachineProcess } from "../../src/cli/machine/machine-process.ts";
import type { QemuProcess } from "../support/qemu-process.ts";
import { cli, fresh, ISA, isInstalled, LIMIT_MS, qemu, reaches, wherry } from "./opensbi.ts";
import { command, missing } from "./qemu-ram.ts";

describe.each(["7.2", "10.0", "11.1"] as const)("with QEMU %s", { timeout: LIMIT_MS }, (release) => {
  const why = isInstalled() ? missing(release) : "QEMU 7.2 with its OpenSBI is not installed";
  if (why !== undefined) console.log(`skipped: ${why}`);
  const here = test.runIf(why === undefined);
  const mapped = test.runIf(why === undefined && release !== "7.2");
  const profile = { "x-wherry-profile": `qemu-${release}` };
  const own = async (...args: string[]) => qemu(args, 1, await command(release));

  const multifd = async (
    machine: QemuProcess | MachineProcess["qmp"],
    channels: number,
    compression = "none",
  ): Promise<void> => {
    await machine.execute("migrate-set-capabilities", {
      capabilities: [{ capability: "multifd", state: true }],
    });
    await machine.execute("migrate-set-parameters", {
      "multifd-channels": channels,
      "multifd-compression": compression,
    });
  };

  // Each kind with each release: qemu-ram.test.ts.
  const [channels, compression, told] = (
    {
      "7.2": [2, "zlib", false],
      "10.0": [1, "none", true],
      "11.1": [3, "zstd", true],
    } as const
  )[release];
  here(`there and back over ${channels} channels, ${compression}, told of it: ${told}`, async () => {
    const socket = `unix:${fresh("multifd")}`;
    const source = await own();
    await reaches(source, "running");
    await multifd(source, channels, compression);
    const middle = await wherry([...(told ? ["--multifd", `${channels}`] : []), "--incoming", socket]);
    await source.execute("migrate", { uri: socket });
    await reaches(source, "completed", "query-migrate");
    await reaches(middle.qmp, "running");

    const back = await own("-incoming", "defer");
    await multifd(back, channels, compression);
    await back.execute("migrate-incoming", { uri: `${socket}-back` });
    await multifd(middle.qmp, channels, compression);
    await middle.qmp.execute("migrate", { uri: `${socket}-back`, ...profile });
    await reaches(middle.qmp, "completed", "query-migrate");
    await reaches(back, "running");
    const { ram } = (await middle.qmp.execute("query-migrate")) as { ram: Record<string, number> };
    expect(ram["multifd-bytes"]).toBeGreaterThan(0);
    expect(ram["transferred"]).toBeGreaterThan(ram["multifd-bytes"] ?? 0);
  });

  // Seen once, on a busy host: QEMU 7.2 did not come to an end of its failure.
  here("a source with more channels than expected resumes", { retry: 1 }, async () => {
    const socket = `unix:${fresh("multifd")}`;
    const source = await own();
    await reaches(source, "running");
    // Without a return path, QEMU might have completed before the refusal.
    await source.capabilities(["return-path"]);
    await multifd(source, 4);
    // It ends, or goes on listening if no page has come: QEMU 10.0 opens all channels first.
    await wherry(["--incoming", socket]);
    await source.execute("migrate", { uri: socket });
    await reaches(source, "failed", "query-migrate");
    await reaches(source, "running");
  });

  here("to a QEMU that expects no channels, or more: the machine resumes here", async () => {
    const socket = `unix:${fresh("multifd")}`;
    const source = await wherry(ISA);
    await own("-incoming", socket);
    await multifd(source.qmp, 2);
    await source.qmp.execute("migrate", { uri: socket, ...profile });
    await reaches(source.qmp, "failed", "query-migrate");
    expect(await source.qmp.execute("query-migrate")).toMatchObject({
      "error-desc": expect.stringContaining("is capability multifd on in the destination"),
    });
    await reaches(source.qmp, "running");

    const more = await own("-incoming", "defer");
    await multifd(more, 3);
    await more.execute("migrate-incoming", { uri: `${socket}-more` });
    await source.qmp.execute("migrate", { uri: `${socket}-more`, ...profile });
    await reaches(source.qmp, "setup", "query-migrate");
    await source.qmp.execute("migrate_cancel");
    await reaches(source.qmp, "cancelled", "query-migrate");
    await reaches(source.qmp, "running");
  });

  mapped("files with mapped-ram, there and back, and saved on the way", async () => {
    // The stream is at an offset in the file; page offsets still count from the file's start.
    const path = fresh("mapped");
    const file = `file:${path},offset=0x12345`;
    const source = await own();
    await reaches(source, "running");
    await source.capabilities(["mapped-ram", "multifd"]);
    await source.execute("migrate", { uri: file });
    await reaches(source, "completed", "query-migrate");
    const middle = await wherry(["--incoming", file]);
    await reaches(middle.qmp, "running");

    const saved = fresh("saved");
    const form = ["--profile", `qemu-${release}`, "--mapped-ram"];
    cli(middle, "save", saved, ...form);
    await reaches(middle.qmp, "running");
    cli(middle, "migrate", `file:${path}-back,offset=0x2000`, ...form);
    await reaches(middle.qmp, "postmigrate");
    for (const uri of [`file:${saved}`, `file:${path}-back,offset=0x2000`]) {
      const back = await own("-incoming", "defer");
      await back.capabilities(["mapped-ram"]);
      await back.execute("migrate-incoming", { uri });
      await reaches(back, "running");
    }
  });

  here("impossible combinations are refused at once", async () => {
    const source = await wherry(ISA);
    const migrate = (uri: string, more = {}) => source.qmp.execute("migrate", { uri, ...more });
    await multifd(source.qmp, 2);
    await expect(migrate("unix:/nowhere")).rejects.toThrow("multifd is for QEMU: name the release");
    await expect(migrate("exec:cat", profile)).rejects.toThrow("multifd needs tcp: or unix:");
    await expect(multifd(source.qmp, 0)).rejects.toThrow("expects a value between 1 and 255");
    await expect(multifd(source.qmp, 2, "qpl")).rejects.toThrow("does not accept value 'qpl'");
    await source.qmp.execute("migrate-set-capabilities", {
      capabilities: [
        { capability: "multifd", state: false },
        { capability: "mapped-ram", state: true },
      ],
    });
    await expect(migrate("unix:/nowhere", profile)).rejects.toThrow("requires seekable transport");
    await expect(migrate("file:/nowhere")).rejects.toThrow("mapped-ram is for QEMU");
    if (release === "7.2")
      await expect(migrate("file:/nowhere", profile)).rejects.toThrow("it came with 9.0");
    await reaches(source.qmp, "running");
  });
});
