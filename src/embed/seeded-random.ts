// Pseudo-random bytes that are the same in each run, for machines whose runs must repeat (--icount). They
// have no entropy: a guest's keys are not secret there. Marsaglia's xorshift, 32 bits (Xorshift RNGs, 2003).

export function seededRandom(seed = 0x57686572): (length: number) => Uint8Array<ArrayBuffer> {
  let state = seed | 0 || 1;
  return (length) =>
    Uint8Array.from({ length }, () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return state & 0xff;
    });
}
