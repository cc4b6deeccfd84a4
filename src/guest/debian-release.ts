// The signed index of a Debian suite (dists/SUITE/InRelease): an OpenPGP signature, then sizes and SHA-256 of
// the other indexes, in the format of Debian's wiki page DebianRepository/Format.
import { readFile } from "node:fs/promises";
import { type Key, readCleartextMessage, readKeys, verify } from "openpgp";
import { messageOf } from "../base/errors.ts";
import { parseStanza } from "./apt-sources.ts";
import { GuestError } from "./guest-error.ts";

export interface IndexFile {
  /** Lower-case hexadecimal. */
  readonly sha256: string;
  readonly size: number;
}

/** The public keys in an OpenPGP keyring file, binary or armoured. */
export async function readKeyring(path: string): Promise<Key[]> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    const hint = "install the package debian-archive-keyring, or name a keyring with --keyring";
    throw new GuestError("guest.keyring", `no Debian archive keyring at ${path}: ${hint}`, { cause });
  }
  const armored = Buffer.from(bytes).toString("latin1");
  try {
    if (armored.startsWith("-----BEGIN")) return await readKeys({ armoredKeys: armored });
    return await readKeys({ binaryKeys: bytes });
  } catch (cause) {
    throw new GuestError("guest.keyring", `cannot read keyring ${path}: ${messageOf(cause)}`, { cause });
  }
}

/** The SHA256 table of an InRelease text: path in the suite's directory → size and hash. */
function parseHashes(table: string): Map<string, IndexFile> {
  const files = new Map<string, IndexFile>();
  for (const line of table.split("\n")) {
    const match = /^([0-9a-f]{64})\s+(\d+)\s+(\S+)$/.exec(line.trim());
    if (match) files.set(match[3] as string, { sha256: match[1] as string, size: Number(match[2]) });
  }
  return files;
}

/**
 * Verifies an InRelease text and returns the index files it lists. One good signature by a key of `keys`
 * suffices. Throws GuestError without such a signature, or if the text is not the index of `suite`.
 */
export async function verifyRelease(
  text: string,
  keys: Key[],
  suite: string,
): Promise<Map<string, IndexFile>> {
  let signed: string;
  const refusals: string[] = [];
  try {
    const message = await readCleartextMessage({ cleartextMessage: text });
    const result = await verify({ message, verificationKeys: keys });
    signed = message.getText();
    let good = false;
    for (const { verified, keyID } of result.signatures) {
      await verified.then(
        () => (good = true),
        (error: unknown) => refusals.push(`${keyID.toHex()}: ${messageOf(error)}`),
      );
    }
    if (!good) throw new Error(refusals.length > 0 ? refusals.join("; ") : "it has no signature");
  } catch (cause) {
    throw new GuestError(
      "guest.signature",
      `the signature of the ${suite} index is invalid: ${messageOf(cause)}`,
      {
        cause,
      },
    );
  }
  const fields = parseStanza(signed);
  const names = [fields.get("suite"), fields.get("codename")];
  if (!names.includes(suite)) {
    throw new GuestError("guest.suite", `the mirror's index is for ${names.join(" or ")}, not for ${suite}`);
  }
  return parseHashes(fields.get("sha256") ?? "");
}
