# pulse: a small SMP guest that proves that no state was lost. Every hart counts, takes timer ticks, exchanges
# IPIs, checks its registers, memory, page tables and code; one hart drives a virtio disk and the console. It
# boots in S-mode from any SBI (a0 hart, a1 device tree) as a Linux Image, and reports every failure: see
# README.md. This file: constants and the per-hart area. Left out: boards other than QEMU's `virt`.

.equ BASE, 0x80200000
.equ MAX_HARTS, 32
.equ HART_SHIFT, 14                 # 16 KiB for each hart: fields, trap stack, stack
.equ HART_SIZE, 1 << HART_SHIFT
.equ MAIL_SHIFT, 6
.equ MAIL_CLAIMED, 1
.equ PAGE, 4096
.equ WINDOW, 0x2000000000           # virtual address of each hart's arena, in 4 KiB pages

# The board
.equ UART, 0x10000000
.equ UART_IRQ, 10
.equ TEST, 0x100000
.equ PLIC, 0x0c000000
.equ VIRTIO, 0x10001000
.equ VIRTIO_SLOTS, 8

# SBI extensions (SBI specification 2.0)
.equ SBI_TIME, 0x54494d45
.equ SBI_IPI, 0x735049
.equ SBI_RFENCE, 0x52464e43
.equ SBI_HSM, 0x48534d
.equ SBI_SRST, 0x53525354

.equ SSTATUS_SIE, 2
.equ SSTATUS_SPIE, 1 << 5
.equ SSTATUS_FS, 3 << 13
.equ SIE_SSIE, 1 << 1
.equ SIE_STIE, 1 << 5
.equ SIE_SEIE, 1 << 9

# Fields of the hart area (in tp and in sscratch)
.equ H_ID, 0
.equ H_COUNT, 8                     # iterations
.equ H_INVERSE, 16                  # ~count
.equ H_TICKS, 24
.equ H_DEADLINE, 32                 # time of the next tick
.equ H_FIRST, 40                    # time of the first tick
.equ H_SKIPPED, 48                  # deadlines that passed while hotplug had stopped the hart
.equ H_IPIS, 56                     # received and acknowledged
.equ H_SENT, 64
.equ H_LAST, 72                     # time of the last iteration
.equ H_GAP, 80                      # longest time between two iterations since the last report
.equ H_MAX_GAP, 88                  # longest time between two iterations
.equ H_SUM, 96                      # checksum over all pages filled
.equ H_PAGE, 104                    # next page to check
.equ H_PAGES, 112
.equ H_GENERATIONS, 120             # a u32 for each physical page of the arena
.equ H_TABLE, 128                   # its leaf page tables, contiguous
.equ H_FRAME0, 136                  # physical address of its first page
.equ H_SATP, 144
.equ H_STATE, 152                   # S_*
.equ H_LATE, 160                    # iterations since the deadline passed
.equ H_TARGET, 168                  # target of the last IPI
.equ H_IPI_TIME, 176
.equ H_IPI_LATE, 184
.equ H_SEEN_TICKS, 192
.equ H_FLOAT_EPOCH, 200
.equ H_FCSR, 208
.equ H_BUDGET, 216                  # pages left to fill in this tick
.equ H_FAULTS, 224                  # page faults for accessed and dirty bits
.equ H_STALL_COUNT, 232             # for the reporter: last count seen,
.equ H_STALL_TIME, 240              # time of its last change,
.equ H_STALL_REPORTS, 248           # reports since then
.equ H_IRQS, 256
.equ H_WANT_STOP, 264               # hotplug: request to stop
.equ H_TOKEN, 272                   # token of the unacknowledged IPI
.equ H_SUSPENDED, 280               # the hart resumes from a non-retentive suspend
.equ H_CODE, 320                    # 16 bytes of code that the hart rewrites
.equ H_XREGS, 512                   # 32 registers: trap frame
.equ H_XCHECK, 768                  # 32 registers: values found by the pattern check
.equ H_XSAVE, 1024                  # 16: callee-saved registers around the pattern check
.equ H_TRAP_STACK, 8192             # top of the trap stack

.equ S_ABSENT, 0
.equ S_STOPPED, 1
.equ S_STARTING, 2
.equ S_RUNNING, 3
.equ S_PARKED, 4

.equ LCG_A, 6364136223846793005
.equ LCG_C, 1442695040888963407
.equ GOLDEN, 0x9e3779b97f4a7c15

.equ SECOND, 10000000               # ticks of the board's 10 MHz timebase
.equ LOST_TICK, SECOND              # a tick is lost if it is this late, and LATE_ITERATIONS have passed
.equ LOST_IPI, 5 * SECOND
.equ LATE_ITERATIONS, 500
.equ CLOCK_SKEW, 100                # ticks by which two harts' clocks may differ

.macro enter                        # a function's frame
  addi sp, sp, -64
  sd ra, 0(sp)
  sd s0, 8(sp)
  sd s1, 16(sp)
  sd s2, 24(sp)
  sd s3, 32(sp)
  sd s4, 40(sp)
  sd s5, 48(sp)
  sd s6, 56(sp)
.endm
.macro leave
  ld ra, 0(sp)
  ld s0, 8(sp)
  ld s1, 16(sp)
  ld s2, 24(sp)
  ld s3, 32(sp)
  ld s4, 40(sp)
  ld s5, 48(sp)
  ld s6, 56(sp)
  addi sp, sp, 64
  ret
.endm
.macro global reg, name             # load a global u64
  la \reg, \name
  ld \reg, 0(\reg)
.endm
.macro fail message                 # does not return; s11 and s10 are printed as expected and found
  la a0, \message
  tail failed
.endm
.macro sbi extension, function
  li a7, \extension
  li a6, \function
  ecall
.endm
