# The console: text, the report line, commands, failure and the end. 16550 at 0x10000000, polled for output.

.text
console_init:
  li t0, UART
  li t1, 1
  sb t1, 1(t0)                      # receive interrupt
  li t1, 7
  sb t1, 2(t0)                      # FIFOs
  li t0, PLIC
  li t1, 1
  sw t1, UART_IRQ * 4(t0)
  li a0, UART_IRQ
# a0: PLIC source to enable for the boot hart
irq_enable:
  global t0, boot_hart
  slli t0, t0, 8
  li t1, PLIC + 0x2080
  add t0, t0, t1                    # this hart's S context
  lw t1, 0(t0)
  li t2, 1
  sll t2, t2, a0
  or t1, t1, t2
  sw t1, 0(t0)
  global t0, boot_hart
  slli t0, t0, 13
  li t1, PLIC + 0x201000
  add t0, t0, t1
  sw zero, 0(t0)                    # threshold
  ret

put_newline:
  li a0, '\n'
put_char:                           # a0; clobbers t0 t1
  li t0, UART
1: lbu t1, 5(t0)
  andi t1, t1, 0x20
  beqz t1, 1b
  sb a0, 0(t0)
  ret

put_text:                           # a0: NUL-terminated; clobbers a0 t0 t1 t2 t3
  mv t2, a0
  mv t3, ra
1: lbu a0, 0(t2)
  beqz a0, 2f
  call put_char
  addi t2, t2, 1
  j 1b
2: jr t3

put_decimal:                        # a0: unsigned
  addi sp, sp, -48
  sd ra, 40(sp)
  addi t2, sp, 32
  sb zero, 0(t2)
  li t0, 10
1: remu t1, a0, t0
  addi t1, t1, '0'
  addi t2, t2, -1
  sb t1, 0(t2)
  divu a0, a0, t0
  bnez a0, 1b
  mv a0, t2
  call put_text
  ld ra, 40(sp)
  addi sp, sp, 48
  ret

put_hex:                            # a0, 16 digits
  addi sp, sp, -16
  sd ra, 8(sp)
  mv t3, a0
  li t2, 60
1: srl a0, t3, t2
  andi a0, a0, 15
  addi a0, a0, '0'
  li t0, '9'
  bgeu t0, a0, 2f
  addi a0, a0, 'a' - '0' - 10
2: call put_char
  addi t2, t2, -4
  bgez t2, 1b
  ld ra, 8(sp)
  addi sp, sp, 16
  ret

.macro put name
  la a0, \name
  call put_text
.endm

console_step:
  enter
  la t0, key
  ld s0, 0(t0)
  beqz s0, 3f
  sd zero, 0(t0)
  li t0, 'q'
  bne s0, t0, 1f
  la t0, stopping
  li t1, 1
  sd t1, 0(t0)
  j 5f
1: li t0, 'r'
  beq s0, t0, 4f
  call plant
3: rdtime t0
  global t1, last_report
  global t2, opt_report
  add t1, t1, t2
  bltu t0, t1, 5f
4: rdtime t0
  la t1, last_report
  sd t0, 0(t1)
  call report
5: leave

# s1 = sum of all harts' counts
add_counts:
  li s1, 0
  la t0, harts
  la t1, harts_end
  li t2, HART_SIZE
1: ld t3, H_COUNT(t0)
  add s1, s1, t3
  add t0, t0, t2
  bltu t0, t1, 1b
  ret

# The shared counters lie between the sums of the harts' counts before and after; each hart may be one ahead.
check_counts:
  enter
  call add_counts
  mv s2, s1
  fence
  la t0, shared_amo
  ld s3, 0(t0)
  la t0, shared_lrsc
  ld s4, 0(t0)
  fence
  call add_counts
  global t0, hart_count
  add s1, s1, t0
  mv s10, s3
  mv s11, s2
  bltu s3, s2, 1f
  mv s11, s1
  bltu s1, s3, 1f
  mv s10, s4
  bltu s1, s4, 1f
  mv s11, s2
  bltu s4, s2, 1f
  leave
1: fail text_total

report:
  enter
  call check_counts
  put text_t
  rdtime a0
  call put_decimal
  li s1, 0                          # checksum
  li s2, 0                          # gap
  la s0, harts
1: ld t0, H_STATE(s0)
  beqz t0, 5f
  put text_h
  ld a0, H_ID(s0)
  call put_decimal
  li a0, '='
  call put_char
  ld a0, H_COUNT(s0)
  mv s3, a0
  call put_decimal
  li a0, '/'
  call put_char
  ld a0, H_TICKS(s0)
  call put_decimal
  li a0, '/'
  call put_char
  ld a0, H_IPIS(s0)
  call put_decimal
  ld t0, H_SUM(s0)
  xor s1, s1, t0
  ld t0, H_GAP(s0)
  sd zero, H_GAP(s0)
  bgeu s2, t0, 2f
  mv s2, t0
2: rdtime t1                        # a running hart must advance between reports
  ld t0, H_STALL_COUNT(s0)
  sd s3, H_STALL_COUNT(s0)
  bne t0, s3, 3f
  ld t0, H_STATE(s0)
  li t2, S_RUNNING
  bne t0, t2, 3f
  ld t2, H_STALL_REPORTS(s0)
  addi t2, t2, 1
  sd t2, H_STALL_REPORTS(s0)
  li t3, 20
  bltu t2, t3, 5f
  ld t3, H_STALL_TIME(s0)
  sub t3, t1, t3
  li t2, 30 * SECOND
  bltu t3, t2, 5f
  ld s10, H_ID(s0)
  mv s11, s3
  fail text_stalled
3: sd t1, H_STALL_TIME(s0)
  sd zero, H_STALL_REPORTS(s0)
5: li t0, HART_SIZE
  add s0, s0, t0
  la t0, harts_end
  bltu s0, t0, 1b
  put text_sum
  mv a0, s1
  call put_hex
  put text_disk
  global a0, disk_writes
  call put_decimal
  put text_gap
  li t0, 10
  divu a0, s2, t0
  call put_decimal
  put text_ok
  leave

# Boot hart, at the end: all harts parked, all IPIs acknowledged, all sums exact, all disk blocks as written.
finish:
  la s0, harts
1: call take_ipi
  ld t0, H_STATE(s0)
  li t1, S_RUNNING
  beq t0, t1, 1b
  li t1, S_STARTING
  beq t0, t1, 1b
  li t0, HART_SIZE
  add s0, s0, t0
  la t0, harts_end
  bltu s0, t0, 1b
2: call take_ipi
  la s0, harts
  la s1, harts_end
  li t2, HART_SIZE
  li s10, 0
  li s11, 0
3: ld t0, H_IPIS(s0)
  add s10, s10, t0
  ld t0, H_SENT(s0)
  add s11, s11, t0
  add s0, s0, t2
  bltu s0, s1, 3b
  beq s10, s11, 4f
  global t0, opt_hotplug            # one was sent to a hart that has stopped
  bnez t0, 4f
  rdtime t0
  ld t1, H_LAST(tp)
  sub t0, t0, t1
  li t1, LOST_IPI
  bltu t0, t1, 2b
  fail text_lost_ipi
4: call add_counts
  global s10, shared_amo
  mv s11, s1
  bne s10, s11, 5f
  global s10, shared_lrsc
  beq s10, s11, 6f
5: fail text_total
6: ld t0, H_DEADLINE(tp)            # no more ticks; the disk still needs its interrupt
  li t0, SIE_SEIE
  csrw sie, t0
  csrsi sstatus, SSTATUS_SIE
  call disk_finish
  csrci sstatus, SSTATUS_SIE
  call report
  put text_done                     # its t counts from start_time; in other lines, t is `time` itself
  rdtime a0
  global t0, start_time
  sub a0, a0, t0
  call put_decimal
  li s0, 0
  li s1, 0
  li s2, 0
  li s3, 0
  li s4, 0
  la t0, harts
  la t1, harts_end
  li t2, HART_SIZE
7: ld t3, H_COUNT(t0)
  add s0, s0, t3
  ld t3, H_TICKS(t0)
  add s1, s1, t3
  ld t3, H_IPIS(t0)
  add s2, s2, t3
  ld t3, H_FAULTS(t0)
  add s4, s4, t3
  ld t3, H_MAX_GAP(t0)
  bgeu s3, t3, 8f
  mv s3, t3
8: add t0, t0, t2
  bltu t0, t1, 7b
  put text_count_is
  mv a0, s0
  call put_decimal
  put text_ticks_is
  mv a0, s1
  call put_decimal
  put text_ipis_is
  mv a0, s2
  call put_decimal
  put text_faults_is
  mv a0, s4
  call put_decimal
  put text_hotplug_is
  global a0, hotplug_count
  call put_decimal
  put text_disk
  global a0, disk_writes
  call put_decimal
  put text_maxgap
  li t0, 10
  divu a0, s3, t0
  call put_decimal
  put text_ok
  la t0, released
  li t1, 1
  sd t1, 0(t0)
  fence
  la s0, harts                      # until the others have stopped
9: ld t0, H_STATE(s0)
  li t1, S_PARKED
  bne t0, t1, 10f
  ld a0, H_ID(s0)
  ld t0, H_ID(tp)
  beq a0, t0, 10f
  sbi SBI_HSM, 2
  li t0, 1
  bne a1, t0, 9b
10: li t0, HART_SIZE
  add s0, s0, t0
  la t0, harts_end
  bltu s0, t0, 9b
  li a1, 0
  li t2, 0x5555
power_off:                          # a1: SRST reason, t2: value for the test device
  li a0, 0
  sbi SBI_SRST, 0
  li t0, TEST
  sw t2, 0(t0)
1: wfi
  j 1b

# a0: message, s10: found, s11: expected
failed:
  csrci sstatus, SSTATUS_SIE
  csrw sie, zero
  mv s0, a0
  la t0, fail_lock
  li t1, 1
  amoswap.d.aqrl t1, t1, (t0)
  bnez t1, 1f
  li sp, HART_SIZE
  add sp, sp, tp
  put text_fail
  mv a0, s0
  call put_text
  put text_fail_hart
  ld a0, H_ID(tp)
  call put_decimal
  put text_fail_found
  mv a0, s10
  call put_hex
  put text_fail_expected
  mv a0, s11
  call put_hex
  put text_fail_at
  global a0, fail_cause
  call put_hex
  put text_fail_time
  rdtime a0
  call put_decimal
  call put_newline
  li a1, 1
  li t2, 0x13333
  j power_off
1: wfi
  j 1b

# Commands that plant a fault, to prove that it is detected (s0: the letter).
plant:
  li t0, 'C'
  bne s0, t0, 1f
  ld t1, H_COUNT(tp)
  addi t1, t1, -1
  sd t1, H_COUNT(tp)
1: li t0, 'M'
  bne s0, t0, 2f
  ld t1, H_FRAME0(tp)
  ld t2, 1024(t1)
  xori t2, t2, 16
  sd t2, 1024(t1)
2: li t0, 'T'
  bne s0, t0, 3f
  ld t1, H_DEADLINE(tp)
  li t2, SECOND / 20
  add t1, t1, t2
  sd t1, H_DEADLINE(tp)
3: li t0, 'L'
  bne s0, t0, 4f
  addi sp, sp, -16
  sd ra, 0(sp)
  li a0, -1
  call set_timer
  ld ra, 0(sp)
  addi sp, sp, 16
4: li t0, 'F'
  bne s0, t0, 5f
  fmv.x.d t1, f17
  xori t1, t1, 1
  fmv.d.x f17, t1
5: li t0, 'A'
  bne s0, t0, 6f
  li t1, -100
  la t2, shared_amo
  amoadd.d zero, t1, (t2)
6: li t0, 'D'
  bne s0, t0, 7f
  la t0, disk_generations
  li t1, 256
8: lw t2, 0(t0)
  addi t2, t2, 1
  sw t2, 0(t0)
  addi t0, t0, 4
  addi t1, t1, -1
  bnez t1, 8b
7: li t0, 'I'
  bne s0, t0, 9f
  li t1, 1
  la t0, plant_ipi
  sd t1, 0(t0)
9: ret

.section .rodata
text_hello: .asciz "pulse: harts="
text_hello_mem: .asciz " pages="
text_hello_timer: .asciz " sstc="
text_hello_disk: .asciz " disk-blocks="
text_t: .asciz "pulse: t="
text_h: .asciz " h"
text_sum: .asciz " sum="
text_disk: .asciz " disk="
text_gap: .asciz " gap="
text_ok: .asciz " OK\n"
text_done: .asciz "pulse: done t="
text_count_is: .asciz " count="
text_ticks_is: .asciz " ticks="
text_ipis_is: .asciz " ipis="
text_faults_is: .asciz " faults="
text_hotplug_is: .asciz " restarts="
text_maxgap: .asciz " maxgap="
text_fail: .asciz "\npulse: FAIL "
text_fail_hart: .asciz " hart="
text_fail_found: .asciz " found="
text_fail_expected: .asciz " expected="
text_fail_at: .asciz " at="
text_fail_time: .asciz " t="
text_hsm: .asciz "sbi hart start or stop"
text_suspend: .asciz "sbi hart suspend"
text_hart_id: .asciz "hart started as another"
text_satp: .asciz "satp does not hold"
text_interrupt: .asciz "unexpected interrupt"
text_early: .asciz "early or doubled tick"
text_lost_tick: .asciz "lost tick"
text_tick_count: .asciz "ticks do not match deadlines"
text_exception: .asciz "unexpected exception"
text_ipi_order: .asciz "ipi doubled or out of order"
text_lost_ipi: .asciz "lost ipi"
text_sbi_ipi: .asciz "sbi ipi"
text_irq: .asciz "unexpected external interrupt"
text_count: .asciz "counter"
text_clock: .asciz "clock ran backwards"
text_registers: .asciz "integer register"
text_float: .asciz "floating-point register"
text_arithmetic: .asciz "floating-point arithmetic or fcsr"
text_memory: .asciz "memory"
text_paging: .asciz "page tables"
text_code: .asciz "rewritten code"
text_fence: .asciz "sbi remote fence"
text_total: .asciz "shared total"
text_stalled: .asciz "hart stalled"
text_disk_device: .asciz "disk refused"
text_disk_status: .asciz "disk request status"
text_disk_data: .asciz "disk data"
text_disk_late: .asciz "disk request unanswered"
text_disk_irq: .asciz "lost disk interrupt"
