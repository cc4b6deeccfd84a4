// Numbers of QEMU's migration stream (its migration/ and docs/devel/migration; design 04), and Wherry's additions:
// the section wherry/integrity, the move id in the configuration, the RESOLVE exchange, the reason on the return path.

export const QEMU_VM_FILE_MAGIC = 0x5145564d;
export const QEMU_VM_FILE_VERSION = 3;

export const QEMU_VM = {
  EOF: 0x00,
  SECTION_START: 0x01,
  SECTION_PART: 0x02,
  SECTION_END: 0x03,
  SECTION_FULL: 0x04,
  SUBSECTION: 0x05,
  VMDESCRIPTION: 0x06,
  CONFIGURATION: 0x07,
  COMMAND: 0x08,
  SECTION_FOOTER: 0x7e,
} as const;

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

export const MIG_RP_MSG = {
  SHUT: 1,
  PONG: 2,
  /** Wherry's own: UTF-8 text of why a SHUT with an error follows. */
  WHERRY_REASON: 0x5752,
  /** Wherry's own: which process the destination is, before its first PONG. */
  WHERRY_PROCESS: 0x5750,
} as const;

export const RAM_SAVE_FLAG = {
  ZERO: 0x02,
  MEM_SIZE: 0x04,
  PAGE: 0x08,
  EOS: 0x10,
  CONTINUE: 0x20,
  XBZRLE: 0x40,
  /** RDMA's. */
  HOOK: 0x80,
  COMPRESS_PAGE: 0x100,
  MULTIFD_FLUSH: 0x200,
} as const;
export const RAM_SAVE_FLAGS = 0xfff;
export const RAM_IDSTR = "ram";
export const RAM_VERSION = 4;

export const GLOBALSTATE_IDSTR = "globalstate";
/** QEMU's GlobalState.runstate: a zero-terminated string in a field of this size. */
export const GLOBALSTATE_RUNSTATE_SIZE = 100;

export const CONFIGURATION = "configuration";
/** Subsections that QEMU writes where they are not what all its machines have. */
export const PAGE_BITS_SUBSECTION = "configuration/target-page-bits";
export const UUID_SUBSECTION = "configuration/uuid";
export const MOVE_ID_SUBSECTION = "configuration/wherry-move";
export const MOVE_ID_SIZE = 16;

export const INTEGRITY_IDSTR = "wherry/integrity";
export const INTEGRITY_VERSION = 1;

/** First bytes of a connection that asks what became of a move: "WHRY", be32 version, the move id. */
export const RESOLVE_MAGIC = 0x57485259;
export const RESOLVE_VERSION = 1;
/** The answer: "WHRY" and one of these bytes. */
export const RESOLVE_ANSWER = { RUNNING: 1, ABANDONED: 2, UNKNOWN: 3 } as const;

/** PING cookies: once the return path is open, and when all state has been sent. */
export const PING_SETUP = 1;
export const PING_FINAL = 0x57520001;
