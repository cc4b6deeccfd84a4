# The device tree (flattened, Devicetree Specification 0.4 chapter 5): RAM, Sstc, boot arguments; and the
# options in the boot arguments: `pulse.name=number`, or `pulse.name` for 1.

.text
load_be32:                          # a0: address → a0
  lwu a0, 0(a0)
  slli t0, a0, 24
  srli t1, a0, 24
  or t0, t0, t1
  li t2, 0xff00
  and t1, a0, t2
  slli t1, t1, 8
  or t0, t0, t1
  srli t1, a0, 8
  and t1, t1, t2
  or t0, t0, t1
  slli t0, t0, 32
  srli a0, t0, 32
  ret

begins:                             # a0: text, a1: NUL-terminated prefix → a0: 1 if it matches, a2: rest of the text
  lbu t1, 0(a1)
  beqz t1, 1f
  lbu t0, 0(a0)
  bne t0, t1, 2f
  addi a0, a0, 1
  addi a1, a1, 1
  j begins
1: mv a2, a0
  li a0, 1
  ret
2: li a0, 0
  ret

parse_fdt:                          # a0: address
  enter
  mv s0, a0
  call load_be32
  li t0, 0xd00dfeed
  bne a0, t0, 9f
  addi a0, s0, 12
  call load_be32
  add s1, a0, s0                    # strings
  addi a0, s0, 8
  call load_be32
  add s2, a0, s0                    # structure
  li s3, 0                          # in a memory node
1: mv a0, s2
  call load_be32
  addi s2, s2, 4
  li t0, 1
  beq a0, t0, 2f
  li t0, 3
  beq a0, t0, 4f
  li t0, 9
  bne a0, t0, 1b
9: leave
2: mv a0, s2                        # node: its name
  la a1, name_memory
  call begins
  mv s3, a0
3: lbu t0, 0(s2)
  addi s2, s2, 1
  bnez t0, 3b
  addi s2, s2, 3
  andi s2, s2, -4
  j 1b
4: mv a0, s2                        # property: length, name, value
  call load_be32
  mv s4, a0
  addi a0, s2, 4
  call load_be32
  add s5, a0, s1
  addi s6, s2, 8
  add s2, s6, s4
  addi s2, s2, 3
  andi s2, s2, -4
  mv a0, s5
  la a1, name_bootargs
  call begins
  beqz a0, 5f
  la t0, boot_args
  sd s6, 0(t0)
5: mv a0, s5
  la a1, name_isa
  call begins
  beqz a0, 7f
  add s4, s4, s6
6: mv a0, s6
  la a1, name_sstc
  call begins
  la t0, use_sstc
  addi s6, s6, 1
  bnez a0, 8f
  bltu s6, s4, 6b
  j 1b
8: li t1, 1
  sd t1, 0(t0)
  j 1b
7: beqz s3, 1b
  mv a0, s5
  la a1, name_reg
  call begins
  beqz a0, 1b
  mv a0, s6
  call load_be64
  mv s4, a0
  addi a0, s6, 8
  call load_be64
  add a0, a0, s4
  la t0, ram_end
  sd a0, 0(t0)
  j 1b

load_be64:
  addi sp, sp, -16
  sd ra, 0(sp)
  mv t3, a0
  call load_be32
  slli t4, a0, 32
  addi a0, t3, 4
  call load_be32
  or a0, a0, t4
  ld ra, 0(sp)
  addi sp, sp, 16
  ret

parse_options:
  enter
  la s0, options
1: ld s1, 0(s0)                     # name
  beqz s1, 8f
  ld s2, 8(s0)                      # destination
  ld t0, 16(s0)                     # default
  sd t0, 0(s2)
  global s3, boot_args
  beqz s3, 7f
2: lbu t0, 0(s3)
  beqz t0, 7f
  mv a0, s3
  mv a1, s1
  call begins
  addi s3, s3, 1
  beqz a0, 2b
  li t0, 1
  lbu t1, 0(a2)
  li t2, '='
  bne t1, t2, 6f
  li t0, 0
3: addi a2, a2, 1
  lbu t1, 0(a2)
  addi t1, t1, -'0'
  li t2, 9
  bltu t2, t1, 6f
  li t2, 10
  mul t0, t0, t2
  add t0, t0, t1
  j 3b
6: sd t0, 0(s2)
7: addi s0, s0, 24
  j 1b
8: global t0, opt_sbi_timer
  beqz t0, 9f
  la t0, use_sstc
  sd zero, 0(t0)
9: la t0, opt_report                # ms to ticks, µs to ticks; at least one turn
  ld t1, 0(t0)
  li t2, SECOND / 1000
  mul t1, t1, t2
  sd t1, 0(t0)
  la t0, opt_period
  ld t1, 0(t0)
  li t2, SECOND / 1000000
  mul t1, t1, t2
  sd t1, 0(t0)
  la t0, opt_spin
  ld t1, 0(t0)
  addi t1, t1, 1
  sd t1, 0(t0)
  leave

.section .rodata
name_memory: .asciz "memory@"
name_bootargs: .asciz "bootargs"
name_isa: .asciz "riscv,isa"
name_sstc: .asciz "sstc"
name_reg: .asciz "reg"
opt_name_mem: .asciz "pulse.mem"
opt_name_rate: .asciz "pulse.rate"
opt_name_period: .asciz "pulse.period"
opt_name_report: .asciz "pulse.report"
opt_name_harts: .asciz "pulse.harts"
opt_name_idle: .asciz "pulse.idle"
opt_name_spin: .asciz "pulse.spin"
opt_name_io: .asciz "pulse.io"
opt_name_blocks: .asciz "pulse.blocks"
opt_name_nodisk: .asciz "pulse.nodisk"
opt_name_poll: .asciz "pulse.poll"
opt_name_sbi_timer: .asciz "pulse.sbitimer"
opt_name_suspend: .asciz "pulse.suspend"
opt_name_hotplug: .asciz "pulse.hotplug"
.data
.align 3
options:                            # name, variable, default
  .dword opt_name_mem, opt_mem, 1             # MiB for each hart
  .dword opt_name_rate, opt_rate, 0           # pages filled in each tick by each hart; 0: no limit
  .dword opt_name_period, opt_period, 10000   # period of the tick, µs
  .dword opt_name_report, opt_report, 1000    # interval of reports, ms
  .dword opt_name_harts, opt_harts, MAX_HARTS
  .dword opt_name_idle, opt_idle, 0           # wait for an interrupt in each iteration
  .dword opt_name_spin, opt_spin, 200         # turns in which registers hold patterns
  .dword opt_name_io, opt_io, 2               # disk blocks in each tick; 0: no limit
  .dword opt_name_blocks, opt_blocks, 64
  .dword opt_name_nodisk, opt_nodisk, 0
  .dword opt_name_poll, opt_poll, 0           # poll the used ring instead of waiting for the interrupt
  .dword opt_name_sbi_timer, opt_sbi_timer, 0 # SBI's timer although the hart has Sstc
  .dword opt_name_suspend, opt_suspend, 0     # suspend each iteration: 1 retentive, 2 non-retentive
  .dword opt_name_hotplug, opt_hotplug, 0     # ticks between stopping one hart and the next
  .dword 0
