// `wherry image …`: disk images, in the words, options and exit codes of qemu-img.
import { chmod, realpath, rename, rm, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { WherryError } from "../../base/errors.ts";
import type { BlockImage, ImageFormat } from "../../block/block-image.ts";
import {
  commitImage,
  compareImages,
  copyImage,
  keepContents,
  type OnProgress,
  refuseSize,
  setBacking,
} from "../../block/images/image-jobs.ts";
import { openImage, parseFormat } from "../../block/images/open-image.ts";
import { type CheckResult, checkQcow2, type Repair } from "../../block/qcow2/qcow2-check.ts";
import { createQcow2, newQcow2, type Qcow2Options } from "../../block/qcow2/qcow2-create.ts";
import {
  HEADER_AT,
  INCOMPATIBLE,
  LAZY_REFCOUNTS,
  readHeader,
  readSnapshots,
  viewOf,
} from "../../block/qcow2/qcow2-header.ts";
import { Qcow2Image } from "../../block/qcow2/qcow2-image.ts";
import { isAddress, NodeFile, nodeStore } from "../../node/node-images.ts";
import { type Options, text, type ValuesOf } from "../options/command-line.ts";
import { imageOptionNames, imageOptions, imageSize, oneWord } from "../options/image-options.ts";
import { CliError, UsageError } from "../output/cli-error.ts";

/** Of `qemu-img check` and `compare`. */
const EXIT = { OK: 0, DIFFERENT: 1, CORRUPT: 2, LEAKS: 3, NO_CHECKS: 63 } as const;

const format = {
  short: "f",
  value: "FMT",
  parse: parseFormat,
  help: "format of the image: raw, qcow2 or auto (default: auto, by its first bytes; for create raw)",
} as const;
const quiet = { short: "q", help: "print only errors" } as const;
const progress = { short: "p", help: "show progress" } as const;
const forceShare = { short: "U", help: "read the image even while another process writes it" } as const;
const outputFormat = {
  value: "human|json",
  parse: oneWord("human", "json"),
  help: "form of the output",
} as const;
const backing = { short: "b", value: "FILE", parse: text, help: "backing image" } as const;
const backingFormat = { short: "F", value: "FMT", parse: text, help: "format of the backing image" } as const;
const create = {
  short: "o",
  value: "KEY=VALUE,…",
  parse: imageOptions,
  many: true,
  help: `of qcow2, and size: ${imageOptionNames.join(", ")}`,
} as const;

/** How qemu-img does it, which scripts say: here it makes no difference. */
const ignored = { value: "WORD", parse: text, help: "accepted, and ignored" } as const;
const ignoredOptions = {
  cache: { ...ignored, short: "t" },
  "source-cache": { ...ignored, short: "T" },
  coroutines: { ...ignored, short: "m" },
  "out-of-order": { short: "W", help: ignored.help },
} as const;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

interface Opening {
  readonly format?: ImageFormat | "auto" | undefined;
  readonly isWritten?: boolean;
  readonly forceShare?: boolean;
  readonly withBacking?: boolean;
}

/** Opens an image with its chain, locked as QEMU locks it, while `work` runs. */
async function withImage<T>(
  path: string,
  opening: Opening,
  work: (image: BlockImage) => Promise<T>,
): Promise<T> {
  const { isWritten = false, forceShare: shares = false, withBacking = true } = opening;
  const reading = shares ? "shared-read" : "read";
  const store = nodeStore({ image: isWritten ? "write" : reading, backing: reading });
  const image = await openImage(store, path, { format: opening.format, readonly: !isWritten, withBacking });
  let result: T;
  try {
    result = await work(image);
  } catch (error) {
    await image.close().catch(() => {});
    throw error;
  }
  await image.close();
  return result;
}

/** qemu-img's: `(12.34/100%)` on one line. */
function progressOf(isShown: boolean): OnProgress {
  let last = "";
  return (done, total) => {
    if (!isShown) return;
    const line = `    (${((100 * done) / Math.max(1, total)).toFixed(2)}/100%)`;
    if (line !== last) process.stdout.write(`${line}\r${done >= total ? "\n" : ""}`);
    last = line;
  };
}

function qcow2OptionsOf(given: readonly Qcow2CreateOptions[]): Qcow2CreateOptions {
  return Object.assign({}, ...given) as Qcow2CreateOptions;
}
type Qcow2CreateOptions = Qcow2Options & { readonly sizeBytes?: number };

async function makeImage(path: string, kind: ImageFormat | "auto", sizeBytes: number, options: Qcow2Options) {
  refuseSize(path, sizeBytes);
  // Throws before an image that exists is lost.
  if (kind === "qcow2") newQcow2(path, sizeBytes, options);
  const file = await NodeFile.create(path);
  try {
    if (kind === "qcow2") await createQcow2(file, sizeBytes, options);
    else await file.truncate(sizeBytes);
  } finally {
    await file.close();
  }
}

/** What is read must not be written over. */
async function refuseOwnChain(image: BlockImage, target: string): Promise<void> {
  const store = nodeStore({ image: undefined, backing: undefined });
  const written = await store.identity(target);
  for (let at: BlockImage | undefined = image; at !== undefined; at = at.backing) {
    if ((await store.identity(at.file.name)) === written)
      throw new UsageError(`${target} is the source or a backing image as well: choose another name`);
  }
}

function refuseRawOptions(kind: ImageFormat | "auto", options: Qcow2CreateOptions): void {
  const { sizeBytes: _, ...rest } = options;
  const [name] = Object.entries(rest).find(([, value]) => value !== undefined) ?? [];
  if (kind !== "qcow2" && name !== undefined)
    throw new UsageError(`a raw image has no options and no backing image: add -f qcow2 (or -O qcow2)`);
}

const createOptions = {
  unsafe: { short: "u", help: "do not open the backing image: SIZE is needed then" },
  format,
  backing,
  "backing-format": backingFormat,
  options: create,
  quiet,
} satisfies Options;

async function createCommand(
  values: ValuesOf<typeof createOptions>,
  path = "",
  size?: string,
): Promise<void> {
  const given = qcow2OptionsOf(values.options);
  const options = {
    ...given,
    backingFile: values.backing ?? given.backingFile,
    backingFormat: values["backing-format"] ?? given.backingFormat,
  };
  const kind = values.format ?? "raw";
  refuseRawOptions(kind, options);
  if (size !== undefined && given.sizeBytes !== undefined)
    throw new UsageError("the size is given twice: as SIZE and by -o size");
  let sizeBytes = size === undefined ? given.sizeBytes : imageSize(size);
  if (options.backingFile !== undefined && !values.unsafe) {
    const at = nodeStore({ image: undefined, backing: undefined }).relative(path, options.backingFile);
    const backingKind = options.backingFormat;
    await withImage(at, { format: parseFormat(backingKind ?? "auto"), forceShare: true }, async (image) => {
      if (backingKind === undefined)
        throw new UsageError(`the backing image's format is missing: add -F ${image.format} if it is that`);
      await refuseOwnChain(image, path);
      sizeBytes ??= image.sizeBytes;
    });
  }
  if (sizeBytes === undefined) throw new UsageError("SIZE is missing: wherry image create FILE SIZE");
  // A disk is up to a sector larger than is asked for.
  await makeImage(path, kind, Math.ceil(sizeBytes / 512) * 512, options);
  if (!values.quiet) say(`Formatting '${path}', fmt=${kind} ${settingsOf(kind, sizeBytes, options)}`);
}

/** In qemu-img's order. */
function settingsOf(kind: ImageFormat | "auto", sizeBytes: number, options: Qcow2CreateOptions): string {
  if (kind !== "qcow2") return `size=${sizeBytes}`;
  const { clusterBytes = 65536, compression = "zlib", lazyRefcounts = false, refcountBits = 16 } = options;
  const settings = {
    cluster_size: clusterBytes,
    extended_l2: "off",
    compression_type: compression,
    size: sizeBytes,
    backing_file: options.backingFile,
    backing_fmt: options.backingFormat,
    compat: options.version && (options.version === 2 ? "0.10" : "1.1"),
    lazy_refcounts: lazyRefcounts ? "on" : "off",
    refcount_bits: refcountBits,
  };
  return Object.entries(settings)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");
}

const infoOptions = {
  format,
  output: outputFormat,
  "force-share": forceShare,
  "backing-chain": { help: "information on the backing images as well" },
} satisfies Options;

/** A raw file may end within a sector. */
const wholeSectors = ({ sizeBytes }: BlockImage): number => Math.ceil(sizeBytes / 512) * 512;

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
function sizeText(bytes: number): string {
  let unit = 0;
  while (bytes >= 1024 && unit < UNITS.length - 1) [bytes, unit] = [bytes / 1024, unit + 1];
  // Three digits; halves go to the even one, as in C.
  const scale = bytes >= 99.95 ? 1 : bytes >= 9.995 ? 10 : 100;
  const scaled = bytes * scale;
  const isTie = scaled % 1 === 0.5;
  return `${(isTie ? 2 * Math.round(scaled / 2) : Math.round(scaled)) / scale} ${UNITS[unit]}`;
}

async function describe(image: BlockImage): Promise<Record<string, unknown>> {
  const { file } = image;
  const actual = isAddress(file.name) ? undefined : (await stat(file.name)).blocks * 512;
  const common = {
    "virtual-size": wholeSectors(image),
    filename: file.name,
    format: image.format,
    ...(actual === undefined ? {} : { "actual-size": actual }),
  };
  if (!(image instanceof Qcow2Image)) return { ...common, "dirty-flag": false };
  const { header } = image;
  const has = (bit: bigint): boolean => (header.incompatible & bit) !== 0n;
  const { entries } = await readSnapshots(file, header);
  const { backingFile, backingFormat: kind } = header;
  return {
    ...common,
    "cluster-size": image.clusterBytes,
    "format-specific": {
      type: "qcow2",
      data: {
        compat: header.version === 3 ? "1.1" : "0.10",
        "compression-type": header.compression,
        ...(header.version === 3
          ? {
              "lazy-refcounts": (header.compatible & LAZY_REFCOUNTS) !== 0n,
              "refcount-bits": 2 ** header.refcountOrder,
              corrupt: has(INCOMPATIBLE.CORRUPT),
              "extended-l2": has(INCOMPATIBLE.EXTENDED_L2),
            }
          : { "refcount-bits": 16 }),
      },
    },
    ...(backingFile === undefined
      ? {}
      : {
          "backing-filename": backingFile,
          "full-backing-filename": nodeStore({ image: undefined, backing: undefined }).relative(
            file.name,
            backingFile,
          ),
          ...(kind === undefined ? {} : { "backing-filename-format": kind }),
        }),
    "dirty-flag": has(INCOMPATIBLE.DIRTY),
    ...(entries.length === 0
      ? {}
      : {
          snapshots: entries.map(({ id, name, vmStateBytes, date, vmClockNs, icount }) => ({
            id,
            name,
            "vm-state-size": vmStateBytes,
            "date-sec": date.seconds,
            "date-nsec": date.nanoseconds,
            "vm-clock-sec": Number(vmClockNs / 1_000_000_000n),
            "vm-clock-nsec": Number(vmClockNs % 1_000_000_000n),
            ...(icount === undefined ? {} : { icount: Number(icount) }),
          })),
        }),
  };
}

function snapshotRow(id: string, tag: string, ...others: string[]): string {
  const columns = others.map((text, i) => text.padStart([8, 20, 13, 11][i] ?? 0));
  return [id.padEnd(10), tag.padEnd(17), ...columns].join("");
}

function infoLines(info: Record<string, unknown>): string[] {
  const bytes = info["virtual-size"] as number;
  const lines = [
    `image: ${info["filename"]}`,
    `file format: ${info["format"]}`,
    `virtual size: ${sizeText(bytes)} (${bytes} bytes)`,
    `disk size: ${info["actual-size"] === undefined ? "unavailable" : sizeText(info["actual-size"] as number)}`,
  ];
  if (info["dirty-flag"] === true) lines.push("cleanly shut down: no");
  if (info["cluster-size"] !== undefined) lines.push(`cluster_size: ${info["cluster-size"]}`);
  const [name, full] = [info["backing-filename"], info["full-backing-filename"]];
  if (name !== undefined)
    lines.push(`backing file: ${name}${full === name ? "" : ` (actual path: ${full})`}`);
  const kind = info["backing-filename-format"];
  if (kind !== undefined) lines.push(`backing file format: ${kind}`);
  const snapshots = (info["snapshots"] ?? []) as Record<string, number | string>[];
  if (snapshots.length > 0)
    lines.push("Snapshot list:", snapshotRow("ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT"));
  for (const entry of snapshots) {
    const numberOf = (name: string): number => Number(entry[name]);
    const seconds = numberOf("vm-clock-sec");
    const two = (value: number): string => String(Math.floor(value)).padStart(2, "0");
    const clock = `${two(seconds / 3600)}:${two((seconds / 60) % 60)}:${two(seconds % 60)}`;
    const ms = String(Math.floor(numberOf("vm-clock-nsec") / 1e6)).padStart(3, "0");
    lines.push(
      snapshotRow(
        String(entry["id"]),
        String(entry["name"]),
        sizeText(numberOf("vm-state-size")),
        // The only locale whose dates are as qemu-img's.
        new Date(numberOf("date-sec") * 1000).toLocaleString("sv"),
        `${clock}.${ms}`,
        String(entry["icount"] ?? ""),
      ),
    );
  }
  const specific = info["format-specific"] as { data: Record<string, unknown> } | undefined;
  if (specific !== undefined) {
    lines.push("Format specific information:");
    for (const [key, value] of Object.entries(specific.data))
      lines.push(`    ${key.replaceAll("-", " ")}: ${value}`);
  }
  return lines;
}

async function infoCommand(values: ValuesOf<typeof infoOptions>, path = ""): Promise<void> {
  const chain = values["backing-chain"];
  const opening = { format: values.format, forceShare: values["force-share"], withBacking: chain };
  const infos = await withImage(path, opening, async (image) => {
    const all: Record<string, unknown>[] = [];
    for (let at: BlockImage | undefined = image; at !== undefined; at = chain ? at.backing : undefined)
      all.push(await describe(at));
    return all;
  });
  if (values.output === "json") return say(JSON.stringify(chain ? infos : infos[0], null, 4));
  say(infos.map((info) => infoLines(info).join("\n")).join("\n\n"));
}

const checkOptions = {
  format,
  output: outputFormat,
  quiet,
  repair: { short: "r", value: "leaks|all", parse: oneWord("leaks", "all"), help: "repair what is found" },
  "force-share": forceShare,
} satisfies Options;

async function checkCommand(values: ValuesOf<typeof checkOptions>, path = ""): Promise<number> {
  const repair: Repair = values.repair ?? "none";
  const kind = await withImage(
    path,
    { format: values.format, forceShare: true, withBacking: false },
    async (i) => i.format,
  );
  if (kind === "raw") {
    process.stderr.write("This image format does not support checks\n");
    return EXIT.NO_CHECKS;
  }
  const lock = repair !== "none" ? "write" : values["force-share"] ? "shared-read" : "read";
  const file = await NodeFile.open(path, repair === "none", lock);
  try {
    const header = await readHeader(file);
    const found = await checkQcow2(file, header, repair);
    const [fixed, left] = [
      found.corruptionsFixed + found.leaksFixed,
      found.corruptions - found.corruptionsFixed,
    ];
    if (repair === "all" && left === 0) {
      const marks = header.incompatible & (INCOMPATIBLE.DIRTY | INCOMPATIBLE.CORRUPT);
      if (marks !== 0n) {
        const bits = new Uint8Array(8);
        viewOf(bits).setBigUint64(0, header.incompatible & ~marks);
        await file.write(HEADER_AT.INCOMPATIBLE, bits);
        await file.flush();
      }
    }
    // What is left, by a second look.
    const after = fixed > 0 ? await checkQcow2(file, header, "none") : found;
    if (values.output === "json") say(JSON.stringify(checkJson(path, found, after), null, 4));
    else if (!values.quiet) for (const line of checkLines(found, after)) say(line);
    if (after.corruptions > 0) return EXIT.CORRUPT;
    return after.leaks > 0 ? EXIT.LEAKS : EXIT.OK;
  } finally {
    await file.close();
  }
}

function checkJson(path: string, found: CheckResult, after: CheckResult): object {
  const counted = (name: string, value: number) => (value === 0 ? {} : { [name]: value });
  return {
    "image-end-offset": after.imageEnd,
    ...counted("allocated-clusters", after.allocatedClusters),
    "total-clusters": after.totalClusters,
    "check-errors": 0,
    ...counted("fragmented-clusters", after.fragmentedClusters),
    ...counted("compressed-clusters", after.compressedClusters),
    ...counted("corruptions", after.corruptions),
    ...counted("leaks", after.leaks),
    ...counted("corruptions-fixed", found.corruptionsFixed),
    ...counted("leaks-fixed", found.leaksFixed),
    filename: path,
    format: "qcow2",
  };
}

function checkLines(found: CheckResult, after: CheckResult): string[] {
  const lines = [...found.messages];
  if (found.leaksFixed + found.corruptionsFixed > 0)
    lines.push(
      "The following inconsistencies were found and repaired:",
      "",
      `    ${found.leaksFixed} leaked clusters`,
      `    ${found.corruptionsFixed} corruptions`,
      "",
      "Double checking the fixed image now...",
      ...after.messages,
    );
  if (after.corruptions === 0 && after.leaks === 0) lines.push("No errors were found on the image.");
  if (after.corruptions > 0)
    lines.push(
      "",
      `${after.corruptions} errors were found on the image.`,
      "Data may be corrupted, or further writes to the image may corrupt it.",
    );
  if (after.leaks > 0)
    lines.push(
      "",
      `${after.leaks} leaked clusters were found on the image.`,
      "This means waste of disk space, but no harm to data.",
    );
  const share = (part: number, of: number): string => `${((100 * part) / Math.max(1, of)).toFixed(2)}%`;
  const { allocatedClusters: stored, totalClusters: total } = after;
  if (stored > 0)
    lines.push(
      `${stored}/${total} = ${share(stored, total)} allocated, ${share(after.fragmentedClusters, stored)} fragmented, ` +
        `${share(after.compressedClusters, stored)} compressed clusters`,
    );
  lines.push(`Image end offset: ${after.imageEnd}`);
  return lines;
}

const convertOptions = {
  format,
  "output-format": {
    short: "O",
    value: "FMT",
    parse: parseFormat,
    help: "format of the new image (default raw)",
  },
  compress: { short: "c", help: "compressed clusters (qcow2)" },
  options: create,
  backing: {
    short: "B",
    value: "FILE",
    parse: text,
    help: "backing image of the new image, which has the same contents",
  },
  "backing-format": backingFormat,
  existing: { short: "n", help: "write into an image that exists, and is large enough" },
  ...ignoredOptions,
  progress,
  quiet,
  "force-share": forceShare,
} satisfies Options;

async function convertCommand(values: ValuesOf<typeof convertOptions>, from = "", to = ""): Promise<void> {
  const kind = values["output-format"] ?? "raw";
  const given = qcow2OptionsOf(values.options);
  const options = {
    ...given,
    backingFile: values.backing ?? given.backingFile,
    backingFormat: values["backing-format"] ?? given.backingFormat,
  };
  refuseRawOptions(kind, options);
  if (values.compress && kind !== "qcow2") throw new UsageError("-c needs -O qcow2");
  if (options.backingFile !== undefined && options.backingFormat === undefined)
    throw new UsageError("the backing image's format is missing: add -F raw or -F qcow2");
  if (!isAddress(from) && resolve(from) === resolve(to)) throw new UsageError(`${to} is the source as well`);
  await withImage(from, { format: values.format, forceShare: values["force-share"] }, async (source) => {
    await refuseOwnChain(source, to);
    const sizeBytes = wholeSectors(source);
    if (!values.existing) await makeImage(to, kind, sizeBytes, options);
    const { compress } = values;
    const onProgress = progressOf(values.progress && !values.quiet);
    await withImage(to, { format: kind, isWritten: true }, async (target) => {
      if (target.sizeBytes < source.sizeBytes)
        throw new CliError(`${to}: ${target.sizeBytes} bytes are less than the source's ${source.sizeBytes}`);
      await copyImage(source, target, { compressed: compress, overwrites: values.existing, onProgress });
    });
  });
}

/** A new qcow2 image of `sizeBytes` with the contents of a raw one, which may be smaller. */
export async function convertToQcow2(from: string, to: string, sizeBytes: number): Promise<void> {
  await withImage(from, { format: "raw" }, async (source) => {
    await makeImage(to, "qcow2", sizeBytes, {});
    await withImage(to, { format: "qcow2", isWritten: true }, (target) => copyImage(source, target));
  });
}

const commitOptions = {
  format,
  progress,
  quiet,
  keep: {
    short: "d",
    help: "leave the image as it is; default: it is emptied, as its backing image has all",
  },
} satisfies Options;

async function commitCommand(values: ValuesOf<typeof commitOptions>, path = ""): Promise<void> {
  await withImage(path, { format: values.format, isWritten: true }, async (image) => {
    const { backing: below } = image;
    if (!(image instanceof Qcow2Image) || below === undefined)
      throw new CliError(`${path}: has no backing image`);
    const { name } = below.file;
    const kind = below.format;
    // The backing image was locked for reading by the chain: it is opened alone now.
    image.backing = undefined;
    await below.close();
    await withImage(name, { format: kind, isWritten: true }, async (base) => {
      image.backing = base;
      await commitImage(image, base, progressOf(values.progress && !values.quiet));
      image.backing = undefined;
    });
    // Still locked: nobody else writes to the image that goes.
    if (!values.keep && image.header.snapshots === 0) await emptyImage(path, image.header);
  });
  if (!values.quiet) say("Image committed.");
}

/** A new image with the same options and access rights takes the place of the old one. */
async function emptyImage(path: string, header: Qcow2Image["header"]): Promise<void> {
  const place = await realpath(path);
  const next = `${place}.${process.pid}.empty`;
  try {
    await makeImage(next, "qcow2", header.sizeBytes, {
      clusterBytes: 2 ** header.clusterBits,
      lazyRefcounts: (header.compatible & LAZY_REFCOUNTS) !== 0n,
      compression: header.compression,
      refcountBits: 2 ** header.refcountOrder,
      version: header.version,
      backingFile: header.backingFile,
      backingFormat: header.backingFormat,
    });
    await chmod(next, (await stat(place)).mode & 0o7777);
    await rename(next, place);
  } catch (error) {
    await rm(next, { force: true });
    throw error;
  }
}

const rebaseOptions = {
  format,
  backing: { ...backing, help: "the new backing image; '' for none" },
  "backing-format": backingFormat,
  unsafe: { short: "u", help: "change only the name: the contents must be the same, or the old one is gone" },
  progress,
  quiet,
} satisfies Options;

async function rebaseCommand(values: ValuesOf<typeof rebaseOptions>, path = ""): Promise<void> {
  const { backing: name, unsafe } = values;
  if (name === undefined) throw new UsageError("-b FILE is missing: the new backing image");
  const kind = values["backing-format"];
  if (name !== "" && kind === undefined)
    throw new UsageError("the backing image's format is missing: add -F raw or -F qcow2");
  await withImage(path, { format: values.format, isWritten: true, withBacking: !unsafe }, async (image) => {
    if (!(image instanceof Qcow2Image)) throw new CliError(`${path}: a raw image has no backing image`);
    const onProgress = progressOf(values.progress && !values.quiet);
    if (!unsafe) {
      if (name === "") await keepContents(image, undefined, onProgress);
      else {
        const at = nodeStore({ image: undefined, backing: undefined }).relative(path, name);
        const opening = { format: parseFormat(kind ?? "auto") };
        await withImage(at, opening, (next) => keepContents(image, next, onProgress));
      }
    }
    await setBacking(image, name === "" ? undefined : name, name === "" ? undefined : kind);
  });
}

const resizeOptions = {
  format,
  shrink: { help: "allow a smaller disk: what is beyond its end is lost" },
  preallocation: { value: "off", parse: oneWord("off"), help: "accepted, and ignored" },
  quiet,
} satisfies Options;

async function resizeCommand(values: ValuesOf<typeof resizeOptions>, path = "", size = ""): Promise<void> {
  await withImage(path, { format: values.format, isWritten: true }, async (image) => {
    const sign = size.startsWith("+") ? 1 : size.startsWith("-") ? -1 : 0;
    const bytes = imageSize(sign === 0 ? size : size.slice(1));
    const sizeBytes = sign === 0 ? bytes : image.sizeBytes + sign * bytes;
    refuseSize(path, sizeBytes);
    if (sizeBytes < image.sizeBytes && !values.shrink)
      throw new UsageError(
        `${path}: ${sizeBytes} bytes are less than its ${image.sizeBytes}: --shrink allows it`,
      );
    await image.resize(sizeBytes);
  });
  if (!values.quiet) say("Image resized.");
}

const mapOptions = { format, output: outputFormat, "force-share": forceShare } satisfies Options;

async function mapCommand(values: ValuesOf<typeof mapOptions>, path = ""): Promise<void> {
  await withImage(path, { format: values.format, forceShare: values["force-share"] }, async (image) => {
    const rows: {
      start: number;
      end: number;
      host: number | undefined;
      key: string;
      row: Record<string, unknown>;
    }[] = [];
    for (let at = 0; at < image.sizeBytes; ) {
      const { length, kind, depth, host, isCompressed, file } = await image.extent(at, image.sizeBytes - at);
      const key = [kind, depth, isCompressed, file.name].join();
      const last = rows.at(-1);
      const follows =
        host === undefined ? last?.host === undefined : last?.host === host - at + (last?.start ?? 0);
      if (last !== undefined && last.key === key && follows) last.end = at + length;
      else {
        const row = {
          depth,
          present: kind !== "absent",
          zero: kind !== "data",
          data: kind === "data",
          compressed: isCompressed,
          offset: host,
          filename: file.name,
        };
        rows.push({ start: at, end: at + length, host, key, row });
      }
      at += length;
    }
    if (values.output === "json") {
      const lines = rows.map(({ start, end, row }) =>
        JSON.stringify({ start, length: end - start, ...row, filename: undefined }),
      );
      return say(`[${lines.join(",\n")}]`);
    }
    const columns = (...cells: string[]): string =>
      cells
        .slice(0, 3)
        .map((cell) => cell.padEnd(16))
        .join("") + (cells[3] ?? "");
    say(columns("Offset", "Length", "Mapped to", "File"));
    const hex = (value: number): string => (value === 0 ? "0" : `0x${value.toString(16)}`);
    for (const { start, end, host, row } of rows) {
      if (row["data"] === true)
        say(
          columns(
            hex(start),
            hex(end - start),
            host === undefined ? "compressed" : hex(host),
            String(row["filename"]),
          ),
        );
    }
  });
}

const compareOptions = {
  format,
  "other-format": { short: "F", value: "FMT", parse: parseFormat, help: "format of the second image" },
  strict: { short: "s", help: "images of different sizes are different" },
  progress,
  quiet,
  "force-share": forceShare,
} satisfies Options;

async function compareCommand(
  values: ValuesOf<typeof compareOptions>,
  one = "",
  other = "",
): Promise<number> {
  const shared = { forceShare: values["force-share"] };
  try {
    return await withImage(one, { ...shared, format: values.format }, (a) =>
      withImage(other, { ...shared, format: values["other-format"] }, async (b) => {
        const note = (line: string): void => void (values.quiet || say(line));
        if (wholeSectors(a) !== wholeSectors(b)) {
          note(values.strict ? "Strict mode: Image size mismatch!" : "Warning: Image size mismatch!");
          if (values.strict) return EXIT.DIFFERENT;
        }
        const at = await compareImages(a, b, progressOf(values.progress && !values.quiet));
        note(at === undefined ? "Images are identical." : `Content mismatch at offset ${at}!`);
        return at === undefined ? EXIT.OK : EXIT.DIFFERENT;
      }),
    );
  } catch (error) {
    // 1 is an answer: an image that cannot be read is none.
    if (!(error instanceof WherryError)) throw error;
    process.stderr.write(`wherry: ${error.message}\n`);
    return EXIT.CORRUPT;
  }
}

/** What main.ts calls: the options of each command, and its function. */
export const imageCommands = {
  create: commandOf(createOptions, createCommand),
  info: commandOf(infoOptions, infoCommand),
  check: commandOf(checkOptions, checkCommand),
  convert: commandOf(convertOptions, convertCommand),
  commit: commandOf(commitOptions, commitCommand),
  rebase: commandOf(rebaseOptions, rebaseCommand),
  resize: commandOf(resizeOptions, resizeCommand),
  map: commandOf(mapOptions, mapCommand),
  compare: commandOf(compareOptions, compareCommand),
} as const;

interface ImageCommand {
  readonly options: Options;
  /** `values` are those of `options`. */
  readonly run: (values: ValuesOf<Options>, ...operands: string[]) => Promise<number | void>;
}

function commandOf<O extends Options>(
  options: O,
  run: (values: ValuesOf<O>, ...operands: string[]) => Promise<number | void>,
): ImageCommand {
  return { options, run: (values, ...operands) => run(values as ValuesOf<O>, ...operands) };
}
