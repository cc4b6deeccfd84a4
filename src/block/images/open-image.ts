// Opens an image with all that it is based on.
import { BlockError, type BlockFile } from "../block-file.ts";
import type { BlockImage, ImageFormat } from "../block-image.ts";
import { quoted } from "../../base/text.ts";
import {
  HEADER_AT,
  INCOMPATIBLE,
  isQcow2,
  type Qcow2Header,
  readHeader,
  viewOf,
} from "../qcow2/qcow2-header.ts";
import { checkQcow2 } from "../qcow2/qcow2-check.ts";
import type { ClusterCodec } from "../qcow2/cluster-codec.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { RawImage } from "./raw-image.ts";

const MAX_CHAIN = 64;

/** What a platform gives to open images. */
export interface ImageStore {
  readonly codec: ClusterCodec;
  /** Opens a file. `isBacking`: for another image's sake. */
  open(
    path: string,
    options: { readonly readonly: boolean; readonly isBacking: boolean },
  ): Promise<BlockFile>;
  /** The path of a name that the image at `path` gives. */
  relative(path: string, name: string): string;
  /** The same for two paths of one file. */
  identity(path: string): Promise<string>;
}

/** How an image is opened. */
export interface OpenOptions {
  /** Default: `auto`, by the first bytes. */
  readonly format?: ImageFormat | "auto" | undefined;
  readonly readonly?: boolean | undefined;
  /** False: the image alone, as if it had no backing image. */
  readonly withBacking?: boolean | undefined;
  /** Repair refcounts that a crash has left behind, instead of a refusal. Default: true. */
  readonly repairDirty?: boolean | undefined;
}

export function parseFormat(name: string): ImageFormat | "auto" {
  if (name === "raw" || name === "qcow2" || name === "auto") return name;
  throw new BlockError("block.format", `unknown format ${quoted(name)}: expected raw, qcow2 or auto`);
}

/** Opens the image at `path` and its backing images, which are read only. Rejects with BlockError. */
export async function openImage(
  store: ImageStore,
  path: string,
  options: OpenOptions = {},
): Promise<BlockImage> {
  return await openLink(store, path, options, []);
}

async function openLink(
  store: ImageStore,
  path: string,
  options: OpenOptions,
  above: readonly string[],
): Promise<BlockImage> {
  const { readonly = false, withBacking = true, repairDirty = true } = options;
  const identity = await store.identity(path);
  if (above.includes(identity))
    throw new BlockError("block.chain", `${path}: is its own backing image: the chain has no end`);
  if (above.length >= MAX_CHAIN)
    throw new BlockError("block.chain", `${path}: more than ${MAX_CHAIN} images are based on it`);
  const file = await store.open(path, { readonly, isBacking: above.length > 0 });
  let backing: BlockImage | undefined;
  try {
    const { format = "auto" } = options;
    if (format === "raw") return new RawImage(file, false);
    if (format === "auto") {
      const head = new Uint8Array(4);
      await file.read(0, head);
      if (!isQcow2(head)) return new RawImage(file, true);
    }
    const header = await readHeader(file);
    if (withBacking && header.backingFile !== undefined)
      backing = await openBacking(store, path, header, [...above, identity]);
    const isDirty = (header.incompatible & INCOMPATIBLE.DIRTY) !== 0n;
    const isCorrupt = (header.incompatible & INCOMPATIBLE.CORRUPT) !== 0n;
    if (isDirty && !isCorrupt && !readonly && repairDirty) await repairCounts(file, header);
    return await Qcow2Image.open({ file, header, backing, codec: store.codec });
  } catch (error) {
    await file.close();
    await backing?.close();
    throw error;
  }
}

/** A crash has left a dirty image: its refcounts are counted anew. */
async function repairCounts(file: BlockFile, header: Qcow2Header): Promise<void> {
  const result = await checkQcow2(file, header, "all");
  if (result.corruptions > result.corruptionsFixed)
    throw new BlockError(
      "qcow2.corrupt",
      `${file.name}: was not closed, and cannot be repaired: ${result.messages[0] ?? ""}`,
    );
  const bytes = new Uint8Array(8);
  header.incompatible &= ~INCOMPATIBLE.DIRTY;
  viewOf(bytes).setBigUint64(0, header.incompatible);
  await file.write(HEADER_AT.INCOMPATIBLE, bytes);
  await file.flush();
}

async function openBacking(
  store: ImageStore,
  path: string,
  { backingFile = "", backingFormat }: Qcow2Header,
  above: readonly string[],
): Promise<BlockImage> {
  const { name, format = backingFormat } = backingName(path, backingFile);
  const found = store.relative(path, name);
  try {
    return await openLink(store, found, { format: parseFormat(format ?? "auto"), readonly: true }, above);
  } catch (cause) {
    if (!(cause instanceof BlockError)) throw cause;
    throw new BlockError(cause.code, `${path}: its backing image ${cause.message}`, { cause });
  }
}

/** A name in QEMU's notations: a path, `file:PATH`, `http://…`, or `json:` with driver and filename. */
function backingName(path: string, name: string): { readonly name: string; readonly format?: string } {
  const refuse = (): never => {
    const what = `the name of its backing image, ${quoted(name)}`;
    throw new BlockError("block.backing", `${path}: ${what}, is no path and no http: or https: address`);
  };
  if (name.startsWith("json:")) {
    let value: unknown;
    try {
      value = JSON.parse(name.slice(5));
    } catch {
      refuse();
    }
    const of = (from: unknown, key: string): unknown =>
      typeof from === "object" && from !== null ? (from as Record<string, unknown>)[key] : undefined;
    const driver = of(value, "driver");
    const isFormat = driver === "qcow2" || driver === "raw";
    const filename = isFormat
      ? (of(of(value, "file"), "filename") ?? of(value, "file.filename"))
      : of(value, "filename");
    if (typeof filename !== "string") return refuse();
    return isFormat ? { name: filename, format: driver } : { name: filename };
  }
  if (name.startsWith("file:")) return { name: name.slice(5) };
  if (/^[a-z][a-z0-9+.-]*:/i.test(name) && !/^https?:/i.test(name)) refuse();
  return { name };
}
