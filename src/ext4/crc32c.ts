// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78) as ext4 and jbd2 use it: the caller gives the value
// to start from, and nothing is inverted at the end.

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value;
});

/** Continues `crc` over `bytes`. The result is unsigned. */
export function crc32c(crc: number, bytes: Uint8Array): number {
  let value = crc;
  for (let i = 0; i < bytes.length; i++)
    value = (TABLE[(value ^ (bytes[i] as number)) & 0xff] as number) ^ (value >>> 8);
  return value >>> 0;
}
