// A few random programs against the installed QEMU; npm run check:qemu runs many. WHERRY_SEED replays a run.
import { describe, expect, it } from "vitest";
import { compareBatch, narrow } from "./check-qemu.ts";
import { qemuVersion } from "./qemu.ts";
import { seed } from "../support/seed.ts";

const COUNT = 100;
const version = qemuVersion();

describe("random programs in QEMU and in the engine", () => {
  it.skipIf(version === undefined && process.env["CI"] !== "true")(
    `${COUNT} programs of seed ${seed} leave the same state`,
    async () => {
      expect(version, "CI needs qemu-system-riscv64 (Debian: qemu-system-misc)").toBeDefined();
      const found = await compareBatch(seed, 0, COUNT);
      const reports = await Promise.all(found.slice(0, 3).map(({ index }) => narrow(seed, index)));
      expect(reports, `seed ${seed}: programs ${found.map(({ index }) => index).join(" ")} differ`).toEqual(
        [],
      );
    },
    // QEMU is slow on a loaded host.
    180_000,
  );
});
