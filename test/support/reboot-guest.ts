// A guest that shows what a reset boots: at each start it prints its letter, the first byte of its ramdisk
// and how often the word in its image was changed since the image was loaded. Keys: `r` resets the machine,
// `t` prints "." and overwrites its own header and the ramdisk, as a guest that uses all memory would.
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { LINUX_HEADER } from "./linux-header.ts";

export const REBOOT_KERNEL_AT = 0x80200000;
/** Where the ramdisk is in a machine of 16 MiB. */
const INITRD = REBOOT_KERNEL_AT + (8 << 20);

/** A Linux Image whose letter is `letter`. */
export function rebootKernel(letter: string): Uint8Array<ArrayBuffer> {
  const text = `
${LINUX_HEADER}count: .word 0x30
boot:
  bnez a0, park
  li s0, 0x10000000             # UART
  li a0, ${letter.charCodeAt(0)}
  jal put
  li t0, ${INITRD}
  lbu a0, 0(t0)
  jal put
  la t0, count
  lw a0, 0(t0)
  addi t1, a0, 1
  sw t1, 0(t0)
  jal put
  li a0, 10
  jal put
next:
  lbu t0, 5(s0)
  andi t0, t0, 1
  beqz t0, next
  lbu t0, 0(s0)
  li t1, 0x72                   # r
  beq t0, t1, reset
  li t1, 0x74                   # t
  bne t0, t1, next
  la t0, _start
  sd zero, 0(t0)
  li t0, ${INITRD}
  sd zero, 0(t0)
  li a0, 0x2e
  jal put
  j next
reset:
  li t0, 0x100000               # the test device
  li t1, 0x7777
  sw t1, 0(t0)
park:
  wfi
  j park
put:
  lbu t0, 5(s0)
  andi t0, t0, 0x20
  beqz t0, put
  sb a0, 0(s0)
  ret
image_end:
`;
  return flatBinary(assemble([{ name: "reboot", text }], { base: BigInt(REBOOT_KERNEL_AT) }));
}

/** Firmware for M-mode: all harts jump to the next stage of fw_dynamic_info, in M-mode. */
export function jumpFirmware(): Uint8Array<ArrayBuffer> {
  const text = `
_start:
  ld t0, 16(a2)
  jr t0
`;
  return flatBinary(assemble([{ name: "jump", text }], { base: 0x80000000n }));
}
