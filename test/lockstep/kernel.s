# The kernel under a lock-step program: it adds each trap to a hash, repairs the program's state and continues
# the program. One handler runs in M-mode at RAM's own addresses and, for delegated traps, in S-mode at an
# alias of RAM (layout.ts). A random number in its data page, the coin, selects: skip the instruction, repair
# the page, break another page, or continue in another mode and address space. pc and pointers keep their
# place in the 512 KiB of RAM; the handler moves them to the base at which the program continues.

.equ DATA, 0x2000
.equ CODE_LOW, 0x40000
.equ CODE_HIGH, 0x60000
.equ PLACE_BITS, 45
.equ USER_WINDOW, 0x100000
.equ FIRST_FREE_PAGE, 0x40
# Offsets in the data page.
.equ COIN, 0x00
.equ HASH, 0x08
.equ TRAPS, 0x10
.equ LANDING, 0x18
.equ GOOD, 0x20
.equ MEDELEG, 0x40
.equ MIDELEG, 0x48
.equ SPACES, 0x80
# The difference (xor) of places, and of PTEs, between the code and its copy.
.equ COPY_DELTA, 24
.equ COPY, 0x80000
.equ COPY_PTE, 0x20000
.equ save_m, 0x80002200
.equ save_s, 0x80002300

base:
    fence.i
    sfence.vma
    mret

.balign 64
m_vector:
    .rept 16
    j     entry_m
    .endr
.balign 64
s_vector:
    .rept 16
    j     entry_s
    .endr

# x4 RAM, x5 data page, x6 cause, x7 epc, x8 tval, x9 status, x12 coin, x14 previous mode, x15 its space, x18
# base of the place where it ran, x31 saved registers.
.macro handler p, status, epc, cause, tval, scratch, ie, ip, return, mode
entry_\p:
    csrw  \scratch, x31
    li    x31, 0x20000
    csrc  \status, x31
    la    x31, save_\p
    .irp r, 27, 28, 29, 30
    sd    x\r, (8 * \r)(x31)
    .endr
    # For most traps of causes 2 and 4 to 7, only skip the instruction.
    la    x28, base + DATA
    ld    x29, TRAPS(x28)
    addi  x29, x29, 1
    sd    x29, TRAPS(x28)
    andi  x29, x29, 7
    beqz  x29, all_\p
    csrr  x29, \cause
    bltz  x29, all_\p
    li    x30, 0xf4
    srl   x30, x30, x29
    andi  x30, x30, 1
    beqz  x30, all_\p
    csrr  x27, \tval
    add   x29, x29, x27
    csrr  x30, \epc
    add   x29, x29, x30
    ld    x27, HASH(x28)
    slli  x27, x27, 1
    add   x27, x27, x29
    sd    x27, HASH(x28)
    # The code or its copy, whichever the hart executed.
    csrr  x27, satp
    srli  x27, x27, 44
    andi  x27, x27, 7
    csrr  x29, \status
    srli  x29, x29, 11
    andi  x29, x29, \mode
    addi  x29, x29, -3
    snez  x29, x29
    sub   x29, x0, x29
    and   x27, x27, x29
    slli  x27, x27, 5
    la    x28, base + DATA + SPACES + COPY_DELTA
    add   x27, x27, x28
    ld    x27, 0(x27)
    la    x28, base
    slli  x29, x30, PLACE_BITS
    srli  x29, x29, PLACE_BITS
    add   x29, x29, x28
    add   x29, x29, x27
    lhu   x29, 0(x29)
    andi  x29, x29, 3
    addi  x29, x29, -3
    seqz  x29, x29
    slli  x29, x29, 1
    addi  x30, x30, 2
    add   x30, x30, x29
    csrw  \epc, x30
    .irp r, 27, 28, 29, 30
    ld    x\r, (8 * \r)(x31)
    .endr
    csrr  x31, \scratch
    \return
all_\p:
    .irp r, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26
    sd    x\r, (8 * \r)(x31)
    .endr
    csrr  x1, \scratch
    sd    x1, (8 * 31)(x31)
    la    x4, base
    li    x5, DATA
    add   x5, x5, x4
    csrr  x6, \cause
    csrr  x7, \epc
    csrr  x8, \tval
    csrr  x9, \status
    ld    x10, HASH(x5)
    li    x11, 31
    .irp r, 6, 7, 8, 9
    mul   x10, x10, x11
    add   x10, x10, x\r
    .endr
    sd    x10, HASH(x5)
    ld    x12, COIN(x5)
    slli  x13, x12, 13
    xor   x12, x12, x13
    srli  x13, x12, 7
    xor   x12, x12, x13
    slli  x13, x12, 17
    xor   x12, x12, x13
    sd    x12, COIN(x5)
    jal   x1, previous_\p
    jal   x1, base_of_place
    bltz  x6, interrupt_\p
    li    x20, 12
    beq   x6, x20, fetch_\p
    li    x20, 1
    bleu  x6, x20, fetch_\p
    li    x20, 13
    bgeu  x6, x20, page_\p
    li    x20, 2
    beq   x6, x20, illegal_\p
    li    x20, 8
    bltu  x6, x20, skip_\p
    li    x20, 11
    bgtu  x6, x20, skip_\p
    # ecall: bits 8 and 9 of the coin select the action.
    srli  x20, x12, 8
    andi  x20, x20, 3
    beqz  x20, 2f
    li    x21, 1
    beq   x20, x21, 3f
    li    x21, 2
    beq   x20, x21, 2f
    # Change some of FS, SUM and MXR.
    li    x21, 0xc6000
    and   x21, x21, x12
    xor   x9, x9, x21
    csrw  \status, x9
    j     skip_\p
2:  jal   x1, next_pc
    jal   x1, teleport_\p
    j     go_\p
3:  srli  x20, x12, 10
    andi  x20, x20, 3
    beqz  x20, 4f
    jal   x1, break_page
    j     skip_\p
4:  jal   x1, next_pc
    jal   x1, swap_code
    j     go_\p

interrupt_\p:
    li    x20, 1
    sll   x20, x20, x6
    csrc  \ip, x20
    andi  x21, x12, 1
    beqz  x21, 1f
    csrc  \ie, x20
1:  j     restore_\p

illegal_\p:
    andi  x21, x12, 1
    beqz  x21, skip_\p
    li    x21, 0x6000
    csrs  \status, x21
    andi  x21, x12, 2
    beqz  x21, skip_\p
    csrwi frm, 0
    j     skip_\p

page_\p:
    andi  x21, x12, 3
    beqz  x21, skip_\p
    jal   x1, mend
    bnez  x22, skip_\p
    j     restore_\p

fetch_\p:
    # pc is in place, but its page is not accessible: repair it, or continue at the landing.
    jal   x1, place_of_pc
    bnez  x22, land_\p
    jal   x1, is_in_place
    beqz  x22, move_\p
    li    x20, 12
    bne   x6, x20, land_\p
    andi  x21, x12, 1
    beqz  x21, land_\p
    jal   x1, mend
    bnez  x22, land_\p
    j     restore_\p
land_\p:
    ld    x7, LANDING(x5)
move_\p:
    jal   x1, move
    j     go_\p

skip_\p:
    jal   x1, place_of_pc
    bnez  x22, land_\p
    jal   x1, next_pc
go_\p:
    csrw  \epc, x7
restore_\p:
    la    x31, save_\p
    .irp r, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    ld    x\r, (8 * \r)(x31)
    .endr
    \return
.endm

.balign 16
    handler m, mstatus, mepc, mcause, mtval, mscratch, mie, mip, mret, 3
.balign 16
    handler s, sstatus, sepc, scause, stval, sscratch, sie, sip, sret, 0

previous_m:
    srli  x14, x9, 11
    andi  x14, x14, 3
    ret
previous_s:
    srli  x14, x9, 8
    andi  x14, x14, 1
    ret

# x14 mode → x15 its space, x18 the base of its places.
base_of_place:
    csrr  x16, satp
    srli  x17, x16, 60
    beqz  x17, 1f
    srli  x17, x16, 44
    andi  x17, x17, 7
1:  li    x20, 3
    bne   x14, x20, 2f
    li    x17, 0
2:  slli  x15, x17, 5
    add   x15, x15, x5
    addi  x15, x15, SPACES
    ld    x18, 8(x15)
    beqz  x17, 3f
    bnez  x14, 3f
    li    x20, USER_WINDOW
    add   x18, x18, x20
3:  ret

# x7 pc → x22 is 0 if its place is in the code.
place_of_pc:
    slli  x20, x7, PLACE_BITS
    srli  x20, x20, PLACE_BITS
    li    x21, CODE_LOW
    li    x22, 1
    bltu  x20, x21, 1f
    li    x21, CODE_HIGH
    bgeu  x20, x21, 1f
    li    x22, 0
1:  ret

# x7 pc → x22 is non-zero if the mode's code is mapped there (with translation, twice).
is_in_place:
    sub   x20, x7, x18
    li    x21, 0x80000
    li    x23, 0x80000000
    beq   x18, x23, 1f
    slli  x21, x21, 1
1:  sltu  x22, x20, x21
    ret

# x7 pc → x7 pc of the next instruction, by the code at its place; outside the code, the landing's.
next_pc:
    slli  x20, x7, PLACE_BITS
    srli  x20, x20, PLACE_BITS
    add   x20, x20, x4
    ld    x21, COPY_DELTA(x15)
    add   x20, x20, x21
    lhu   x21, 0(x20)
    andi  x21, x21, 3
    addi  x21, x21, -3
    snez  x21, x21
    slli  x21, x21, 1
    addi  x7, x7, 4
    sub   x7, x7, x21
    ret

# Moves x7 and the saved pointers to base x18, in one of the two windows of a space.
move:
    li    x23, 0x80000000
    beq   x18, x23, 1f
    srli  x20, x12, 20
    andi  x20, x20, 1
    slli  x20, x20, 19
    add   x18, x18, x20
1:  slli  x7, x7, PLACE_BITS
    srli  x7, x7, PLACE_BITS
    add   x7, x7, x18
    .irp r, 1, 2, 3, 8, 18, 27
    ld    x20, (8 * \r)(x31)
    slli  x20, x20, PLACE_BITS
    srli  x20, x20, PLACE_BITS
    add   x20, x20, x18
    sd    x20, (8 * \r)(x31)
    .endr
    ret

# Switches to another mode and space by the coin. Without translation nothing is delegated: S-mode's handler
# runs at a mapped address only.
teleport_m:
    mv    x30, x1
    srli  x20, x12, 24
    andi  x20, x20, 7
    slli  x20, x20, 5
    add   x20, x20, x5
    addi  x20, x20, SPACES
    ld    x21, 0(x20)
    csrw  satp, x21
    li    x22, 0
    li    x23, 0
    beqz  x21, 1f
    ld    x22, MEDELEG(x5)
    ld    x23, MIDELEG(x5)
1:  csrw  medeleg, x22
    csrw  mideleg, x23
    srli  x14, x12, 32
    andi  x14, x14, 3
    li    x20, 2
    bne   x14, x20, 2f
    li    x14, 1
2:  li    x20, 0x1800
    csrc  mstatus, x20
    slli  x20, x14, 11
    csrs  mstatus, x20
    jal   x1, base_of_place
    jal   x1, move
    jr    x30
teleport_s:
    mv    x30, x1
    srli  x20, x12, 24
    andi  x20, x20, 3
    addi  x20, x20, 1
    slli  x20, x20, 5
    add   x20, x20, x5
    addi  x20, x20, SPACES
    ld    x21, 0(x20)
    csrw  satp, x21
    srli  x14, x12, 32
    andi  x14, x14, 1
    li    x20, 0x100
    csrc  sstatus, x20
    slli  x20, x14, 8
    csrs  sstatus, x20
    jal   x1, base_of_place
    jal   x1, move
    jr    x30

# Gives a page of the program in some space flags by the coin, except the landing's page.
break_page:
    srli  x20, x12, 24
    andi  x20, x20, 3
    addi  x20, x20, 1
    slli  x20, x20, 5
    add   x20, x20, x5
    addi  x20, x20, SPACES
    srli  x21, x12, 30
    andi  x21, x21, 0x3f
    addi  x21, x21, FIRST_FREE_PAGE
    ld    x22, LANDING(x5)
    srli  x22, x22, 12
    beq   x21, x22, 2f
    srli  x22, x12, 40
    andi  x22, x22, 3
    slli  x22, x22, 7
    or    x21, x21, x22
    ld    x22, 16(x20)
    add   x22, x22, x4
    slli  x23, x21, 3
    add   x22, x22, x23
    ld    x23, 0(x22)
    srli  x24, x12, 44
    andi  x24, x24, 0xdf
    srli  x25, x12, 52
    andi  x25, x25, 1
    or    x24, x24, x25
    srli  x23, x23, 10
    slli  x23, x23, 10
    or    x23, x23, x24
    sd    x23, 0(x22)
    # Fence one page of one space, one page, one space, or all.
    slli  x21, x21, 12
    ld    x22, 8(x20)
    add   x21, x21, x22
    ld    x22, 0(x20)
    srli  x22, x22, 44
    andi  x22, x22, 7
    srli  x23, x12, 54
    andi  x23, x23, 3
    beqz  x23, 1f
    li    x24, 1
    beq   x23, x24, 3f
    li    x24, 2
    beq   x23, x24, 4f
    sfence.vma
    ret
1:  sfence.vma x21, x22
2:  ret
3:  sfence.vma x21
    ret
4:  sfence.vma x0, x22
    ret

# Maps the other copy of the code into all windows of some space.
swap_code:
    srli  x20, x12, 24
    andi  x20, x20, 3
    addi  x20, x20, 1
    slli  x20, x20, 5
    add   x20, x20, x5
    addi  x20, x20, SPACES
    ld    x21, COPY_DELTA(x20)
    li    x22, COPY
    xor   x21, x21, x22
    sd    x21, COPY_DELTA(x20)
    ld    x21, 16(x20)
    add   x21, x21, x4
    addi  x21, x21, 8 * FIRST_FREE_PAGE
    li    x23, COPY_PTE
    li    x24, 4
1:  li    x25, 32
2:  ld    x26, 0(x21)
    xor   x26, x26, x23
    sd    x26, 0(x21)
    addi  x21, x21, 8
    addi  x25, x25, -1
    bnez  x25, 2b
    addi  x21, x21, 8 * 96
    addi  x24, x24, -1
    bnez  x24, 1b
    ld    x22, 0(x20)
    srli  x22, x22, 44
    andi  x22, x22, 7
    andi  x23, x12, 64
    beqz  x23, 3f
    sfence.vma x0, x22
    ret
3:  sfence.vma
    ret

# Gives the page of x8 good flags. x22 is non-zero if it is not a page of the program in the space x15.
mend:
    li    x22, 1
    beqz  x17, 9f
    sub   x20, x8, x18
    li    x21, USER_WINDOW
    bgeu  x20, x21, 9f
    srli  x20, x20, 12
    andi  x21, x20, 0x7f
    li    x23, FIRST_FREE_PAGE
    bltu  x21, x23, 9f
    # Good flags: code and data, of S-mode and then of U-mode.
    srli  x21, x21, 5
    andi  x21, x21, 1
    bnez  x14, 1f
    addi  x21, x21, 2
    addi  x20, x20, 0x100
1:  slli  x21, x21, 3
    add   x21, x21, x5
    ld    x21, GOOD(x21)
    slli  x20, x20, 3
    ld    x23, 16(x15)
    add   x20, x20, x23
    add   x20, x20, x4
    ld    x23, 0(x20)
    slli  x23, x23, 10
    srli  x23, x23, 20
    slli  x23, x23, 10
    or    x23, x23, x21
    sd    x23, 0(x20)
    andi  x22, x12, 4
    beqz  x22, 2f
    sfence.vma x8
    li    x22, 0
    ret
2:  sfence.vma
9:  ret

.balign 16
