// A lock for critical sections of a few instructions (PLIC, HFENCE queues). Holders never block.

/** Run `critical` with the lock word held (0 free, 1 held). */
export function withLock<T>(words: Int32Array<SharedArrayBuffer>, index: number, critical: () => T): T {
  while (Atomics.compareExchange(words, index, 0, 1) !== 0) {
    // The holder may have been preempted (two cores, many harts): sleep instead of spinning.
    Atomics.wait(words, index, 1, 0.05);
  }
  try {
    return critical();
  } finally {
    Atomics.store(words, index, 0);
    Atomics.notify(words, index, 1);
  }
}
