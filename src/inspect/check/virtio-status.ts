// Which virtio features a QEMU offers: from the answers of its QMP command x-query-virtio-status, the only
// place where it says so. A stream has those that its guest uses; they must be among them. The answer names
// features by words and the device by its type only, so that of several devices of one type it is not known
// which is which.
import { featureCure, virtioStates } from "./check-virtio.ts";
import { featureNames } from "../decode/virtio-features.ts";
import { virtioType } from "../decode/virtio-devices.ts";
import type { Problem, StreamReport } from "../model/stream-report.ts";

/** Of one device. */
export interface VirtioOffer {
  /** `net`, `blk`… */
  readonly type: string;
  /** As in virtio's specification. */
  readonly features: ReadonlySet<string>;
}

const MAX_DEPTH = 32;

/**
 * The devices in a JSON text that has such answers anywhere in it; undefined if it has none. Throws
 * SyntaxError.
 */
export function parseVirtioStatus(text: string): VirtioOffer[] | undefined {
  const offers: VirtioOffer[] = [];
  const visit = (value: unknown, depth: number): void => {
    if (typeof value !== "object" || value === null || depth > MAX_DEPTH) return;
    const { name, "host-features": offered } = value as Record<string, unknown>;
    if (typeof name === "string" && typeof offered === "object" && offered !== null) {
      const words = Object.values(offered).flatMap((list) => (Array.isArray(list) ? list : []));
      const names = words.map((word) => String(word).split(":")[0] ?? "");
      offers.push({ type: virtioType(name), features: new Set(names) });
      return;
    }
    for (const inner of Object.values(value)) visit(inner, depth + 1);
  };
  visit(JSON.parse(text), 0);
  return offers.length === 0 ? undefined : offers;
}

/**
 * Features that a device of the stream uses and none of the target's of its type offers, or not each one
 * does.
 */
export function checkOffers(
  report: StreamReport,
  offers: readonly VirtioOffer[],
): { readonly problems: readonly Problem[]; readonly warnings: readonly Problem[] } {
  const problems: Problem[] = [];
  const warnings: Problem[] = [];
  for (const { section, type, features } of virtioStates(report)) {
    const known = offers.filter((offer) => offer.type === type);
    const names = featureNames(type, features)?.split(/ (?=VIRTIO|VHOST|bit)/) ?? [];
    // A bit without a name here may be one without a name there.
    const used = names.filter((name) => !name.startsWith("bit"));
    const lacking = used.filter((name) => known.some((offer) => !offer.features.has(name)));
    if (lacking.length === 0) continue;
    const certain = lacking.some((name) => known.every((offer) => !offer.features.has(name)));
    (certain ? problems : warnings).push({
      code: "check.virtio.features",
      where: `section ${section.idstr}/${section.instanceId}, features`,
      offset: section.offset,
      expected: "features that the target offers",
      found: `${lacking.join(" ")} in use`,
      cause: `${certain ? "the target does" : "not all of the target's devices of this type do"} not offer them (QEMU: "Features 0x… unsupported. Allowed features: 0x…")`,
      cure: featureCure(lacking),
    });
  }
  return { problems, warnings };
}
