# A virtio-blk disk over virtio-mmio, modern or legacy (virtio 1.2, sections 4.2 and 5.2), with four requests
# in flight. Each reads a 4 KiB block, checks it against the generation last written, and writes the next one;
# flushes. A block: "PULSEDSK", its number, its generation, then the sequence of `fill_page`.

.equ SLOTS, 4
.equ SLOT_SHIFT, 6
.equ R_HEADER, 0                    # type, reserved, sector
.equ R_STATUS, 16
.equ R_STATE, 24                    # Q_*
.equ R_BLOCK, 32
.equ R_START, 40
.equ R_LATE, 48
.equ Q_IDLE, 0
.equ Q_READ, 1
.equ Q_WRITE, 2
.equ Q_FLUSH, 3
.equ Q_VERIFY, 4
.equ QUEUE_SIZE, 16
.equ AVAIL, QUEUE_SIZE * 16
.equ USED, 4096
.equ DISK_MAGIC, 0x4b534445534c5550
.equ MAX_BLOCKS, 256
.equ DISK_LATE, 60 * SECOND
.equ DISK_IRQ_LATE, 5 * SECOND

.text
disk_init:
  enter
  put text_hello_disk
  global t0, opt_nodisk
  bnez t0, 8f
  li s0, VIRTIO
  li s1, 1                          # PLIC source
1: lw t0, 0(s0)
  li t1, 0x74726976
  bne t0, t1, 2f
  lw t0, 8(s0)
  li t1, 2
  beq t0, t1, 3f
2: li t0, PAGE
  add s0, s0, t0
  addi s1, s1, 1
  li t0, VIRTIO_SLOTS
  bgeu t0, s1, 1b
  j 8f
3: la t0, disk_regs
  sd s0, 0(t0)
  la t0, disk_irq
  sd s1, 0(t0)
  lw s2, 4(s0)                      # 1: legacy
  sw zero, 0x70(s0)
  li t0, 1
  sw t0, 0x70(s0)
  li t0, 3
  sw t0, 0x70(s0)
  sw zero, 0x14(s0)
  lwu t0, 0x10(s0)
  andi t0, t0, 1 << 9               # VIRTIO_BLK_F_FLUSH
  la t1, disk_flush
  sd t0, 0(t1)
  sw zero, 0x24(s0)
  sw t0, 0x20(s0)
  li t0, 1
  beq s2, t0, 4f
  sw t0, 0x24(s0)                   # VIRTIO_F_VERSION_1
  sw t0, 0x20(s0)
  li t0, 11
  sw t0, 0x70(s0)
  lw s10, 0x70(s0)
  mv s11, t0
  beq s10, s11, 4f
  fail text_disk_device
4: la s3, disk_queue
  sw zero, 0x30(s0)
  lwu s10, 0x34(s0)
  li s11, QUEUE_SIZE
  bgeu s10, s11, 5f
  fail text_disk_device
5: sw s11, 0x38(s0)
  li t0, 1
  bne s2, t0, 6f
  li t0, PAGE
  sw t0, 0x28(s0)
  sw t0, 0x3c(s0)
  srli t0, s3, 12
  sw t0, 0x40(s0)
  li t0, 7
  j 7f
6: sw s3, 0x80(s0)
  sw zero, 0x84(s0)
  addi t0, s3, AVAIL
  sw t0, 0x90(s0)
  sw zero, 0x94(s0)
  li t0, USED
  add t0, t0, s3
  sw t0, 0xa0(s0)
  sw zero, 0xa4(s0)
  li t0, 1
  sw t0, 0x44(s0)
  li t0, 15
7: sw t0, 0x70(s0)
  li t0, PLIC
  slli t1, s1, 2
  add t0, t0, t1
  li t1, 1
  sw t1, 0(t0)
  mv a0, s1
  call irq_enable
  lwu t0, 0x100(s0)                 # capacity in sectors
  lwu t1, 0x104(s0)
  slli t1, t1, 32
  or t0, t0, t1
  srli t0, t0, 3
  global t1, opt_blocks
  minu t0, t0, t1
  li t1, MAX_BLOCKS
  minu t0, t0, t1
  andi t0, t0, -SLOTS
  la t1, disk_blocks
  sd t0, 0(t1)
  li t0, 0
  la t1, disk_slots
9: sd t0, R_BLOCK(t1)
  addi t1, t1, 1 << SLOT_SHIFT
  addi t0, t0, 1
  li t2, SLOTS
  bltu t0, t2, 9b
8: global a0, disk_blocks
  call put_decimal
  leave

# a0: slot number → s0: slot, s1: its number, s2: its buffer
.macro slot_of
  mv s1, a0
  slli t0, a0, SLOT_SHIFT
  la s0, disk_slots
  add s0, s0, t0
  slli t0, a0, 12
  la s2, disk_buffers
  add s2, s2, t0
.endm

# a0: slot number, a1: Q_*. Three descriptors: header, data (none for a flush), status.
submit:
  enter
  slot_of
  sd a1, R_STATE(s0)
  li t1, 0                          # VIRTIO_BLK_T_IN
  li t2, 2                          # the device writes the data
  li t0, Q_READ
  beq a1, t0, 1f
  li t0, Q_VERIFY
  beq a1, t0, 1f
  li t1, 1                          # VIRTIO_BLK_T_OUT
  li t2, 0
  li t0, Q_WRITE
  beq a1, t0, 1f
  li t1, 4                          # VIRTIO_BLK_T_FLUSH
1: sw t1, R_HEADER(s0)
  sw zero, R_HEADER + 4(s0)
  ld t0, R_BLOCK(s0)
  slli t0, t0, 3
  li t3, 4
  bne t1, t3, 2f
  li t0, 0
2: sd t0, R_HEADER + 8(s0)
  li t0, 0xff
  sb t0, R_STATUS(s0)
  rdtime t0
  sd t0, R_START(s0)
  sd zero, R_LATE(s0)
  li t0, 48
  mul t0, t0, s1
  la s3, disk_queue
  add s4, s3, t0                    # descriptors 3 * slot ...
  li t4, 3
  mul t4, t4, s1
  sd s0, 0(s4)
  li t0, 16
  sw t0, 8(s4)
  li t0, 1                          # VIRTQ_DESC_F_NEXT
  sh t0, 12(s4)
  addi t5, t4, 1
  bne t1, t3, 3f
  addi t5, t4, 2
3: sh t5, 14(s4)
  sd s2, 16(s4)
  li t0, PAGE
  sw t0, 24(s4)
  ori t2, t2, 1
  sh t2, 28(s4)
  addi t5, t4, 2
  sh t5, 30(s4)
  addi t0, s0, R_STATUS
  sd t0, 32(s4)
  li t0, 1
  sw t0, 40(s4)
  li t0, 2                          # VIRTQ_DESC_F_WRITE
  sh t0, 44(s4)
  sh zero, 46(s4)
  lhu t0, AVAIL + 2(s3)
  andi t1, t0, QUEUE_SIZE - 1
  slli t1, t1, 1
  add t1, t1, s3
  sh t4, AVAIL + 4(t1)
  fence
  addi t0, t0, 1
  sh t0, AVAIL + 2(s3)
  fence
  global t0, disk_regs
  sw zero, 0x50(t0)
  leave

# s0: slot → a2: address of its block's generation, a3: generation, a1: seed of that
block_of:
  ld t0, R_BLOCK(s0)
  slli t1, t0, 2
  la a2, disk_generations
  add a2, a2, t1
  lwu a3, 0(a2)
block_seed:                         # a3: generation → a1
  ld t0, R_BLOCK(s0)
  slli a1, t0, 32
  xor a1, a1, a3
  li t1, 0xd1 << 56
  xor a1, a1, t1
  li t1, GOLDEN
  mul a1, a1, t1
  ret

# s0, s2: slot and buffer. The contents of a block that was never written are unknown.
check_block:
  addi sp, sp, -16
  sd ra, 0(sp)
  call block_of
  beqz a3, 1f
  ld t0, R_BLOCK(s0)
  ld s10, 0(s2)
  li s11, DISK_MAGIC
  bne s10, s11, 2f
  ld s10, 8(s2)
  mv s11, t0
  bne s10, s11, 2f
  ld s10, 16(s2)
  mv s11, a3
  bne s10, s11, 2f
  li t3, LCG_A
  li t4, LCG_C
  mv t0, a1
  sd t0, 0(s2)
  mul t0, t0, t3
  add t0, t0, t4
  sd t0, 8(s2)
  mul t0, t0, t3
  add t0, t0, t4
  sd t0, 16(s2)
  mv a0, s2
  la a4, text_disk_data
  call check_page
1: ld ra, 0(sp)
  addi sp, sp, 16
  ret
2: fail text_disk_data

# a0: slot number of a completed request
complete:
  enter
  slot_of
  lbu s10, R_STATUS(s0)
  li s11, 0
  beqz s10, 1f
  fail text_disk_status
1: ld s3, R_STATE(s0)
  li t0, Q_READ
  bne s3, t0, 2f
  call check_block
  call block_of
  addi a3, a3, 1
  mv s4, a3
  call block_seed
  mv a0, s2
  call fill_page
  li t0, DISK_MAGIC
  sd t0, 0(s2)
  ld t0, R_BLOCK(s0)
  sd t0, 8(s2)
  sd s4, 16(s2)
  mv a0, s1
  li a1, Q_WRITE
  call submit
  j 9f
2: li t0, Q_WRITE
  bne s3, t0, 4f
  call block_of
  addi a3, a3, 1
  sw a3, 0(a2)
  la t0, disk_writes
  ld t1, 0(t0)
  addi t1, t1, 1
  sd t1, 0(t0)
  ld t0, R_BLOCK(s0)                # the next block of this slot
  addi t0, t0, SLOTS
  global t2, disk_blocks
  bltu t0, t2, 3f
  mv t0, s1
3: sd t0, R_BLOCK(s0)
  andi t1, t1, 15
  bnez t1, 5f
  global t0, disk_flush
  beqz t0, 5f
  mv a0, s1
  li a1, Q_FLUSH
  call submit
  j 9f
4: li t0, Q_VERIFY
  bne s3, t0, 5f
  call check_block
5: sd zero, R_STATE(s0)
9: leave

# Takes completed requests, starts new ones, and checks for late ones.
disk_step:
  enter
  global t0, disk_blocks
  beqz t0, 9f
  la s3, disk_queue
  li t0, USED
  add s4, s3, t0
  la t0, disk_event
  amoswap.d.aqrl t1, zero, (t0)
  global t2, opt_poll
  or t1, t1, t2
  beqz t1, 2f
1: fence
  la s5, disk_seen
  ld t0, 0(s5)
  lhu t1, 2(s4)
  beq t0, t1, 2f
  andi t1, t0, QUEUE_SIZE - 1
  slli t1, t1, 3
  add t1, t1, s4
  lwu a0, 4(t1)
  addi t0, t0, 1
  slli t0, t0, 48
  srli t0, t0, 48
  sd t0, 0(s5)
  li t1, 3
  divu a0, a0, t1
  mv s10, a0
  li s11, SLOTS
  bltu a0, s11, 3f
  fail text_disk_status
3: call complete
  j 1b
2: li s6, 0
4: mv a0, s6
  slot_of
  ld t0, R_STATE(s0)
  beqz t0, 6f
  ld t0, R_LATE(s0)
  addi t0, t0, 1
  sd t0, R_LATE(s0)
  li t1, LATE_ITERATIONS
  bltu t0, t1, 8f
  rdtime s10
  ld s11, R_START(s0)
  sub t0, s10, s11
  li t1, DISK_IRQ_LATE
  bltu t0, t1, 8f
  lhu t2, 2(s4)
  global t3, disk_seen
  bne t2, t3, 5f
  li t1, DISK_LATE
  bltu t0, t1, 8f
  fail text_disk_late
5: global t0, disk_event            # the interrupt may just have come
  bnez t0, 8f
  fail text_disk_irq
6: global t0, stopping
  bnez t0, 8f
  global t0, opt_io
  beqz t0, 7f
  la t0, disk_budget
  ld t1, 0(t0)
  beqz t1, 8f
  addi t1, t1, -1
  sd t1, 0(t0)
7: mv a0, s6
  li a1, Q_READ
  call submit
8: addi s6, s6, 1
  li t0, SLOTS
  bltu s6, t0, 4b
9: leave

# Waits until all requests have completed, then reads every block back.
disk_finish:
  enter
  global t0, disk_blocks
  beqz t0, 9f
  call disk_wait
  li s3, 0
  la s0, disk_slots
1: sd s3, R_BLOCK(s0)
  li a0, 0
  li a1, Q_VERIFY
  call submit
  call disk_wait
  addi s3, s3, 1
  global t0, disk_blocks
  bltu s3, t0, 1b
9: leave

disk_wait:
  enter
1: call disk_step
  la s0, disk_slots
  li s1, SLOTS
2: ld t0, R_STATE(s0)
  bnez t0, 1b
  addi s0, s0, 1 << SLOT_SHIFT
  addi s1, s1, -1
  bnez s1, 2b
  leave
