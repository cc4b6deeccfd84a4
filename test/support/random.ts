// A seeded generator of random numbers (splitmix32), so that (seed, index) alone reproduces a failing
// program.

export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed | 0;
  }

  u32(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  }
  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }
  /** An integer from 0 to n - 1. */
  int(n: number): number {
    return Math.floor((this.u32() / 2 ** 32) * n);
  }
  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.int(n) === 0;
  }
  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new RangeError("pick from an empty list");
    return list[this.int(list.length)] as T;
  }
  /** One of `choices` with the given weights. */
  weighted<T>(choices: readonly (readonly [number, T])[]): T {
    let rest = this.int(choices.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, value] of choices) {
      rest -= weight;
      if (rest < 0) return value;
    }
    throw new RangeError("no choices");
  }
}

/** The seed of the program `index` of a run. */
export function programSeed(seed: number, index: number): number {
  return new Random(seed ^ Math.imul(index + 1, 0x85ebca6b)).u32();
}

/** Fractions from 0 up to 1. */
export function random(seed: number): () => number {
  const numbers = new Random(seed);
  return () => numbers.u32() / 2 ** 32;
}

/** Integers from 0 to `n` - 1. */
export function randomBelow(seed: number): (n: number) => number {
  const numbers = new Random(seed);
  return (n) => numbers.int(n);
}
