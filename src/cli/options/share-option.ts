// `--share`: a directory or tar archive for the guest, in QEMU's notation of -virtfs.
import type { ShareSpec } from "../../node/share/host-share.ts";
import { OWNER_MODELS } from "../../share/file-tree.ts";
import { keyValues, word } from "./option-values.ts";

const KEYS = ["path", "tag", "readonly", "uid"];
/** QEMU's names. */
const ALIASES: Readonly<Record<string, string>> = { mount_tag: "tag", security_model: "uid" };

/**
 * `path=DIR,tag=TAG`, and `readonly=on|off`, `uid=map|none|passthrough|mapped-xattr`; QEMU's `mount_tag` and
 * `security_model` as well.
 */
export function share(text: string): ShareSpec {
  const values = keyValues(text);
  for (const [alias, key] of Object.entries(ALIASES)) {
    const value = values.get(alias);
    if (value === undefined) continue;
    if (values.has(key)) throw new Error(`${alias} is another name of ${key}: give one`);
    values.delete(alias);
    values.set(key, value);
  }
  const unknown = [...values.keys()].find((key) => !KEYS.includes(key));
  if (unknown !== undefined) throw new Error(`unknown key '${unknown}'; known are ${KEYS.join(", ")}`);
  const [path, tag, readonly = "off", model] = KEYS.map((key) => values.get(key));
  if (!path || !tag) throw new Error("expected path=DIR,tag=NAME");
  const isReadonly = word(["on", "off"])(readonly) === "on";
  const uid = model && word(OWNER_MODELS)(model === "mapped" ? "mapped-xattr" : model);
  return { path, tag, readonly: isReadonly, ...(uid ? { uid } : {}) };
}
