# The main loop of every hart: count, check the clock, and check all memory and registers.

.text
work:
  ld s0, H_COUNT(tp)
  global s1, boot_hart
  ld t0, H_ID(tp)
  sub s1, s1, t0                    # 0 on the boot hart
iterate:
  ld t0, H_COUNT(tp)
  ld t1, H_INVERSE(tp)
  mv s10, t0
  mv s11, s0
  bne t0, s0, 1f
  not s10, t1
  beq s10, s0, 2f
1: fail text_count
2: la t0, shared_amo
  li t1, 1
  amoadd.d.aqrl zero, t1, (t0)
  la t0, shared_lrsc
3: lr.d.aq t1, (t0)
  addi t1, t1, 1
  sc.d.rl t2, t1, (t0)
  bnez t2, 3b
  fence
  addi s0, s0, 1
  sd s0, H_COUNT(tp)
  not t1, s0
  sd t1, H_INVERSE(tp)
  call clock_step
  call x_step
  call float_step
  call memory_step
  andi t0, s0, 15
  bnez t0, 4f
  call code_step
  call paging_step
4: ld t0, H_TICKS(tp)
  ld t1, H_SEEN_TICKS(tp)
  beq t0, t1, 5f
  sd t0, H_SEEN_TICKS(tp)
  global t1, opt_rate
  sd t1, H_BUDGET(tp)
  la t1, disk_budget
  global t2, opt_io
  sd t2, 0(t1)
  andi t0, t0, 63
  bnez t0, 5f
  call fence_step
5: call ipi_step
  bnez s1, 6f
  call disk_step
  call console_step
  call hotplug_step
6: global t0, stopping
  beqz t0, 7f
  tail park
7:
  ld t0, H_WANT_STOP(tp)
  bnez t0, stop_self
  call suspend_step                 # last, since it may resume at hart_entry
  j iterate

stop_self:                          # until the boot hart starts this hart again
  csrci sstatus, SSTATUS_SIE
  csrw sie, zero
  li t0, S_STOPPED
  sd zero, H_WANT_STOP(tp)
  fence
  sd t0, H_STATE(tp)
  csrw satp, zero
  sbi SBI_HSM, 1
  mv s10, a0
  li s11, 0
  fail text_hsm

# Time never runs backwards, on one hart or between harts, and no tick is lost.
clock_step:
  la t0, shared_time
  ld t1, 0(t0)
  fence
  rdtime t2
  mv s10, t2
  mv s11, t1
  addi t3, t2, CLOCK_SKEW
  bltu t3, t1, 4f
  amomaxu.d.aqrl zero, t2, (t0)
  ld t3, H_LAST(tp)
  mv s11, t3
  bltu t2, t3, 4f
  sd t2, H_LAST(tp)
  sub t3, t2, t3
  ld t4, H_GAP(tp)
  bgeu t4, t3, 1f
  sd t3, H_GAP(tp)
1: ld t4, H_MAX_GAP(tp)
  bgeu t4, t3, 2f
  sd t3, H_MAX_GAP(tp)
2: ld t4, H_DEADLINE(tp)
  bltu t2, t4, 3f
  ld t5, H_LATE(tp)
  addi t5, t5, 1
  sd t5, H_LATE(tp)
  li t6, LATE_ITERATIONS
  bltu t5, t6, 3f
  sub t3, t2, t4
  li t6, LOST_TICK
  bltu t3, t6, 3f
  mv s11, t4
  fail text_lost_tick
3: ret
4: fail text_clock

# Holds a pattern in every integer register but tp for some time (in idle mode: over a wfi), then compares.
x_step:
  sd ra, H_XSAVE(tp)
  sd sp, H_XSAVE + 8(tp)
  sd s0, H_XSAVE + 16(tp)
  sd s1, H_XSAVE + 24(tp)
  ld t0, H_ID(tp)
  slli t0, t0, 48
  xor x1, t0, s0
  li x2, GOLDEN
  mul x1, x1, x2
  la x30, opt_idle
  ld x31, 0(x30)
  la x30, opt_spin
  ld x30, 0(x30)
.irp n, 2,3,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29
  slli x\n, x1, \n * 2
  xori x\n, x\n, \n * 37
.endr
  beqz x31, 1f
  wfi
  li x30, 1
1: addi x30, x30, -1
  bnez x30, 1b
.irp n, 1,2,3,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29
  sd x\n, H_XCHECK + \n * 8(tp)
.endr
  ld ra, H_XSAVE(tp)
  ld sp, H_XSAVE + 8(tp)
  ld s0, H_XSAVE + 16(tp)
  ld s1, H_XSAVE + 24(tp)
  ld t0, H_ID(tp)
  slli t0, t0, 48
  xor t0, t0, s0
  li t1, GOLDEN
  mul t0, t0, t1
  ld t1, H_XCHECK + 8(tp)
  mv s10, t1
  mv s11, t0
  bne t0, t1, 2f
.irp n, 2,3,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29
  slli s11, t0, \n * 2
  xori s11, s11, \n * 37
  ld s10, H_XCHECK + \n * 8(tp)
  bne s10, s11, 2f
.endr
  ret
2: fail text_registers

# a0 = first pattern of this hart's epoch in H_FLOAT_EPOCH, t6 = LCG_A, t5 = LCG_C
float_seed:
  ld a0, H_ID(tp)
  addi a0, a0, 1
  li t6, GOLDEN
  mul a0, a0, t6
  ld t5, H_FLOAT_EPOCH(tp)
  li t6, LCG_A
  mul t5, t5, t6
  xor a0, a0, t5
  li t5, LCG_C
  ret

# Exact arithmetic (independent of the rounding mode, raises no flag), then patterns in f0..f31 and fcsr.
float_step:
  addi sp, sp, -16
  sd ra, 0(sp)
  call float_seed
.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
  mul a0, a0, t6
  add a0, a0, t5
  fmv.x.d s10, f\n
  bne s10, a0, 1f
.endr
  j 2f
1: mv s11, a0
  fail text_float
2: ld t0, H_FLOAT_EPOCH(tp)
  slli t1, t0, 44
  srli t1, t1, 44
  ori t1, t1, 1
  mul t2, t1, t1
  add t3, t2, t1
  fcvt.d.l f0, t1
  fmul.d f1, f0, f0
  fsqrt.d f2, f1
  fmadd.d f3, f0, f0, f0
  fdiv.d f4, f1, f0
  fcvt.l.d s10, f2
  mv s11, t1
  bne s10, s11, 3f
  fcvt.l.d s10, f3
  mv s11, t3
  bne s10, s11, 3f
  fcvt.l.d s10, f4
  mv s11, t1
  bne s10, s11, 3f
  fcvt.l.d s10, f1
  mv s11, t2
  bne s10, s11, 3f
  frcsr s10
  ld s11, H_FCSR(tp)
  bne s10, s11, 3f
  addi t0, t0, 1
  sd t0, H_FLOAT_EPOCH(tp)
  call float_init
  ld ra, 0(sp)
  addi sp, sp, 16
  ret
3: fail text_arithmetic

float_init:
  addi sp, sp, -16
  sd ra, 0(sp)
  call float_seed
.irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
  mul a0, a0, t6
  add a0, a0, t5
  fmv.d.x f\n, a0
.endr
  ld t0, H_FLOAT_EPOCH(tp)
  andi t1, t0, 31
  li t2, 5
  remu t0, t0, t2
  slli t0, t0, 5
  or t0, t0, t1
  sd t0, H_FCSR(tp)
  fscsr t0
  ld ra, 0(sp)
  addi sp, sp, 16
  ret

# a0: index of a page in the window → a0: its address, a1: seed of its frame's contents, a2: address of the
# frame's generation, a3: generation
page_of:
  slli t0, a0, 3
  ld t1, H_TABLE(tp)
  add t0, t0, t1
  ld t0, 0(t0)
  srli t0, t0, 10
  ld t1, H_FRAME0(tp)
  srli t1, t1, 12
  sub t0, t0, t1
  ld a2, H_GENERATIONS(tp)
  slli t1, t0, 2
  add a2, a2, t1
  lwu a3, 0(a2)
  slli a0, a0, 12
  li t1, WINDOW
  add a0, a0, t1
  slli a1, t0, 32
page_seed:                          # a1: frame << 32, a3: generation → a1: seed
  ld t1, H_ID(tp)
  slli t1, t1, 56
  xor a1, a1, t1
  xor a1, a1, a3
  li t1, GOLDEN
  mul a1, a1, t1
  ret

# a0: 4 KiB, a1: seed, a4: message. Compares with the seed's sequence.
check_page:
  li t2, PAGE
  add t2, t2, a0
  li t3, LCG_A
  li t4, LCG_C
1: ld t0, 0(a0)
  bne t0, a1, 2f
  mul a1, a1, t3
  add a1, a1, t4
  addi a0, a0, 8
  bltu a0, t2, 1b
  ret
2: mv s10, t0
  mv s11, a1
  la t0, fail_cause
  sd a0, 0(t0)
  mv a0, a4
  tail failed

# a0: 4 KiB, a1: seed → a0: the next word of the sequence
fill_page:
  li t2, PAGE
  add t2, t2, a0
  li t3, LCG_A
  li t4, LCG_C
1: sd a1, 0(a0)
  mul a1, a1, t3
  add a1, a1, t4
  addi a0, a0, 8
  bltu a0, t2, 1b
  mv a0, a1
  ret

# Checks the next page and fills it with the next generation, within this tick's budget.
memory_step:
  enter
  global t0, opt_rate
  beqz t0, 1f
  ld t1, H_BUDGET(tp)
  beqz t1, 4f
  addi t1, t1, -1
  sd t1, H_BUDGET(tp)
1: ld s0, H_PAGE(tp)
  ld t0, H_PAGES(tp)
  beqz t0, 4f
  bltu s0, t0, 2f
  li s0, 0
2: addi t0, s0, 1
  sd t0, H_PAGE(tp)
  mv a0, s0
  call page_of
  mv s1, a0
  mv s2, a2
  mv s3, a3
  beqz a3, 3f
  la a4, text_memory
  call check_page
3: addi t0, s3, 1
  sw t0, 0(s2)
  mv a0, s0
  call page_of
  mv a0, s1
  call fill_page
  ld t0, H_SUM(tp)
  slli t1, t0, 5
  sub t0, t1, t0
  add t0, t0, a0
  sd t0, H_SUM(tp)
4: leave

# Swaps two pages of the window, clears their accessed and dirty bits, and checks that the swap is visible.
paging_step:
  enter
  ld t0, H_PAGES(tp)
  li t1, 2
  bltu t0, t1, 3f
  ld s0, H_PAGE(tp)
  remu s0, s0, t0
  ld t1, H_COUNT(tp)
  li t2, GOLDEN
  mul t1, t1, t2
  srli t1, t1, 20
  remu s1, t1, t0
  ld t0, H_TABLE(tp)
  slli t1, s0, 3
  add t1, t1, t0
  slli t2, s1, 3
  add t2, t2, t0
  ld t3, 0(t1)
  ld t4, 0(t2)
  andi t3, t3, ~0xc0
  andi t4, t4, ~0xc0
  sd t4, 0(t1)
  sd t3, 0(t2)
  li t0, WINDOW
  slli t1, s0, 12
  add t1, t1, t0
  sfence.vma t1, zero
  slli t1, s1, 12
  add t1, t1, t0
  sfence.vma t1, zero
  mv a0, s0
  call 1f
  mv a0, s1
  call 1f
  j 3f
1: mv s2, ra
  call page_of
  beqz a3, 2f
  ld s10, 0(a0)
  mv s11, a1
  beq s10, s11, 2f
  fail text_paging
2: jr s2
3: leave

# Rewrites a function and calls it.
code_step:
  addi sp, sp, -16
  sd ra, 0(sp)
  ld t0, H_COUNT(tp)
  srli t0, t0, 4
  andi s11, t0, 0x7ff
  slli t1, s11, 20
  ori t1, t1, 0x513                 # addi a0, zero, s11
  sw t1, H_CODE(tp)
  li t1, 0x8067                     # ret
  sw t1, H_CODE + 4(tp)
  fence.i
  addi t0, tp, H_CODE
  jalr t0
  mv s10, a0
  beq s10, s11, 1f
  fail text_code
1: ld ra, 0(sp)
  addi sp, sp, 16
  ret

# Remote fences to all harts. Not while a hart is being stopped: OpenSBI 1.1 then waits for its reply forever.
fence_step:
  addi sp, sp, -16
  sd ra, 0(sp)
  la t0, harts_lock
  li t1, 1
  amoswap.d.aq t1, t1, (t0)
  bnez t1, 2f
  li a0, 0
  li a1, -1
  sbi SBI_RFENCE, 0
  bnez a0, 1f
  li a0, 0
  li a1, -1
  li a2, WINDOW
  li a3, 16 * PAGE
  sbi SBI_RFENCE, 1
  bnez a0, 1f
  la t0, harts_lock
  amoswap.d.rl zero, zero, (t0)
2: ld ra, 0(sp)
  addi sp, sp, 16
  ret
1: mv s10, a0
  li s11, 0
  fail text_fence

# Once for each tick, after the last IPI was acknowledged: an IPI to the next running hart. A mailbox holds
# one IPI, so that a later IPI cannot hide the loss of an earlier one.
ipi_step:
  enter
  ld s0, H_TARGET(tp)
  call mailbox
  ld t0, H_TOKEN(tp)
  beqz t0, 1f
  ld t1, 0(s2)
  mv s10, t1
  mv s11, t0
  sd zero, H_TOKEN(tp)
  bne t0, t1, 1f
  sd t0, H_TOKEN(tp)
  ld t2, H_IPI_LATE(tp)
  addi t2, t2, 1
  sd t2, H_IPI_LATE(tp)
  li t3, LATE_ITERATIONS
  bltu t2, t3, 3f
  rdtime t2
  ld t3, H_IPI_TIME(tp)
  sub t2, t2, t3
  li t3, LOST_IPI
  bltu t2, t3, 3f
  slli t0, s0, HART_SHIFT           # a hart that has stopped acknowledges when it runs again
  la t1, harts
  add t0, t0, t1
  ld t0, H_STATE(t0)
  li t1, S_RUNNING
  bne t0, t1, 3f
  fail text_lost_ipi
1: ld t0, H_SEEN_TICKS(tp)
  ld t1, H_SENT(tp)
  bgeu t1, t0, 3f
2: addi s0, s0, 1
  andi s0, s0, MAX_HARTS - 1
  slli t0, s0, HART_SHIFT
  la t1, harts
  add t0, t0, t1
  ld t0, H_STATE(t0)
  li t1, S_RUNNING
  bne t0, t1, 2b
  sd s0, H_TARGET(tp)
  call mailbox
  ld t0, H_SENT(tp)
  addi t0, t0, 1
  slli t1, t0, 8                    # the token: a count and the sender, never 0 or MAIL_CLAIMED
  ld t2, H_ID(tp)
  add t1, t1, t2
4: lr.d.aq t2, (s2)
  bnez t2, 3f                       # holds another hart's IPI
  li t3, MAIL_CLAIMED
  sc.d t2, t3, (s2)
  bnez t2, 4b
  not t2, t1
  sd t2, 8(s2)
  fence
  sd t1, 0(s2)
  sd t0, H_SENT(tp)
  sd t1, H_TOKEN(tp)
  rdtime t1
  sd t1, H_IPI_TIME(tp)
  sd zero, H_IPI_LATE(tp)
  fence
  la t0, plant_ipi
  ld t1, 0(t0)
  sd zero, 0(t0)
  bnez t1, 3f
  li a0, 1
  sll a0, a0, s0
  li a1, 0
  sbi SBI_IPI, 0
  mv s10, a0
  li s11, 0
  beqz a0, 3f
  fail text_sbi_ipi
3: leave

# s0: hart → s2: its mailbox: token, complement
mailbox:
  slli t0, s0, MAIL_SHIFT
  la s2, mail
  add s2, s2, t0
  ret

# pulse.suspend=1: a retentive suspend; 2: a non-retentive suspend, from which the hart resumes at hart_entry.
suspend_step:
  global t0, opt_suspend
  beqz t0, 2f
  li a0, 0
  la a1, hart_entry
  mv a2, tp
  addi t0, t0, -1
  beqz t0, 1f
  li a0, 0x80000000
  sd t0, H_SUSPENDED(tp)
  csrci sstatus, SSTATUS_SIE
1: sbi SBI_HSM, 3
  mv s10, a0
  li s11, 0
  beq s10, s11, 2f
  fail text_suspend
2: ret

# pulse.hotplug=N: every N ticks the next hart stops itself and is started again.
hotplug_step:
  enter
  global t0, opt_hotplug
  beqz t0, 9f
  la s0, hotplug_hart
  ld s1, 0(s0)
  beqz s1, 2f
  ld t0, H_STATE(s1)                # a hart is stopping
  li t1, S_STOPPED
  bne t0, t1, 9f
  ld a0, H_ID(s1)
  sbi SBI_HSM, 2
  li t0, 1
  bne a1, t0, 9f
  mv a0, s1
  call start_hart
  sd zero, 0(s0)
  la t0, harts_lock
  amoswap.d.rl zero, zero, (t0)
  la t0, hotplug_count
  ld t1, 0(t0)
  addi t1, t1, 1
  sd t1, 0(t0)
  j 9f
2: ld t1, H_TICKS(tp)
  la t2, hotplug_time
  ld t3, 0(t2)
  bltu t1, t3, 9f
  la t4, harts_lock
  li t5, 1
  amoswap.d.aq t5, t5, (t4)
  bnez t5, 9f
  add t1, t1, t0
  sd t1, 0(t2)
  li s2, MAX_HARTS
3: beqz s2, 4f
  addi s2, s2, -1
  la t2, hotplug_next
  ld a0, 0(t2)
  addi a0, a0, 1
  andi a0, a0, MAX_HARTS - 1
  sd a0, 0(t2)
  ld t0, H_ID(tp)
  beq t0, a0, 3b
  call hart_area
  ld t0, H_STATE(a0)
  li t1, S_RUNNING
  bne t0, t1, 3b
  sd a0, 0(s0)
  li t0, 1
  sd t0, H_WANT_STOP(a0)
  j 9f
4: la t0, harts_lock
  amoswap.d.rl zero, zero, (t0)
9: leave

# The end: every hart checks all its memory again; the boot hart waits for all, and compares the sums.
park:
  csrci sstatus, SSTATUS_SIE
  rdtime s10
  ld t0, H_DEADLINE(tp)
  li t1, LOST_TICK
  add t1, t1, t0
  mv s11, t0
  bltu s10, t1, 1f
  fail text_lost_tick
1: global t1, opt_period
  ld t2, H_TICKS(tp)
  ld t3, H_SKIPPED(tp)
  add t2, t2, t3
  mul t1, t1, t2
  ld t2, H_FIRST(tp)
  add s11, t1, t2
  mv s10, t0
  beq s10, s11, 2f
  fail text_tick_count
2: li s2, 0
3: ld t0, H_PAGES(tp)
  bgeu s2, t0, 5f
  mv a0, s2
  call page_of
  beqz a3, 4f
  la a4, text_memory
  call check_page
4: addi s2, s2, 1
  j 3b
5: li t0, S_PARKED
  fence
  sd t0, H_STATE(tp)
  bnez s1, 6f
  tail finish
6: call take_ipi                   # secondary harts acknowledge IPIs until they are released
  global t0, released
  beqz t0, 6b
  csrw sie, zero
  csrw satp, zero
  sbi SBI_HSM, 1
7: wfi
  j 7b
