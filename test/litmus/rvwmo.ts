// RVWMO (unprivileged specification, chapter 17 and appendix A) for litmus programs: enumerates all global
// memory orders that satisfy preserved program order, the load value axiom and the atomicity axiom, and their
// outcomes. An access covers a whole variable, so accesses that overlap are to the same variable. Left out:
// I/O, mixed sizes, failing store-conditionals.
import { type LitmusTest, type Operation, type Outcome, registersOf, type Variable } from "./program.ts";

/** A memory operation. An AMO is one operation that loads and stores; an LR/SC pair is two. */
interface Event {
  readonly hart: number;
  /** Index in the hart's program. */
  readonly at: number;
  readonly variable: Variable;
  readonly loads: boolean;
  readonly stores: boolean;
  readonly register: string | undefined;
  /** The value stored, given the value that the operation loaded. */
  readonly stored: (loaded: number) => number;
  readonly aq: boolean;
  readonly rl: boolean;
  readonly isAmo: boolean;
  /** The LR of an SC. */
  readonly pairedWith: Event | undefined;
  readonly after: { readonly kind: "addr" | "data" | "ctrl"; readonly register: string } | undefined;
}

const APPLY = {
  swap: (_: number, value: number): number => value,
  add: (old: number, value: number): number => old + value,
  or: (old: number, value: number): number => old | value,
} as const;

function eventsOf(operations: readonly Operation[], hart: number): Event[] {
  const events: Event[] = [];
  const plain = {
    hart,
    loads: false,
    stores: false,
    register: undefined,
    stored: () => 0,
    aq: false,
    rl: false,
    isAmo: false,
    pairedWith: undefined,
    after: undefined,
  };
  for (const [at, o] of operations.entries()) {
    if (o.op === "fence") continue;
    const { variable } = o;
    const common = { ...plain, at, variable };
    if (o.op === "load") {
      events.push({ ...common, loads: true, register: o.register, after: o.after });
    } else if (o.op === "store") {
      events.push({ ...common, stores: true, stored: () => o.value, after: o.after });
    } else if (o.op === "amo") {
      const [aq, rl] = [o.ordering.includes("aq"), o.ordering.includes("rl")];
      const stored = (loaded: number): number => APPLY[o.kind](loaded, o.value);
      events.push({
        ...common,
        loads: true,
        stores: true,
        register: o.register,
        stored,
        aq,
        rl,
        isAmo: true,
      });
    } else {
      const bits = (ordering: string): { aq: boolean; rl: boolean } => {
        return { aq: ordering.includes("aq"), rl: ordering.includes("rl") };
      };
      const lr: Event = { ...common, loads: true, register: o.register, ...bits(o.lr) };
      const stored = (loaded: number): number => loaded + o.value;
      events.push(lr, { ...common, stores: true, stored, ...bits(o.sc), pairedWith: lr });
    }
  }
  return events;
}

/** True if a fence between the two in the hart's program orders them. */
function isFenced(operations: readonly Operation[], a: Event, b: Event): boolean {
  return operations.slice(a.at + 1, b.at).some((o) => {
    if (o.op !== "fence") return false;
    // fence.tso orders all pairs except a store before a load.
    if (o.before === "tso") return a.loads || b.stores;
    const [before, after] = [o.before, o.after];
    const first = (a.loads && before.includes("r")) || (a.stores && before.includes("w"));
    return first && ((b.loads && after.includes("r")) || (b.stores && after.includes("w")));
  });
}

/** Rules 1 and 4 to 13, which do not depend on loaded values. a precedes b in the hart's program. */
function isPreserved(test: LitmusTest, hart: readonly Event[], a: Event, b: Event): boolean {
  if (a.variable === b.variable && b.stores) return true;
  if (isFenced(test.harts[a.hart] as readonly Operation[], a, b)) return true;
  if (a.aq || b.rl) return true;
  // AMOs, LRs and SCs with aq or rl have RCsc annotations.
  if ((a.aq || a.rl) && (b.aq || b.rl)) return true;
  if (b.pairedWith === a) return true;
  const dependsOn = (event: Event, kinds: readonly string[]): boolean =>
    a.register !== undefined && event.after?.register === a.register && kinds.includes(event.after.kind);
  if (dependsOn(b, ["addr", "data"])) return true;
  if (b.stores && dependsOn(b, ["ctrl"])) return true;
  return hart.some((m) => {
    if (m.at <= a.at || m.at >= b.at) return false;
    // 12: b loads the value that m stores, and m's address or data depends on a. 13: b stores, and the
    // address of m, between the two, depends on a.
    const forwarded = b.loads && m.stores && m.variable === b.variable && dependsOn(m, ["addr", "data"]);
    return forwarded || (b.stores && dependsOn(m, ["addr"]));
  });
}

/** All outcomes of the test that RVWMO allows. */
export function allowedOutcomes(test: LitmusTest): Set<Outcome> {
  const harts = test.harts.map((operations, hart) => eventsOf(operations, hart));
  const events = harts.flat();
  const earlier = events.map((b) =>
    events.flatMap((a, i) => {
      if (a.hart !== b.hart || events.indexOf(b) <= i) return [];
      return isPreserved(test, harts[a.hart] as Event[], a, b) ? [i] : [];
    }),
  );
  const found = new Set<Outcome>();
  const order: number[] = [];
  const placed = new Set<number>();
  const extend = (): void => {
    if (order.length === events.length) {
      const outcome = judge(
        test,
        order.map((i) => events[i] as Event),
      );
      if (outcome !== undefined) found.add(outcome);
      return;
    }
    for (const i of events.keys()) {
      if (placed.has(i) || !(earlier[i] as number[]).every((e) => placed.has(e))) continue;
      order.push(i);
      placed.add(i);
      extend();
      placed.delete(i);
      order.pop();
    }
  };
  extend();
  return found;
}

/**
 * The outcome of a global memory order; undefined if the order violates rule 2 or 3, or the atomicity axiom.
 */
function judge(test: LitmusTest, order: readonly Event[]): Outcome | undefined {
  const position = new Map(order.map((event, i) => [event, i]));
  const at = (event: Event): number => position.get(event) as number;
  const isBefore = (a: Event, b: Event): boolean => a.hart === b.hart && (a.at < b.at || b.pairedWith === a);
  const values = new Map<Event, number>();
  /**
   * The store whose value a load returns: the latest in the global order among the stores that precede the
   * load in that order or in its program.
   */
  const source = new Map<Event, Event | undefined>();
  const valueOf = (store: Event): number => {
    const loader = store.loads ? store : store.pairedWith;
    return store.stored(loader === undefined ? 0 : (values.get(loader) ?? 0));
  };
  for (const load of order) {
    if (!load.loads) continue;
    const candidates = order.filter(
      (s) =>
        s !== load && s.stores && s.variable === load.variable && (at(s) < at(load) || isBefore(s, load)),
    );
    const from = candidates.at(-1);
    source.set(load, from);
    values.set(load, from === undefined ? 0 : valueOf(from));
  }
  for (const b of order) {
    if (!b.loads) continue;
    const from = source.get(b);
    // 3: b loads the value of an AMO or SC of its hart, and must follow it.
    if (from?.hart === b.hart && (from.isAmo || from.pairedWith !== undefined) && at(from) > at(b))
      return undefined;
    for (const a of order) {
      // 2: two loads of a variable with no store to it between, which return the values of different stores.
      if (!a.loads || !isBefore(a, b) || a.variable !== b.variable || at(a) < at(b)) continue;
      const between = order.some(
        (s) => s.stores && s.variable === a.variable && isBefore(a, s) && isBefore(s, b),
      );
      if (!between && source.get(a) !== from) return undefined;
    }
  }
  for (const sc of order) {
    const lr = sc.pairedWith;
    if (lr === undefined) continue;
    const from = source.get(lr);
    const start = from === undefined ? -1 : at(from);
    const others = order.slice(start + 1, at(sc));
    if (start > at(sc)) return undefined;
    if (others.some((s) => s.stores && s.variable === sc.variable && s.hart !== sc.hart)) return undefined;
  }
  const registers = registersOf(test).map(({ hart, register }) => {
    const event = order.find((e) => e.hart === hart && e.register === register) as Event;
    return `${register}=${values.get(event)}`;
  });
  const last = (test.last ?? []).map((variable) => {
    const store = order.findLast((e) => e.stores && e.variable === variable);
    return `${variable}=${store === undefined ? 0 : valueOf(store)}`;
  });
  return [...registers, ...last].join(" ");
}
