// The virtio features that a QEMU offers, from the answers of its QMP command x-query-virtio-status, the only
// place that states them. The features that a stream's guest uses must be among them. The answer names
// features in prose and a device only by its type, so devices of one type cannot be distinguished.
import { featureCure, virtioStates } from "./check-virtio.ts";
import { featureNames } from "../decode/virtio-features.ts";
import { virtioType } from "../decode/virtio-devices.ts";
import type { Problem, StreamReport } from "../model/stream-report.ts";

/** Features of one device. */
export interface VirtioOffer {
  /** `net`, `blk`… */
  readonly type: string;
  /** Names from the virtio specification. */
  readonly features: ReadonlySet<string>;
}

const MAX_DEPTH = 32;

/**
 * Finds the devices of such answers anywhere in a JSON text; undefined if there are none. Throws SyntaxError.
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

/** Features that a device of the stream uses and that not all devices of this type in the target offer. */
export function checkOffers(
  report: StreamReport,
  offers: readonly VirtioOffer[],
): { readonly problems: readonly Problem[]; readonly warnings: readonly Problem[] } {
  const problems: Problem[] = [];
  const warnings: Problem[] = [];
  for (const { section, type, features } of virtioStates(report)) {
    const known = offers.filter((offer) => offer.type === type);
    const names = featureNames(type, features)?.split(/ (?=VIRTIO|VHOST|bit)/) ?? [];
    // A bit without a name here may have no name there, either.
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
