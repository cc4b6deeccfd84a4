// block_resize: from the client to the configuration that the guest's driver reads.
import { expect, test } from "vitest";
import { MemoryFile } from "../../src/block/block-file.ts";
import { ImageBackend } from "../../src/block/images/image-backend.ts";
import { RawImage } from "../../src/block/images/raw-image.ts";
import { virtioDevices } from "../../src/embed/virtio-parts.ts";
import { MockDriver, testBoard } from "../support/mock-driver.ts";
import { blockCommands } from "../../src/monitor/block-commands.ts";

test("block_resize tells the guest's driver the new size", async () => {
  const backend = new ImageBackend(new RawImage(new MemoryFile("disk", new Uint8Array(1 << 20)), false));
  const { virtio = [], disks } = virtioDevices({ drives: [backend] });
  const board = testBoard({ legacy: false });
  const device = virtio[0]!(board);
  new MockDriver(board, device).start({});
  const sectors = () => device.configRead(0, 4);
  expect(sectors()).toBe(2048);
  const [resize] = blockCommands(disks);
  const { generation } = device;
  await resize!.run({ device: "virtio0", size: 2 << 20 });
  expect(sectors()).toBe(4096);
  expect(device.generation).toBe(generation + 1);
  const run = async (args: Record<string, string | number>) => resize!.run(args);
  await expect(run({ device: "virtio1", size: 512 })).rejects.toThrow("Cannot find device='virtio1'");
  await expect(run({ device: "virtio0", size: 0 })).rejects.toThrow("expects a >0 size");
});
