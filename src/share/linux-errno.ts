// The error numbers that cross the wire of 9P2000.L: Linux's (asm-generic/errno.h), on whatever host.

export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ETXTBSY: 26,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EROFS: 30,
  EMLINK: 31,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOLCK: 37,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EPROTO: 71,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ESTALE: 116,
  EDQUOT: 122,
} as const;

export type ErrorName = keyof typeof ERRNO;

/** A request that fails as a system call does; the guest sees `code`'s number. */
export class FileError extends Error {
  readonly code: ErrorName;

  constructor(code: ErrorName) {
    super(code);
    this.name = "FileError";
    this.code = code;
  }
}

/** The names that hosts give to these errors in other words. */
const ALIASES: Readonly<Record<string, ErrorName>> = { ENOTSUP: "EOPNOTSUPP", ENOATTR: "ENODATA" };

/** The name of any thrown value: that of a FileError or of a platform's error with a `code`, or EIO. */
export function errorName(error: unknown): ErrorName {
  const { code } = (error ?? {}) as { code?: unknown };
  if (typeof code !== "string") return "EIO";
  if (Object.hasOwn(ERRNO, code)) return code as ErrorName;
  return (Object.hasOwn(ALIASES, code) && ALIASES[code]) || "EIO";
}
