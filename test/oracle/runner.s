# The guest that runs a batch of random programs, in QEMU and in Wherry (layout:
# ../support/programs/layout.ts). Each program has a slot: it starts from the state in its header, its traps
# are logged and skipped, and its final registers and CSRs are dumped into the slot. It ends with the ebreak
# at `end pc`, or with a fetch fault or too many traps. After the last slot: power off. The handlers find
# their data relative to pc, so the S-mode one also works at its alias (Sv39+).

.equ SLOTS, 0x100000
.equ SLOT_SIZE, 0x20000
.equ DUMP, 0x1000
.equ LOG, 0x400
.equ LOG_RECORD, 64

base:
    csrr  t0, mhartid
    beqz  t0, 2f
1:  wfi
    j     1b
2:
    # No timer interrupt.
    li    t0, 0x2004000
    li    t1, -1
    sd    t1, 0(t0)
    la    t0, slots
    lwu   t0, 0(t0)
    la    t1, remaining
    sd    t0, 0(t1)
    li    t0, SLOTS
    la    t1, current
    sd    t0, 0(t1)
    j     start_slot

.balign 8
# Number of slots, written by the host.
slots:
    .dword 0
remaining:
    .dword 0
# Offset of the running slot from base.
current:
    .dword 0

.balign 16
mtrap:
    csrw  mscratch, x31
    li    x31, 0x20000
    csrc  mstatus, x31
    la    x31, msave
    .irp r, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
    sd    x\r, (8 * \r)(x31)
    .endr
    csrr  x1, mscratch
    sd    x1, (8 * 31)(x31)
    la    x1, base
    la    x3, current
    ld    x3, 0(x3)
    add   x3, x3, x1
    csrr  x5, mcause
    csrr  x6, mepc
    csrr  x7, mtval
    csrr  x8, mstatus
    ld    x10, 8(x3)
    li    x9, 3
    bne   x5, x9, 1f
    beq   x6, x10, finish
1:  li    x13, 0
    jal   x2, log_trap
    bnez  x14, finish
    bltz  x5, 2f
    ld    x9, 0(x3)
    bltu  x6, x9, finish
    bgeu  x6, x10, finish
    mv    x9, x6
    jal   x2, skip
    csrw  mepc, x6
    j     3f
2:  csrw  mie, zero
3:  la    x31, msave
    .irp r, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    ld    x\r, (8 * \r)(x31)
    .endr
    mret

.balign 16
strap:
    csrw  sscratch, x31
    la    x31, ssave
    .irp r, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
    sd    x\r, (8 * \r)(x31)
    .endr
    csrr  x1, sscratch
    sd    x1, (8 * 31)(x31)
    la    x1, base
    la    x3, current
    ld    x3, 0(x3)
    add   x3, x3, x1
    csrr  x5, scause
    csrr  x6, sepc
    csrr  x7, stval
    csrr  x8, sstatus
    ld    x10, 8(x3)
    li    x13, 1
    jal   x2, log_trap
    bnez  x14, 4f
    bltz  x5, 2f
    ld    x9, 0(x3)
    bltu  x6, x9, 4f
    bgeu  x6, x10, 4f
    # The code's address for this handler: in the alias if the handler runs there.
    li    x9, 0x80000000
    sub   x9, x6, x9
    add   x9, x9, x1
    jal   x2, skip
    csrw  sepc, x6
    j     3f
2:  csrw  sie, zero
3:  la    x31, ssave
    .irp r, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    ld    x\r, (8 * \r)(x31)
    .endr
    sret
# Give up: a breakpoint outside the program ends it in mtrap. FS may differ (see batch.ts).
4:  li    x8, 0
    ebreak

# x3 slot, x5 cause, x6 epc, x7 tval, x8 status, x13 mode → x14 non-zero if the log is full.
log_trap:
    li    x12, DUMP + LOG
    add   x12, x3, x12
    ld    x11, 0(x12)
    ld    x14, 0x10(x3)
    sltu  x14, x11, x14
    xori  x14, x14, 1
    bnez  x14, 1f
    addi  x15, x11, 1
    sd    x15, 0(x12)
    li    x15, LOG_RECORD
    mul   x11, x11, x15
    add   x12, x12, x11
    sd    x5, 64(x12)
    sd    x6, 72(x12)
    sd    x7, 80(x12)
    sd    x8, 88(x12)
    sd    x13, 96(x12)
1:  jr    x2

# x6 epc, x9 address to read the code from → x6 pc of the next instruction.
skip:
    lhu   x9, 0(x9)
    andi  x9, x9, 3
    addi  x9, x9, -3
    snez  x9, x9
    slli  x9, x9, 1
    addi  x6, x6, 4
    sub   x6, x6, x9
    jr    x2

# x3 slot; registers are in msave.
finish:
    li    x4, DUMP
    add   x4, x3, x4
    la    x31, msave
    .irp r, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    ld    x5, (8 * \r)(x31)
    sd    x5, (8 * \r)(x4)
    .endr
    csrr  x5, mstatus
    sd    x5, 0x200(x4)
    csrr  x5, sstatus
    sd    x5, 0x208(x4)
    csrr  x5, medeleg
    sd    x5, 0x210(x4)
    csrr  x5, mideleg
    sd    x5, 0x218(x4)
    csrr  x5, mie
    sd    x5, 0x220(x4)
    csrr  x5, mip
    sd    x5, 0x228(x4)
    csrr  x5, mcounteren
    sd    x5, 0x230(x4)
    csrr  x5, menvcfg
    # Without ADUE, which QEMU 7.2 lacks.
    slli  x5, x5, 3
    srli  x5, x5, 3
    sd    x5, 0x238(x4)
    csrr  x5, pmpcfg0
    sd    x5, 0x240(x4)
    csrr  x5, 0x3b1
    sd    x5, 0x248(x4)
    csrr  x5, stvec
    sd    x5, 0x250(x4)
    csrr  x5, sscratch
    sd    x5, 0x258(x4)
    csrr  x5, sepc
    sd    x5, 0x260(x4)
    csrr  x5, scause
    sd    x5, 0x268(x4)
    csrr  x5, stval
    sd    x5, 0x270(x4)
    csrr  x5, satp
    sd    x5, 0x278(x4)
    csrr  x5, scounteren
    sd    x5, 0x280(x4)
    csrr  x5, senvcfg
    sd    x5, 0x288(x4)
    csrr  x5, misa
    sd    x5, 0x290(x4)
    csrr  x5, mtval
    sd    x5, 0x298(x4)
    csrr  x5, mepc
    sd    x5, 0x2a0(x4)
    csrr  x5, mcause
    sd    x5, 0x2a8(x4)
    li    x5, 0x6000
    csrs  mstatus, x5
    csrr  x5, fcsr
    sd    x5, 0x2b0(x4)
    .irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    fsd   f\r, (0x100 + 8 * \r)(x4)
    .endr
    la    x5, current
    ld    x6, 0(x5)
    li    x7, SLOT_SIZE
    add   x6, x6, x7
    sd    x6, 0(x5)
    la    x5, remaining
    ld    x6, 0(x5)
    addi  x6, x6, -1
    sd    x6, 0(x5)
    bnez  x6, start_slot
    li    x5, 0x100000
    li    x6, 0x5555
    sw    x6, 0(x5)
1:  j     1b

start_slot:
    la    x1, base
    la    x3, current
    ld    x3, 0(x3)
    add   x3, x3, x1
    la    x5, mtrap
    csrw  mtvec, x5
    csrw  mie, zero
    csrw  mip, zero
    li    x5, 0x6000
    csrw  mstatus, x5
    # A store-conditional clears the previous program's reservation.
    la    x5, msave
    sc.d  x6, x0, (x5)
    csrw  satp, zero
    csrw  pmpcfg0, zero
    .irp n, 0, 1, 2, 3
    ld    x5, (0x60 + 8 * \n)(x3)
    csrw  0x3b0 + \n, x5
    .endr
    ld    x5, 0x58(x3)
    csrw  pmpcfg0, x5
    csrw  sepc, zero
    csrw  scause, zero
    csrw  stval, zero
    csrw  sscratch, zero
    csrw  mtval, zero
    csrw  senvcfg, zero
    ld    x5, 0x20(x3)
    csrw  satp, x5
    sfence.vma
    ld    x5, 0x28(x3)
    csrw  medeleg, x5
    ld    x5, 0x30(x3)
    csrw  mideleg, x5
    ld    x5, 0x38(x3)
    la    x6, strap
    add   x5, x5, x6
    csrw  stvec, x5
    ld    x5, 0x40(x3)
    csrw  fcsr, x5
    ld    x5, 0x48(x3)
    csrw  mcounteren, x5
    csrw  scounteren, x5
    ld    x5, 0x50(x3)
    csrw  menvcfg, x5
    .irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    fld   f\r, (0x200 + 8 * \r)(x3)
    .endr
    ld    x5, 0x18(x3)
    csrw  mstatus, x5
    ld    x5, 0(x3)
    csrw  mepc, x5
    mv    x31, x3
    .irp r, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    ld    x\r, (0x100 + 8 * \r)(x31)
    .endr
    mret

.balign 16
msave:
    .space 256
ssave:
    .space 256
