// Numbers of QEMU's migration stream (migration/ and docs/devel/migration in its tree), and Wherry's
// additions: the section wherry/integrity, the RESOLVE exchange, two messages of the return path.
import { QEMU_VM_SUBSECTION } from "../state/walk.ts";

/** The first four bytes of a stream, big-endian: `QEVM`. */
export const QEMU_VM_FILE_MAGIC = 0x5145564d;
/** The next four bytes. */
export const QEMU_VM_FILE_VERSION = 3;

/** The type byte of each section. */
export const QEMU_VM = {
  EOF: 0x00,
  SECTION_START: 0x01,
  SECTION_PART: 0x02,
  SECTION_END: 0x03,
  SECTION_FULL: 0x04,
  SUBSECTION: QEMU_VM_SUBSECTION,
  VMDESCRIPTION: 0x06,
  CONFIGURATION: 0x07,
  COMMAND: 0x08,
  SECTION_FOOTER: 0x7e,
} as const;

/** Commands, be16, after QEMU_VM.COMMAND. */
export const MIG_CMD = {
  OPEN_RETURN_PATH: 1,
  PING: 2,
  POSTCOPY_ADVISE: 3,
  POSTCOPY_LISTEN: 4,
  POSTCOPY_RUN: 5,
  POSTCOPY_RAM_DISCARD: 6,
  PACKAGED: 7,
  ENABLE_COLO: 8,
  POSTCOPY_RESUME: 9,
  RECV_BITMAP: 10,
  SWITCHOVER_START: 11,
} as const;

/** Messages on the return path, be16. */
export const MIG_RP_MSG = {
  SHUT: 1,
  PONG: 2,
  /** Wherry's own: the reason, UTF-8 text, before a SHUT with an error. */
  WHERRY_REASON: 0x5752,
  /** Wherry's own: which process the destination is, before its first PONG. */
  WHERRY_PROCESS: 0x5750,
} as const;

/** Flags of a RAM record, in the low bits of its address. */
export const RAM_SAVE_FLAG = {
  ZERO: 0x02,
  MEM_SIZE: 0x04,
  PAGE: 0x08,
  EOS: 0x10,
  CONTINUE: 0x20,
  XBZRLE: 0x40,
  /** RDMA only. */
  HOOK: 0x80,
  COMPRESS_PAGE: 0x100,
  MULTIFD_FLUSH: 0x200,
} as const;
/** Name of the RAM section. */
export const RAM_IDSTR = "ram";
/** Version of the RAM section. */
export const RAM_VERSION = 4;

/** Name of the configuration in a VMDESCRIPTION. */
export const CONFIGURATION = "configuration";
/** Bytes of a move's id. */
export const MOVE_ID_SIZE = 16;

/** Name of Wherry's section with hashes. */
export const INTEGRITY_IDSTR = "wherry/integrity";
/** Version of Wherry's section with hashes. */
export const INTEGRITY_VERSION = 1;

/** First bytes of a connection that asks for the outcome of a move: "WHRY", be32 version, the move's id. */
export const RESOLVE_MAGIC = 0x57485259;
/** Version of the RESOLVE request. */
export const RESOLVE_VERSION = 1;
/** The answer: "WHRY" and one of these bytes. */
export const RESOLVE_ANSWER = { RUNNING: 1, ABANDONED: 2, UNKNOWN: 3 } as const;

/** PING cookie sent once the return path is open. */
export const PING_SETUP = 1;
/** PING cookie sent when all state has been sent. */
export const PING_FINAL = 0x57520001;
