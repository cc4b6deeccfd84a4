// `wherry run debian`: a Debian of the user's own. The first run builds the image into the cache and copies
// it to a disk with the machine's name; each later one boots that disk.
import { availableParallelism } from "node:os";
import { mkdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { net } from "../options/net-option.ts";
import { type MachineOptions, machineOptions, runOptionsOf } from "../options/machine-options.ts";
import { type Options, type ValuesOf } from "../options/command-line.ts";
import { rootInitrd } from "../../guest/unpacked-guest.ts";
import { keptShape, Resident } from "../machine/resident.ts";
import { UsageError } from "../output/cli-error.ts";
import type { NetSpec } from "../../node/net-platform/net-spec.ts";
import { buildWithProgress, imageOptions, kernelWithProgress, loaded, untilSignal } from "./guest-command.ts";

const DEFAULT_NAME = "debian";
const DEFAULT_MEMORY = 1 << 30;
const MAX_DEFAULT_HARTS = 4;

/** A machine's name is its host name, too. */
const HOST_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

const guestOptions = {
  ...imageOptions,
  "force-boot": { help: "boot from the disk, and forget what ran when the machine was saved" },
} satisfies Options;

export const runOptions = {
  ...machineOptions,
  // "none" is not the default of a guest by name.
  net: { ...machineOptions.net, parse: (value: string) => (value === "none" ? value : net(value)) },
  ...(Object.fromEntries(
    Object.entries(guestOptions).map(([name, option]) => [
      name,
      { ...option, help: `run debian: ${option.help}` },
    ]),
  ) as typeof guestOptions),
} satisfies Options;

type Values = ValuesOf<typeof runOptions>;

const specOf = (value: Values["net"]): NetSpec | undefined => (value === "none" ? undefined : value);

/** The options of `run` without a guest's name. Rejects with UsageError. */
export function plainOptionsOf(values: Values): Promise<MachineOptions> {
  const stray = Object.keys(guestOptions).find((option) => {
    const value = values[option as keyof typeof guestOptions];
    return Array.isArray(value) ? value.length > 0 : value !== undefined && value !== false;
  });
  if (stray !== undefined) throw new UsageError(`--${stray} is for a guest by name: wherry run debian`);
  return runOptionsOf({ ...values, net: specOf(values.net) });
}

/** The machine of a guest's name. Rejects with UsageError or GuestError. */
export async function residentOf(values: Values, guest: string): Promise<Resident> {
  if (guest !== "debian") throw new UsageError(`unknown guest '${guest}'; there is: debian`);
  for (const option of ["kernel", "initrd", "incoming"] as const)
    if (values[option] !== undefined)
      throw new UsageError(`--${option}: wherry run debian chooses it (--kernel-suite)`);
  const { name = DEFAULT_NAME } = values;
  if (!HOST_NAME.test(name))
    throw new UsageError(`--name ${name}: expected a host name: small letters, digits and dashes`);
  const { disk, kernel } = await diskOf(name, values);
  const kept = keptShape(disk);
  const words = ["root=/dev/vda rw console=ttyS0 quiet wherry.gate", values.append];
  const options = await runOptionsOf({
    ...values,
    smp: values.smp ?? kept?.harts ?? Math.min(MAX_DEFAULT_HARTS, availableParallelism()),
    memory: values.memory ?? kept?.memoryBytes ?? DEFAULT_MEMORY,
    net: specOf(values.net ?? net("user")),
    rng: true,
    name,
    kernel,
    initrd: await rootInitrd(kernel),
    append: words.filter((word) => word !== undefined).join(" "),
    drive: [{ file: disk, format: "raw", readonly: false }, ...values.drive],
  });
  const boots = join(dirname(dirname(disk)), "boots");
  const line = `wherry.hostname=${name}`;
  return new Resident({ name, disk, boots, line, forceBoot: values["force-boot"] }, options);
}

/** The machine's disk, made from the base image at its first run, and the kernel. */
async function diskOf(
  name: string,
  values: Values,
): Promise<{ readonly disk: string; readonly kernel: string }> {
  const { copyBase, defaultCache, DEFAULT_SIZE } = await loaded(() => import("../../guest/debian-image.ts"));
  const machines = join(values.cache ?? defaultCache(), "machines");
  const disk = join(machines, `${name}.img`);
  if ((await stat(disk).catch(() => undefined)) !== undefined) {
    const late = (["include", "size", "suite"] as const).find((option) => {
      const value = values[option];
      return Array.isArray(value) ? value.length > 0 : value !== undefined;
    });
    if (late !== undefined)
      throw new UsageError(
        `--${late} is for a new machine: ${disk} exists. Choose another --name, install with apt in the guest, or remove it`,
      );
    return { disk, kernel: await kernelWithProgress(values) };
  }
  // The disks have the guest's secrets.
  await mkdir(machines, { recursive: true, mode: 0o700 });
  const { base, kernel } = await untilSignal(() => buildWithProgress(values));
  await copyBase(base, disk, values.size ?? DEFAULT_SIZE);
  return { disk, kernel };
}
