# Image header, boot hart, the other harts, memory layout.

.text
_start:                             # Linux Image header (Documentation/arch/riscv/boot-image-header)
  j boot
  nop
  .dword 0x200000                   # text offset from the start of RAM
  .dword image_end - BASE
  .dword 0
  .word 2, 0
  .dword 0
  .ascii "RISCV\0\0\0"
  .ascii "RSC"
  .byte 5
  .word 0

boot:
  csrw sie, zero
  mv s0, a0
  mv s1, a1
  la t0, bss_start
  la t1, image_end
1: sd zero, 0(t0)
  addi t0, t0, 8
  bltu t0, t1, 1b
  mv a0, s0
  call hart_area
  mv tp, a0
  sd s0, H_ID(tp)
  li sp, HART_SIZE
  add sp, sp, tp
  csrw sscratch, tp
  la t0, trap
  csrw stvec, t0
  la t0, boot_hart
  sd s0, 0(t0)
  call console_init
  mv a0, s1
  call parse_fdt
  call parse_options
  call find_harts
  mv a0, s1
  call lay_out
  la a0, text_hello
  call put_text
  global a0, hart_count
  call put_decimal
  la a0, text_hello_mem
  call put_text
  ld a0, H_PAGES(tp)
  call put_decimal
  la a0, text_hello_timer
  call put_text
  global a0, use_sstc
  call put_decimal
  call disk_init
  call put_newline
  rdtime t0
  la t1, start_time
  sd t0, 0(t1)
  la t1, last_report
  sd t0, 0(t1)
  li s2, 0                          # start the others
2: mv a0, s2
  call hart_area
  ld t0, H_STATE(a0)
  li t1, S_STOPPED
  bne t0, t1, 3f
  call start_hart
3: addi s2, s2, 1
  li t0, MAX_HARTS
  bltu s2, t0, 2b
  j hart_main

# a0: hart area of a stopped hart. Starts it at hart_entry.
start_hart:
  enter
  mv s0, a0
  li t0, S_STARTING
  sd t0, H_STATE(s0)
  fence
  ld a0, H_ID(s0)
  la a1, hart_entry
  mv a2, s0
  sbi SBI_HSM, 0
  mv s10, a0
  li s11, 0
  beqz a0, 1f
  fail text_hsm
1: leave

# a0: hart id → a0: its area
hart_area:
  la t0, harts
  slli a0, a0, HART_SHIFT
  add a0, a0, t0
  ret

hart_entry:                         # a0: hart id, a1: hart area; MMU and interrupts are off
  csrw sie, zero
  mv tp, a1
  li sp, HART_SIZE
  add sp, sp, tp
  csrw sscratch, tp
  la t0, trap
  csrw stvec, t0
  ld t0, H_ID(tp)
  beq t0, a0, hart_main
  mv s10, a0
  mv s11, t0
  fail text_hart_id

hart_main:
  ld t0, H_SATP(tp)
  sfence.vma
  csrw satp, t0
  sfence.vma
  csrr s10, satp
  mv s11, t0
  beq s10, s11, 1f
  fail text_satp
1: li t0, SSTATUS_FS
  csrs sstatus, t0
  call float_init
  ld t0, H_SUSPENDED(tp)
  beqz t0, 2f
  sd zero, H_SUSPENDED(tp)          # the timer keeps its deadline
  ld a0, H_DEADLINE(tp)
  call set_timer
  j 3f
2: call timer_init
  rdtime t0
  sd t0, H_LAST(tp)
  li t0, S_RUNNING
  fence
  sd t0, H_STATE(tp)
3: call take_ipi
  li t0, SIE_SSIE | SIE_STIE | SIE_SEIE
  csrw sie, t0
  csrsi sstatus, SSTATUS_SIE
  j work

# The first deadline is one period from now; a hart that resumes keeps its own grid of deadlines.
timer_init:
  addi sp, sp, -16
  sd ra, 0(sp)
  global t3, opt_period
  rdtime t0
  ld t1, H_FIRST(tp)
  bnez t1, 1f
  add t1, t0, t3
  sd t1, H_FIRST(tp)
  sd t1, H_DEADLINE(tp)
1: ld t2, H_DEADLINE(tp)
2: bgtu t2, t0, 3f
  add t2, t2, t3
  ld t4, H_SKIPPED(tp)
  addi t4, t4, 1
  sd t4, H_SKIPPED(tp)
  j 2b
3: sd t2, H_DEADLINE(tp)
  mv a0, t2
  call set_timer
  ld ra, 0(sp)
  addi sp, sp, 16
  ret

# a0: time of the next interrupt
set_timer:
  global t0, use_sstc
  beqz t0, 1f
  csrw stimecmp, a0
  ret
1: sbi SBI_TIME, 0
  ret

# Finds the harts: those whose HSM status is not an error.
find_harts:
  enter
  global s3, opt_harts
  li s0, 0
  li s1, 0
1: mv a0, s0
  call hart_area
  mv s2, a0
  sd s0, H_ID(s2)
  li t0, -1
  sd t0, H_INVERSE(s2)
  la t0, boot_hart
  ld t0, 0(t0)
  bne t0, s0, 2f
  li t1, S_STARTING
  sd t1, H_STATE(s2)
  j 3f
2: bgeu s0, s3, 4f
  mv a0, s0
  sbi SBI_HSM, 2
  bnez a0, 4f
  li t1, S_STOPPED
  sd t1, H_STATE(s2)
3: addi s1, s1, 1
4: addi s0, s0, 1
  li t0, MAX_HARTS
  bltu s0, t0, 1b
  la t0, hart_count
  sd s1, 0(t0)
  leave

# Allocates each hart's arena after the image: generations, page tables, pages. a0: device tree (not
# overwritten if it is after the image). The requested size is reduced to the available memory.
lay_out:
  enter
  la s0, image_end
  li t0, PAGE - 1
  add s0, s0, t0
  not t0, t0
  and s0, s0, t0
  global t1, ram_end
  bltu a0, s0, 1f
  bgeu a0, t1, 1f
  and t1, a0, t0
1: sub t1, t1, s0                   # bytes for all harts
  srli t1, t1, 12
  global t2, hart_count
  divu t1, t1, t2                   # pages for each hart
  srli t2, t1, 6                    # minus room for tables and generations
  sub t1, t1, t2
  addi t1, t1, -8
  global s1, opt_mem                # MiB for each hart
  slli s1, s1, 8
  bgeu t1, s1, 2f
  mv s1, t1
2: li t0, 0x40000
  bgeu t0, s1, 3f
  mv s1, t0
3: li s2, 0                         # hart
4: mv a0, s2
  call hart_area
  mv s3, a0
  ld t0, H_STATE(s3)
  beqz t0, 8f
  sd s1, H_PAGES(s3)
  sd s0, H_GENERATIONS(s3)
  slli t0, s1, 2
  add s0, s0, t0
  li t0, PAGE - 1
  add s0, s0, t0
  not t0, t0
  and s0, s0, t0
  mv s4, s0                         # root table
  mv s5, s0
  li t0, PAGE
  add s0, s0, t0
  mv t3, s0                         # middle table
  add s0, s0, t0
  sd s0, H_TABLE(s3)
  mv t4, s0
  addi t1, s1, 511
  srli t1, t1, 9
  slli t1, t1, 12
  add s0, s0, t1
  ld t1, H_GENERATIONS(s3)          # clear generations and tables
5: sd zero, 0(t1)
  addi t1, t1, 8
  bltu t1, s0, 5b
  sd s0, H_FRAME0(s3)
  li t0, 0xc7                       # gigapages, identity: D A W R V devices, + X and four of RAM
  sd t0, 0(s4)
  li t1, 0x200000cf
  sd t1, 16(s4)
  li t2, 0x10000000
  add t1, t1, t2
  sd t1, 24(s4)
  add t1, t1, t2
  sd t1, 32(s4)
  add t1, t1, t2
  sd t1, 40(s4)
  srli t0, t3, 2                    # the window
  ori t0, t0, 1
  li t1, (WINDOW >> 30) * 8
  add t1, t1, s4
  sd t0, 0(t1)
  ld t1, H_TABLE(s3)
  mv t2, s0
6: bgeu t1, t2, 7f
  srli t0, t1, 2
  ori t0, t0, 1
  sd t0, 0(t3)
  addi t3, t3, 8
  li t0, PAGE
  add t1, t1, t0
  j 6b
7: li t1, 0                         # the pages
9: bgeu t1, s1, 10f
  srli t0, s0, 2
  ori t0, t0, 0xc7
  sd t0, 0(t4)
  addi t4, t4, 8
  addi t1, t1, 1
  li t0, PAGE
  add s0, s0, t0
  j 9b
10: srli t0, s4, 12
  li t1, 8 << 60
  or t0, t0, t1
  sd t0, H_SATP(s3)
8: addi s2, s2, 1
  li t0, MAX_HARTS
  bltu s2, t0, 4b
  leave
