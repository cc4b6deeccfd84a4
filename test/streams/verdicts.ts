// Whether `wherry check` agrees with QEMU: in each pair of machines one writes a stream and the other loads
// it; check judges by the other's -dump-vmstate, by a stream of it, and by both. Prints a table; exit code 1
// if a verdict is wrong.
//   node test/streams/verdicts.ts [--all] [REGEX]
// --all: also those that need QEMU 11.1 for other targets than riscv64, which nothing else fetches.
// "may": check warns and cannot tell; that is wrong only where it says that all is well and QEMU refuses, or
// the opposite.
import { spawnSync } from "node:child_process";
import { mkdtemp, open, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { checkStream, type CheckReport, type CheckTarget } from "../../src/inspect/check/check-stream.ts";
import { checkQueues } from "../../src/inspect/check/check-virtio.ts";
import { parseDump } from "../../src/inspect/check/dump-vmstate.ts";
import { bytesSource } from "../../src/inspect/read/byte-source.ts";
import { readStream } from "../../src/inspect/read/read-stream.ts";
import { qemu, type QemuRelease, type QemuTarget } from "../../tools/unpacked.ts";
import { QemuProcess } from "../support/qemu-process.ts";

interface Side {
  readonly release: QemuRelease;
  readonly target?: QemuTarget;
  readonly args: string;
}
interface Case {
  readonly name: string;
  readonly from: Side;
  readonly to: Side;
  /** Change to the stream in between. */
  readonly damage?: (path: string) => Promise<void>;
}

const riscv = (release: QemuRelease, more = "", m = "64M", machine = "virt"): Side => ({
  release,
  args: `-M ${machine} -m ${m} -device virtio-rng-device ${more}`,
});
const x86 = (release: QemuRelease, machine: string, more = "", m = "64M"): Side => ({
  release,
  target: "x86_64",
  args: `-M ${machine} -m ${m} -nodefaults ${more}`,
});
const DISK =
  "-drive if=none,id=d,file=DISK,format=raw,file.locking=off -device virtio-blk-pci,drive=d,addr=4";

const cut = async (path: string) => {
  const { size } = await stat(path);
  await truncate(path, Math.floor(size * 0.9));
};
/** Zeroes the footer of the last section that has one before the end. */
const noFooter = async (path: string) => {
  const { sections } = await readStream(bytesSource(await readFile(path)));
  const last = sections.findLast(({ kind }) => kind === "full");
  if (last === undefined) throw new Error("no section");
  const file = await open(path, "r+");
  await file.write(new Uint8Array(1), 0, 1, last.dataOffset + last.size);
  await file.close();
};

/** Moves the first virtio queue's last_avail_idx. */
const queueIndex = (change: number) => async (path: string) => {
  const { sections } = await readStream(bytesSource(await readFile(path)));
  const disk = sections.find(({ vmsdName }) => vmsdName === "virtio-blk");
  const virtio = disk?.fields.find(({ name }) => name === "virtio");
  const queue = virtio?.children?.find(({ name }) => name === "vq")?.children?.[0];
  const index = queue?.children?.find(({ name }) => name === "last_avail_idx");
  if (typeof index?.value !== "bigint" || index.value === 0n) throw new Error("no queue in use");
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE((Number(index.value) + change) & 0xffff);
  const file = await open(path, "r+");
  await file.write(bytes, 0, 2, index.offset);
  await file.close();
};

const CASES: readonly Case[] = [
  { name: "riscv same, 7.2", from: riscv("7.2"), to: riscv("7.2") },
  { name: "riscv same, 11.1", from: riscv("11.1"), to: riscv("11.1") },
  { name: "riscv 7.2 to 10.0", from: riscv("7.2"), to: riscv("10.0") },
  { name: "riscv 10.0 to 11.1", from: riscv("10.0"), to: riscv("11.1") },
  { name: "riscv 11.1 to 10.0", from: riscv("11.1"), to: riscv("10.0") },
  { name: "riscv 11.1 to 7.2", from: riscv("11.1"), to: riscv("7.2") },
  {
    name: "riscv 10.0 without ACPI to 7.2",
    from: riscv("10.0", "", "64M", "virt,acpi=off"),
    to: riscv("7.2"),
  },
  { name: "riscv ACPI to no ACPI", from: riscv("10.0"), to: riscv("10.0", "", "64M", "virt,acpi=off") },
  { name: "riscv aplic to plic", from: riscv("10.0", "", "64M", "virt,aia=aplic"), to: riscv("10.0") },
  { name: "riscv other RAM", from: riscv("10.0"), to: riscv("10.0", "", "128M") },
  { name: "riscv 2 harts to 1", from: riscv("10.0", "-smp 2"), to: riscv("10.0") },
  { name: "riscv 1 hart to 2", from: riscv("10.0"), to: riscv("10.0", "-smp 2") },
  {
    name: "riscv device missing",
    from: riscv("10.0", "-device virtio-balloon-device"),
    to: riscv("10.0"),
  },
  { name: "riscv device more", from: riscv("10.0"), to: riscv("10.0", "-device virtio-balloon-device") },
  { name: "riscv cut", from: riscv("10.0"), to: riscv("10.0"), damage: cut },
  { name: "riscv no footer", from: riscv("10.0"), to: riscv("10.0"), damage: noFooter },
  { name: "pc 10.0 to 11.1", from: x86("10.0", "pc-i440fx-9.2"), to: x86("11.1", "pc-i440fx-9.2") },
  { name: "pc 11.1 to 10.0", from: x86("11.1", "pc-i440fx-9.2"), to: x86("10.0", "pc-i440fx-9.2") },
  { name: "q35 10.0 to 11.1", from: x86("10.0", "pc-q35-10.0"), to: x86("11.1", "pc-q35-10.0") },
  { name: "q35 11.1 to 10.0", from: x86("11.1", "pc-q35-10.0"), to: x86("10.0", "pc-q35-10.0") },
  { name: "pc other machine type", from: x86("10.0", "pc-i440fx-9.2"), to: x86("10.0", "pc-i440fx-9.1") },
  { name: "pc to q35", from: x86("10.0", "pc-i440fx-10.0"), to: x86("10.0", "pc-q35-10.0") },
  {
    name: "pc e1000 missing",
    from: x86("10.0", "pc-i440fx-10.0", "-device e1000,addr=3"),
    to: x86("10.0", "pc-i440fx-10.0"),
  },
  {
    name: "pc e1000 at another address",
    from: x86("10.0", "pc-i440fx-10.0", "-device e1000,addr=3"),
    to: x86("10.0", "pc-i440fx-10.0", "-device e1000,addr=5"),
  },
  {
    name: "pc option ROM of another size",
    from: x86("10.0", "pc-i440fx-10.0", "-device e1000,addr=3,romsize=262144"),
    to: x86("10.0", "pc-i440fx-10.0", "-device e1000,addr=3,romsize=524288"),
  },
  {
    name: "pc other video memory",
    from: x86("10.0", "pc-i440fx-10.0", "-device VGA,vgamem_mb=16"),
    to: x86("10.0", "pc-i440fx-10.0", "-device VGA,vgamem_mb=8"),
  },
  {
    name: "pc virtio-blk, same",
    from: x86("10.0", "pc-i440fx-10.0", DISK),
    to: x86("10.0", "pc-i440fx-10.0", DISK),
  },
  {
    name: "pc virtio-blk, index behind the used ring",
    from: x86("10.0", "pc-i440fx-10.0", DISK),
    to: x86("10.0", "pc-i440fx-10.0", DISK),
    damage: queueIndex(-1),
  },
  {
    name: "pc virtio-blk, index far from the guest's",
    from: x86("10.0", "pc-i440fx-10.0", DISK),
    to: x86("10.0", "pc-i440fx-10.0", DISK),
    damage: queueIndex(0x4000),
  },
  {
    name: "pc virtio-blk, legacy at the target",
    from: x86("10.0", "pc-i440fx-10.0", DISK),
    to: x86("10.0", "pc-i440fx-10.0", `${DISK},disable-modern=on`),
  },
  {
    name: "pc virtio-blk, fewer queues",
    from: x86("10.0", "pc-i440fx-10.0", `${DISK},num-queues=4`),
    to: x86("10.0", "pc-i440fx-10.0", `${DISK},num-queues=1`),
  },
  {
    name: "pc virtio-blk, no MSI-X vectors",
    from: x86("10.0", "pc-i440fx-10.0", DISK),
    to: x86("10.0", "pc-i440fx-10.0", `${DISK},vectors=0`),
  },
  {
    name: "pc virtio-blk, feature in use not offered",
    from: x86("10.0", "pc-i440fx-10.0", `${DISK},disable-legacy=on,iommu_platform=on`),
    to: x86("10.0", "pc-i440fx-10.0", `${DISK},disable-legacy=on`),
  },
  {
    name: "pc virtio-blk, feature not in use not offered",
    from: x86("10.0", "pc-i440fx-10.0", `${DISK},packed=on`),
    to: x86("10.0", "pc-i440fx-10.0", `${DISK},event_idx=off`),
  },
  {
    name: "pc other CPU model",
    from: x86("10.0", "pc-i440fx-10.0", "-cpu Nehalem"),
    to: x86("10.0", "pc-i440fx-10.0", "-cpu qemu64"),
  },
  {
    name: "pc serial port missing",
    from: x86("10.0", "pc-i440fx-10.0", "-device isa-serial,chardev=s -chardev null,id=s"),
    to: x86("10.0", "pc-i440fx-10.0"),
  },
  {
    name: "pc old machine type, 10.0 to 11.1",
    from: x86("10.0", "pc-i440fx-7.2", "-device e1000,addr=3 -device piix3-usb-uhci"),
    to: x86("11.1", "pc-i440fx-7.2", "-device e1000,addr=3 -device piix3-usb-uhci"),
  },
  {
    name: "arm 10.0 to 11.1",
    from: { release: "10.0", target: "aarch64", args: "-M virt-10.0 -cpu cortex-a57 -m 64M -nodefaults" },
    to: { release: "11.1", target: "aarch64", args: "-M virt-10.0 -cpu cortex-a57 -m 64M -nodefaults" },
  },
  {
    name: "arm gicv2 to gicv3",
    from: { release: "10.0", target: "aarch64", args: "-M virt-10.0,gic-version=2 -m 64M -nodefaults" },
    to: { release: "10.0", target: "aarch64", args: "-M virt-10.0,gic-version=3 -m 64M -nodefaults" },
  },
  {
    name: "s390x 10.0 to 11.1",
    from: {
      release: "10.0",
      target: "s390x",
      args: "-M s390-ccw-virtio-10.0 -action panic=pause -m 128M -nodefaults",
    },
    to: {
      release: "11.1",
      target: "s390x",
      args: "-M s390-ccw-virtio-10.0 -action panic=pause -m 128M -nodefaults",
    },
  },
  {
    name: "ppc64 10.0 to 11.1",
    from: { release: "10.0", target: "ppc64", args: "-M pseries-10.0 -m 256M -nodefaults" },
    to: { release: "11.1", target: "ppc64", args: "-M pseries-10.0 -m 256M -nodefaults" },
  },
  {
    name: "q35 e1000e, field left out by a property",
    from: x86("10.0", "pc-q35-10.0", "-device e1000e,addr=3"),
    to: x86("10.0", "pc-q35-10.0", "-device e1000e,addr=3 -global e1000e.migrate-timadj=off"),
  },
  {
    name: "q35 usb-tablet missing",
    from: x86("10.0", "pc-q35-10.0", "-device qemu-xhci,addr=5 -device usb-tablet"),
    to: x86("10.0", "pc-q35-10.0", "-device qemu-xhci,addr=5"),
  },
  {
    name: "q35 2 CPUs to 1",
    from: x86("10.0", "pc-q35-10.0", "-smp 2"),
    to: x86("10.0", "pc-q35-10.0"),
  },
  {
    name: "q35 no HPET",
    from: x86("10.0", "pc-q35-10.0"),
    to: x86("10.0", "pc-q35-10.0,hpet=off"),
  },
];

let work = "";

async function command({ release, target = "riscv64", args }: Side): Promise<string[]> {
  const words = args.replaceAll("DISK", join(work, "disk")).split(" ");
  return [...(await qemu(release, target)), ...words.filter((word) => word !== ""), "-serial", "null"];
}

/** The guest's firmware has run for a while before. */
async function written(side: Side, path: string): Promise<void> {
  const machine = new QemuProcess(await command(side));
  try {
    await machine.execute("qmp_capabilities");
    await sleep(1500);
    await machine.execute("stop");
    await machine.execute("migrate", { uri: `exec:cat > ${path}` });
    await machine.migration("completed");
  } finally {
    await machine.end();
  }
}

/** QEMU's message, or undefined if the stream was loaded. */
async function loaded(side: Side, path: string): Promise<string | undefined> {
  const machine = new QemuProcess([...(await command(side)), "-S", "-incoming", "defer"]);
  try {
    await machine.execute("qmp_capabilities");
    await machine.execute("migrate-incoming", { uri: `exec:cat ${path}` });
    const info = await machine.migration("completed");
    // Lines that QEMU prints without failing matter to users, too.
    return info["status"] === "completed" ? undefined : JSON.stringify(info);
  } catch (error) {
    await sleep(200);
    return machine.errors.trim() || String(error);
  } finally {
    await machine.end();
  }
}

const cached = new Map<string, Promise<readonly [CheckTarget, CheckTarget]>>();
/** The target's dump and stream. */
function targetOf(side: Side): Promise<readonly [CheckTarget, CheckTarget]> {
  const key = JSON.stringify(side);
  const known = cached.get(key) ?? makeTarget(side, join(work, `target${cached.size}`));
  cached.set(key, known);
  return known;
}
async function makeTarget(side: Side, base: string): Promise<readonly [CheckTarget, CheckTarget]> {
  const [program = "", ...args] = await command(side);
  const made = spawnSync(program, [...args, "-display", "none", "-dump-vmstate", `${base}.json`]);
  if (made.status !== 0) throw new Error(`-dump-vmstate: ${made.stderr.toString()}`);
  await written(side, `${base}.stream`);
  const report = await readStream(bytesSource(await readFile(`${base}.stream`)));
  return [
    { kind: "dump", name: "dump", dump: parseDump(await readFile(`${base}.json`, "utf8")) },
    { kind: "stream", name: "stream", report },
  ];
}

const verdict = ({ problems, warnings }: CheckReport) =>
  problems.length > 0 ? "no" : warnings.length > 0 ? "may" : "yes";

async function judge({ name, from, to, damage }: Case): Promise<boolean> {
  const path = join(work, "stream");
  await written(from, path);
  await damage?.(path);
  const refused = await loaded(to, path);
  const source = bytesSource(await readFile(path));
  const report = await readStream(source);
  const [dump, stream] = await targetOf(to);
  const both = checkStream(report, [dump, stream]);
  const queues = await checkQueues(report, source);
  const answers = [
    refused === undefined ? "yes" : "no",
    verdict(checkStream(report, [dump])),
    verdict(checkStream(report, [stream])),
    verdict({
      ...both,
      problems: [...both.problems, ...queues.problems],
      warnings: [...both.warnings, ...queues.warnings],
    }),
  ];
  const [first] = [...both.problems, ...queues.problems, ...both.warnings, ...queues.warnings];
  const why = first === undefined ? "" : `${first.code} ${first.where}`;
  console.log(`| ${[name, ...answers, why].join(" | ")} |`);
  if (refused !== undefined) console.error(`  ${name}: ${refused.split("\n").join("\n    ")}`);
  const [truth, , , said] = answers;
  return said === truth || said === "may";
}

work = await mkdtemp(join(tmpdir(), "wherry-verdicts-"));
try {
  await writeFile(join(work, "disk"), new Uint8Array(1 << 20));
  const { values, positionals } = parseArgs({
    options: { all: { type: "boolean" } },
    allowPositionals: true,
  });
  const wanted = new RegExp(positionals[0] ?? "");
  const isExtra = ({ release, target }: Side) => release === "11.1" && target !== undefined;
  const cases = CASES.filter(
    ({ name, from, to }) => wanted.test(name) && (values.all === true || !(isExtra(from) || isExtra(to))),
  );
  console.log("| case | QEMU | by dump | by stream | by both | first finding |\n|---|---|---|---|---|---|");
  let wrong = 0;
  for (const one of cases) if (!(await judge(one))) wrong++;
  console.log(`\n${wrong} verdicts wrong`);
  process.exitCode = wrong === 0 ? 0 : 1;
} finally {
  await rm(work, { recursive: true, force: true });
}
