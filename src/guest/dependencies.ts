// Which packages an installation needs: the closure of Depends and Pre-Depends over versions, alternatives
// and virtual packages (Provides), as deb-control(5) and Debian's policy define them. As apt does at an
// installation, it takes the first alternative that can be installed, and one that is chosen already before
// any other; it goes back over a choice whose package conflicts with a chosen one. Left out: Recommends,
// several versions of a package, other architectures.
import { nearest } from "../base/nearest.ts";
import { type Relation, satisfies } from "./debian-version.ts";
import { GuestError } from "./guest-error.ts";

/** One alternative of a dependency. */
export interface Alternative {
  readonly name: string;
  readonly relation?: Relation | undefined;
  readonly version?: string | undefined;
}

/** A package as the resolver sees it. */
export interface Candidate {
  readonly name: string;
  readonly version: string;
  /** Value of the control field, such as "libc6 (>= 2.38), a | b". */
  field(name: "Pre-Depends" | "Depends" | "Provides" | "Conflicts" | "Breaks"): string | undefined;
}

const RELATIONS: Record<string, Relation> = {
  "<": "<=",
  ">": ">=",
  "<<": "<<",
  "<=": "<=",
  "=": "=",
  ">=": ">=",
  ">>": ">>",
};

/** The dependencies in a control field; each is a list of alternatives. */
export function parseDependencies(text: string | undefined): Alternative[][] {
  return (text ?? "")
    .split(",")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "")
    .map((entry) =>
      entry.split("|").map((alternative): Alternative => {
        const match = /^\s*([a-z0-9][a-z0-9+.-]*)(?::\w+)?\s*(?:\(\s*([<=>]+)\s*([^)\s]+)\s*\))?\s*$/.exec(
          alternative,
        );
        const relation = RELATIONS[match?.[2] ?? "none"];
        if (match === null || (match[2] !== undefined && relation === undefined))
          throw new GuestError(
            "guest.index",
            `the index has a dependency that cannot be read: '${alternative.trim()}'`,
          );
        return { name: match[1] as string, relation, version: match[3] };
      }),
    );
}

const accepts = ({ relation, version }: Alternative, found: string): boolean =>
  relation === undefined || version === undefined || satisfies(found, relation, version);

const shown = (alternatives: readonly Alternative[]): string =>
  alternatives
    .map(({ name, relation, version }) =>
      relation === undefined ? name : `${name} (${relation} ${version})`,
    )
    .join(" | ");

/** Choices that are tried before the resolver gives up. */
const MAX_STEPS = 20_000;

/** What stood in the way first, and the steps so far. */
interface Problem {
  text?: string;
  steps: number;
}

/** A set of packages that fits together so far. */
class Selection<P extends Candidate> {
  readonly chosen = new Map<string, P>();
  /** What each chosen package conflicts with or breaks. */
  readonly refusals: { readonly by: P; readonly what: Alternative }[] = [];
}

export class Resolver<P extends Candidate> {
  readonly #packages: ReadonlyMap<string, P>;
  readonly #providers = new Map<string, P[]>();
  readonly #dependencies = new Map<P, Alternative[][]>();

  /** `packages`: all of the archive, by name. */
  constructor(packages: ReadonlyMap<string, P>) {
    this.#packages = packages;
    for (const each of packages.values())
      for (const { name } of this.#provides(each)) {
        const known = this.#providers.get(name);
        if (known === undefined) this.#providers.set(name, [each]);
        else known.push(each);
      }
  }

  #provides(of: P): Alternative[] {
    const text = of.field("Provides");
    return text === undefined ? [] : parseDependencies(text).flat();
  }

  #needs(of: P): Alternative[][] {
    let known = this.#dependencies.get(of);
    if (known === undefined) {
      known = [...parseDependencies(of.field("Pre-Depends")), ...parseDependencies(of.field("Depends"))];
      this.#dependencies.set(of, known);
    }
    return known;
  }

  /** Whether the package, or a name that it provides, is what `wanted` says. */
  #matches(of: P, wanted: Alternative): boolean {
    if (of.name === wanted.name && accepts(wanted, of.version)) return true;
    return this.#provides(of).some(
      ({ name, version }) =>
        name === wanted.name &&
        (wanted.relation === undefined || (version !== undefined && accepts(wanted, version))),
    );
  }

  /** The packages that satisfy an alternative: the real one, then the providers in the index's order. */
  #candidates(wanted: Alternative): P[] {
    const real = this.#packages.get(wanted.name);
    const others = (this.#providers.get(wanted.name) ?? []).filter((each) => each !== real);
    return [...(real === undefined ? [] : [real]), ...others].filter((each) => this.#matches(each, wanted));
  }

  /** Why `package` cannot join the selection. */
  #obstacle(selection: Selection<P>, of: P): string | undefined {
    for (const { by, what } of selection.refusals)
      if (by !== of && this.#matches(of, what)) return `${by.name} conflicts with ${shown([what])}`;
    for (const what of this.#refused(of))
      for (const each of selection.chosen.values())
        if (each !== of && this.#matches(each, what))
          return `${of.name} conflicts with ${each.name} ${each.version}`;
    return undefined;
  }

  #refused(of: P): Alternative[] {
    return [...parseDependencies(of.field("Conflicts")), ...parseDependencies(of.field("Breaks"))].flat();
  }

  /**
   * `wanted` (names) with all that they need, in an order in which a package's dependencies come first where
   * there is no cycle. Throws GuestError "guest.package" for an unknown name (with the nearest one) and
   * "guest.dependency" when there is no way to satisfy all.
   */
  resolve(wanted: readonly string[]): P[] {
    const goals = wanted.map((name): Alternative[] => {
      if (this.#candidates({ name }).length === 0) {
        const meant = nearest(
          name,
          [...this.#packages.keys()].filter((each) => each[0] === name[0]),
        );
        throw new GuestError(
          "guest.package",
          `the archive has no package '${name}'${meant === undefined ? "" : `; did you mean ${meant}?`}`,
        );
      }
      return [{ name }];
    });
    const selection = new Selection<P>();
    const problem: Problem = { steps: 0 };
    const todo = goals.map((alternatives) => ({ alternatives, by: undefined as P | undefined }));
    if (!this.#satisfy(selection, todo, problem))
      throw new GuestError(
        "guest.dependency",
        `the packages cannot be installed together: ${problem.text ?? ""}`,
      );
    return this.#ordered(selection.chosen);
  }

  /** Works off `todo`, first things first; false if it cannot. */
  #satisfy(
    selection: Selection<P>,
    todo: { readonly alternatives: readonly Alternative[]; readonly by: P | undefined }[],
    problem: Problem,
  ): boolean {
    for (;;) {
      if (++problem.steps > MAX_STEPS) return false;
      const goal = todo.shift();
      if (goal === undefined) return true;
      const options = goal.alternatives.flatMap((each) => this.#candidates(each));
      if (options.some((each) => selection.chosen.has(each.name))) continue;
      const usable = options.filter((each) => {
        const obstacle = this.#obstacle(selection, each);
        if (obstacle !== undefined) problem.text ??= obstacle;
        return obstacle === undefined;
      });
      if (usable.length === 1) {
        this.#choose(selection, usable[0] as P, todo);
        continue;
      }
      for (const option of usable) {
        const trial = copyOf(selection);
        const rest = [...todo];
        this.#choose(trial, option, rest);
        if (this.#satisfy(trial, rest, problem)) {
          for (const [name, each] of trial.chosen) selection.chosen.set(name, each);
          return true;
        }
      }
      const needed = goal.by === undefined ? "it was asked for" : `${goal.by.name} needs it`;
      problem.text ??= `nothing in the archive is ${shown(goal.alternatives)}, and ${needed}`;
      return false;
    }
  }

  #choose(
    selection: Selection<P>,
    of: P,
    todo: { readonly alternatives: readonly Alternative[]; readonly by: P | undefined }[],
  ): void {
    selection.chosen.set(of.name, of);
    for (const what of this.#refused(of)) selection.refusals.push({ by: of, what });
    for (const alternatives of this.#needs(of)) todo.push({ alternatives, by: of });
  }

  #ordered(chosen: ReadonlyMap<string, P>): P[] {
    const done = new Set<P>();
    const visiting = new Set<P>();
    const visit = (each: P): void => {
      if (done.has(each) || visiting.has(each)) return;
      visiting.add(each);
      for (const alternatives of this.#needs(each))
        for (const wanted of alternatives)
          for (const option of this.#candidates(wanted)) if (chosen.has(option.name)) visit(option);
      done.add(each);
    };
    for (const each of chosen.values()) visit(each);
    return [...done];
  }
}

function copyOf<P extends Candidate>(of: Selection<P>): Selection<P> {
  const copy = new Selection<P>();
  for (const [name, each] of of.chosen) copy.chosen.set(name, each);
  copy.refusals.push(...of.refusals);
  return copy;
}
