// Unfinished requests of QEMU's SCSI devices, for example of a disk that stopped the machine on an error.
// Each request is a byte (1: restarted; 2: continued), the command, the host adapter's state of the request,
// and the device's; a byte 0 ends the list. The stream names neither the adapter nor the data direction: they
// are derived from the bytes and the command. Adapters: virtio-scsi, spapr-vscsi, mptsas, and those without
// state.
import type { FieldReader } from "./fields.ts";
import { readLayout } from "./field-layout.ts";
import { elementAhead, readElement } from "./virtio-element.ts";

const COMMAND_SIZE = 16;
/** Commands that send data to the device: SPC-5, SBC-4, MMC-6. */
const TO_DEVICE = new Set([
  0x04, 0x07, 0x0a, 0x15, 0x18, 0x1d, 0x24, 0x2a, 0x2e, 0x2f, 0x30, 0x31, 0x32, 0x38, 0x39, 0x3a, 0x3b, 0x3d,
  0x3f, 0x40, 0x41, 0x42, 0x4c, 0x55, 0x5d, 0x5f, 0x8a, 0x8e, 0x8f, 0x93, 0xa4, 0xaa, 0xae, 0xaf, 0xb0, 0xb1,
  0xb2, 0xb6, 0xbf,
]);
const COMMANDS: Readonly<Record<number, string>> = {
  0x00: "TEST UNIT READY",
  0x08: "READ(6)",
  0x0a: "WRITE(6)",
  0x12: "INQUIRY",
  0x25: "READ CAPACITY(10)",
  0x28: "READ(10)",
  0x2a: "WRITE(10)",
  0x35: "SYNCHRONIZE CACHE(10)",
  0x42: "UNMAP",
  0x88: "READ(16)",
  0x8a: "WRITE(16)",
  0x93: "WRITE SAME(16)",
  0xa8: "READ(12)",
  0xaa: "WRITE(12)",
};
const SECTOR = 512;

/** SRP command in a unit of 256 bytes, after 16 bytes of its queue; the SCSI command is at offset 32. */
const VSCSI =
  "crq:b16 viosrp_iu_buf:b256 qtag:4 active:? data_len:4 writing:? senselen:4 sense:b252 dma_fmt:1 local_desc:2 " +
  "total_desc:2 cdb_offset:2";
const VSCSI_COMMAND_AT = 16 + 32;
/** SCSI I/O request of Fusion-MPT as the guest wrote it, but in the byte order of QEMU's host. */
const MPTSAS =
  "target_id:1 bus:1 chain_offset:1 function:1 cdb_length:1 sense_buffer_length:1 reserved:1 msg_flags:1 " +
  "msg_context:4 lun:b8 control:4 cdb:b16 data_length:4 sense_buffer_low_addr:4";
const MPTSAS_COMMAND_AT = 24;

function adapter(reader: FieldReader, command: Uint8Array): void {
  const opcode = command[0];
  const commandAt = (offset: number): boolean =>
    opcode !== 0 && reader.peek(COMMAND_SIZE, offset)?.every((byte, i) => byte === command[i]) === true;
  if (elementAhead(reader, 4)) {
    reader.group("virtio-scsi", "struct", () => {
      reader.u32("request queue");
      readElement(reader);
    });
  } else if (commandAt(VSCSI_COMMAND_AT)) {
    reader.group("spapr-vscsi", "struct", () => readLayout(reader, VSCSI));
  } else if (commandAt(MPTSAS_COMMAND_AT)) {
    reader.group("mptsas", "struct", () => {
      readLayout(reader, MPTSAS, "little");
      const parts = reader.u32("nsg");
      for (let i = 0; i < parts; i++) {
        reader.group(`sg[${i}]`, "struct", () => readLayout(reader, "base:8 len:8"));
      }
    });
  }
}

function disk(reader: FieldReader, toDevice: boolean, retry: boolean): void {
  const { sector_count = 0, buflen = 0 } = readLayout(reader, "sector:8 sector_count:4 buflen:4");
  if (buflen === 0) return;
  if (toDevice) reader.bytes("data", Math.min(sector_count * SECTOR, buflen));
  else if (!retry) reader.bytes("data", reader.u32("iov_len"));
}

/** Disks that pass commands through to the host. */
function generic(reader: FieldReader, toDevice: boolean): void {
  const length = reader.u32("buflen");
  // QEMU writes the command's own length, which is the same unless the guest's driver is wrong.
  if (length !== 0 && toDevice) reader.bytes("data", length);
}

/** `idstr` of the section distinguishes disks from other devices. Throws EndOfBytes. */
export function readScsiRequests(reader: FieldReader, idstr: string): void {
  for (let i = 0; reader.peek(1)?.[0] !== 0; i++) {
    reader.group(`[${i}]`, "struct", () => {
      const retry = reader.u8("state", (value) => (value === 1n ? "restarted" : "continued")) === 1;
      const opcode = reader.peek(1)?.[0] ?? 0;
      const command = reader.bytes("command", COMMAND_SIZE, COMMANDS[opcode]);
      reader.u32("tag");
      reader.u32("lun");
      adapter(reader, command);
      const toDevice = TO_DEVICE.has(opcode);
      if (idstr.endsWith("scsi-generic")) generic(reader, toDevice);
      else disk(reader, toDevice, retry);
    });
  }
  reader.u8("end");
}
