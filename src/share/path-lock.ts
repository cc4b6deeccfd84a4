// Requests that use paths run together; one that changes paths (a rename, a removal) runs alone, so that no
// path changes between its making and its use. First come, first served.

export class PathLock {
  #shared = 0;
  #isExclusive = false;
  readonly #waiting: { readonly isExclusive: boolean; readonly go: () => void }[] = [];

  shared<R>(work: () => Promise<R>): Promise<R> {
    return this.#run(false, work);
  }
  exclusive<R>(work: () => Promise<R>): Promise<R> {
    return this.#run(true, work);
  }

  async #run<R>(isExclusive: boolean, work: () => Promise<R>): Promise<R> {
    if (this.#waiting.length > 0 || !this.#admits(isExclusive))
      await new Promise<void>((go) => this.#waiting.push({ isExclusive, go }));
    else this.#enter(isExclusive);
    try {
      return await work();
    } finally {
      if (isExclusive) this.#isExclusive = false;
      else this.#shared--;
      this.#admitNext();
    }
  }

  #admits(isExclusive: boolean): boolean {
    return !this.#isExclusive && (!isExclusive || this.#shared === 0);
  }
  #enter(isExclusive: boolean): void {
    if (isExclusive) this.#isExclusive = true;
    else this.#shared++;
  }
  #admitNext(): void {
    for (let next = this.#waiting[0]; next !== undefined && this.#admits(next.isExclusive); ) {
      this.#waiting.shift();
      this.#enter(next.isExclusive);
      next.go();
      next = this.#waiting[0];
    }
  }
}
