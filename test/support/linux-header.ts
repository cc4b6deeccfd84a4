/**
 * The header of a Linux Image (Documentation/arch/riscv/boot-image-header.rst), for the assembler: its first
 * instruction jumps to the label `boot`, the image's size is up to the label `image_end`.
 */
export const LINUX_HEADER = `
_start:
  j boot
  nop
  .dword 0x200000               # text offset
  .dword image_end - _start
  .dword 0
  .word 2, 0
  .dword 0
  .ascii "RISCV\\0\\0\\0"
  .ascii "RSC"
  .byte 5
  .word 0
`;
