// Sections without a description in any stream (QEMU's old-style handlers), and a few that lack it only if
// the VMDESCRIPTION is suppressed. libslirp writes its own part (src/state.c and bootp.h).
import type { FieldReader } from "./fields.ts";
import { readLayout, table } from "./field-layout.ts";
import { readEarlyMem } from "./virtio-bodies.ts";
import { isVirtioType, virtioType } from "./virtio-devices.ts";
import { readGpu } from "./virtio-gpu.ts";
import { readVirtio, type VirtioContext } from "./virtio-section.ts";

type Whole = (reader: FieldReader, context: VirtioContext) => void;

const BOOTP_CLIENTS = 16;
/** End mark of the sockets, ip_id, and the table of DHCP clients. */
const SLIRP_SIZE = 1 + 2 + BOOTP_CLIENTS * 8;

/** Open connections to programs of the host, if any, come first, in libslirp's own layout. */
const slirp: Whole = (reader) => {
  if (reader.remaining > SLIRP_SIZE) {
    reader.bytes("sockets", reader.remaining - SLIRP_SIZE, "open guestfwd connections", "slirp sockets");
  }
  reader.u8("end of sockets");
  reader.u16("ip_id");
  reader.group("bootp_clients", "array", () => {
    for (let i = 0; i < BOOTP_CLIENTS; i++) {
      reader.group(`[${i}]`, "struct", () => readLayout(reader, "allocated:2 macaddr:b6"));
    }
  });
};

/** The TOD clock of s390: 72 bits. */
const todclock: Whole = (reader) => {
  if (reader.u8("present") !== 0) readLayout(reader, "high:1 low:8");
};

const SKEYS_FLAGS = 0xfffn;
const SKEYS = 2n;

/**
 * Storage keys of s390, one byte per page: runs with their address, whose low bits give the type of the run.
 */
const skeys: Whole = (reader) => {
  for (let i = 0; ; i++) {
    const head = reader.u64(`address[${i}]`, (value) =>
      (value & SKEYS_FLAGS) === 1n ? "end" : (value & SKEYS) !== 0n ? "keys" : undefined,
    );
    if ((head & SKEYS) === 0n) return;
    const pages = reader.u64(`pages[${i}]`);
    reader.bytes(`keys[${i}]`, Number(pages));
  }
};

const globalstate: Whole = (reader) =>
  void readLayout(reader, "size:4 runstate:b32 has_vm_was_suspended:? vm_was_suspended:? unused:b66");

const WHOLE = table<Whole>({
  slirp,
  todclock,
  "s390-skeys": skeys,
  globalstate,
  timer: (reader) => void readLayout(reader, "cpu_ticks_offset:8 unused:b8 cpu_clock_offset:8"),
});

const virtio: Whole = (reader, context) => {
  readVirtio(reader, context);
  if (reader.remaining > 0 && context.idstr.endsWith("virtio-gpu")) readGpu(reader);
};

/** Reader of a section by its name; undefined if unknown. */
export function wholeSection(idstr: string): Whole | undefined {
  const name = idstr.slice(idstr.lastIndexOf("/") + 1);
  if (name === "virtio-mem-device-early") return readEarlyMem;
  return (
    WHOLE.get(idstr) ?? (/^(virtio|vhost)-/.test(name) && isVirtioType(virtioType(name)) ? virtio : undefined)
  );
}
