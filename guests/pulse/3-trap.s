# Traps: the handler saves every register in the hart area, so that the interrupted code may hold patterns in
# all of them.

.text
.align 2
trap:
  csrrw tp, sscratch, tp
.irp n, 1,2,3,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
  sd x\n, H_XREGS + \n * 8(tp)
.endr
  csrr t0, sscratch
  sd t0, H_XREGS + 32(tp)
  csrw sscratch, tp
  li sp, H_TRAP_STACK
  add sp, sp, tp
  csrr t0, scause
  bltz t0, 1f
  call exception
  j 5f
1: slli t0, t0, 1
  srli t0, t0, 1
  li t1, 5
  bne t0, t1, 2f
  call tick
  j 5f
2: li t1, 1
  bne t0, t1, 3f
  csrci sip, 2
  call take_ipi
  j 5f
3: li t1, 9
  bne t0, t1, 4f
  call external
  j 5f
4: mv s10, t0
  li s11, 0
  fail text_interrupt
5:
.irp n, 1,2,3,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
  ld x\n, H_XREGS + \n * 8(tp)
.endr
  ld tp, H_XREGS + 32(tp)
  sret

# One interrupt for each deadline: one before the deadline is a doubled tick.
tick:
  addi sp, sp, -16
  sd ra, 0(sp)
  rdtime t0
  ld t1, H_DEADLINE(tp)
  mv s10, t0
  mv s11, t1
  bgeu t0, t1, 1f
  fail text_early
1: ld t2, H_TICKS(tp)
  addi t2, t2, 1
  sd t2, H_TICKS(tp)
  global t3, opt_period
  add a0, t1, t3
  sd a0, H_DEADLINE(tp)
  sd zero, H_LATE(tp)
  call set_timer
  ld ra, 0(sp)
  addi sp, sp, 16
  ret

# A fault is expected only on an arena page without accessed or dirty bit (no Svadu); any other is a failure.
exception:
  csrr t1, stval
  csrr s10, sepc
  mv s11, t1
  li t2, 13
  beq t0, t2, 1f
  li t2, 15
  bne t0, t2, 2f
1: li t2, WINDOW
  bltu t1, t2, 2f
  sub t3, t1, t2
  srli t3, t3, 12
  ld t4, H_PAGES(tp)
  bgeu t3, t4, 2f
  slli t3, t3, 3
  ld t4, H_TABLE(tp)
  add t3, t3, t4
  li t5, 0xc0
  amoor.d t6, t5, (t3)
  and t6, t6, t5
  beq t6, t5, 2f
  sfence.vma t1, zero
  ld t5, H_FAULTS(tp)
  addi t5, t5, 1
  sd t5, H_FAULTS(tp)
  ret
2: csrr a0, scause
  la t0, fail_cause
  sd a0, 0(t0)
  fail text_exception

# Acknowledges the IPI in this hart's mailbox. Interrupts are off. The mailbox may be empty: a hart that has
# just started reads it before it enables interrupts.
take_ipi:
  fence
  ld t0, H_ID(tp)
  slli t0, t0, MAIL_SHIFT
  la t1, mail
  add t0, t0, t1
  ld t2, 0(t0)
  li t3, MAIL_CLAIMED
  bgeu t3, t2, 1f
  fence
  ld s10, 8(t0)
  not s11, t2
  bne s10, s11, 2f
  ld t3, H_IPIS(tp)
  addi t3, t3, 1
  sd t3, H_IPIS(tp)
  fence
  sd zero, 0(t0)
1: ret
2: fail text_ipi_order

# PLIC: the disk and the console belong to the boot hart.
external:
  li t0, PLIC + 0x200004
  ld t1, H_ID(tp)
  slli t1, t1, 13
  add t0, t0, t1
  li t1, 0x1000
  add t0, t0, t1
1: lw t1, 0(t0)
  beqz t1, 4f
  ld t2, H_IRQS(tp)
  addi t2, t2, 1
  sd t2, H_IRQS(tp)
  li t2, UART_IRQ
  beq t1, t2, 2f
  la t2, disk_irq
  ld t3, 0(t2)
  bne t1, t3, 5f
  global t2, disk_regs
  lw t3, 0x60(t2)
  sw t3, 0x64(t2)
  fence
  la t2, disk_event
  li t3, 1
  amoswap.d.aqrl zero, t3, (t2)
  j 3f
2: li t2, UART
  lbu t3, 0(t2)
  la t2, key
  sd t3, 0(t2)
3: sw t1, 0(t0)
  j 1b
4: ret
5: mv s10, t1
  mv s11, t3
  fail text_irq
