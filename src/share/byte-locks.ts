// Advisory locks of byte ranges as POSIX has them (fcntl F_SETLK): an owner's new lock replaces its old ones
// in the range. Owners are the client's processes. Left out: locks of the host's programs, which are others'.

/** Linux's F_RDLCK is 0. */
export const LOCK_WRITE = 1;
export const LOCK_NONE = 2;

/** `end` is exclusive. `file`: the qid's path. `fid`: what set it; its clunk drops the lock. */
export interface ByteLock {
  readonly file: bigint;
  readonly fid: number;
  readonly type: number;
  readonly start: bigint;
  readonly end: bigint;
  readonly process: number;
  readonly client: string;
}

const END = 1n << 64n;

/** 9P's length 0 means: to the end of the file, however long it gets. */
export const lockEnd = (start: bigint, length: bigint): bigint =>
  length === 0n || start + length > END ? END : start + length;
export const lockLength = ({ start, end }: ByteLock): bigint => (end === END ? 0n : end - start);

const sameOwner = (a: ByteLock, b: ByteLock): boolean => a.process === b.process && a.client === b.client;
const overlap = (a: ByteLock, b: ByteLock): boolean => a.start < b.end && b.start < a.end;

export class ByteLocks {
  #locks: ByteLock[] = [];

  get all(): readonly ByteLock[] {
    return this.#locks;
  }

  /** Another owner's lock that forbids `wanted`. */
  conflict(wanted: ByteLock): ByteLock | undefined {
    return this.#locks.find(
      (lock) =>
        lock.file === wanted.file &&
        !sameOwner(lock, wanted) &&
        overlap(lock, wanted) &&
        (lock.type === LOCK_WRITE || wanted.type === LOCK_WRITE),
    );
  }

  /** Sets it, or with LOCK_NONE unlocks. Returns false and changes nothing if another's lock forbids it. */
  set(wanted: ByteLock): boolean {
    if (wanted.type !== LOCK_NONE && this.conflict(wanted) !== undefined) return false;
    const next: ByteLock[] = [];
    for (const lock of this.#locks) {
      if (lock.file !== wanted.file || !sameOwner(lock, wanted) || !overlap(lock, wanted)) {
        next.push(lock);
        continue;
      }
      if (lock.start < wanted.start) next.push({ ...lock, end: wanted.start });
      if (lock.end > wanted.end) next.push({ ...lock, start: wanted.end });
    }
    if (wanted.type !== LOCK_NONE) next.push(wanted);
    this.#locks = next;
    return true;
  }

  dropFid(fid: number): void {
    if (this.#locks.some((lock) => lock.fid === fid)) this.#locks = this.#locks.filter((l) => l.fid !== fid);
  }

  clear(): void {
    this.#locks = [];
  }
}
