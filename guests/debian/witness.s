# witness: a static Linux program that checks that a move does not damage the guest. One process for each hart
# counts, reads the clock, sleeps, keeps floating-point patterns, checks memory, a file and (with -d) a raw
# disk, and passes a token around a ring of pipes. The parent prints a line each second, and a verdict when
# the stop file appears.
#   witness [-q] [-n processes] [-m MiB for each] [-s ms of sleep in each turn] [-f file prefix]
#           [-d disk, overwritten]
# Exit status: 0 after `witness: PASS …`, 1 after `witness: FAIL …`.

.equ SYS_faccessat, 48
.equ SYS_unlinkat, 35
.equ SYS_openat, 56
.equ SYS_pipe2, 59
.equ SYS_read, 63
.equ SYS_write, 64
.equ SYS_pread64, 67
.equ SYS_pwrite64, 68
.equ SYS_fsync, 82
.equ SYS_exit, 93
.equ SYS_nanosleep, 101
.equ SYS_clock_gettime, 113
.equ SYS_sched_setaffinity, 122
.equ SYS_sched_getaffinity, 123
.equ SYS_kill, 129
.equ SYS_clone, 220
.equ SYS_mmap, 222
.equ SYS_wait4, 260

.equ AT_FDCWD, -100
.equ O_RDWR, 2
.equ O_CREAT, 0x40
.equ O_NONBLOCK, 0x800
.equ O_DIRECT, 0x4000
.equ SIGKILL, 9
.equ SIGCHLD, 17

.equ MAX_WORKERS, 64
.equ BLOCK, 4096
.equ BLOCKS, 32                     # blocks for each worker, in the file and on the disk
.equ NAP, 1000000                   # ns

.equ LCG_A, 6364136223846793005
.equ LCG_C, 1442695040888963407
.equ GOLDEN, 0x9e3779b97f4a7c15

# A worker's record: one page for each worker, shared by all
.equ W_COUNT, 0
.equ W_INVERSE, 8
.equ W_GAP, 16                      # longest gap in ns since the last line
.equ W_MAX_GAP, 24
.equ W_PAGES, 32
.equ W_FILES, 40
.equ W_DISKS, 48
.equ W_TOKENS, 56
.equ W_PID, 64
.equ W_ERROR, 72                    # message, or 0
.equ W_FOUND, 80
.equ W_EXPECTED, 88
.equ W_DONE, 96
.equ W_SEEN, 104                    # used by the parent: last count seen, lines since it changed
.equ W_STALLED, 112
.equ W_FILE_GENERATIONS, 1024
.equ W_DISK_GENERATIONS, 2048

.macro syscall number
  li a7, \number
  ecall
.endm
.macro global reg, name
  la \reg, \name
  ld \reg, 0(\reg)
.endm
.macro enter
  addi sp, sp, -64
  sd ra, 0(sp)
  sd s1, 8(sp)
  sd s2, 16(sp)
  sd s3, 24(sp)
  sd s4, 32(sp)
  sd s5, 40(sp)
  sd s6, 48(sp)
.endm
.macro leave
  ld ra, 0(sp)
  ld s1, 8(sp)
  ld s2, 16(sp)
  ld s3, 24(sp)
  ld s4, 32(sp)
  ld s5, 40(sp)
  ld s6, 48(sp)
  addi sp, sp, 64
  ret
.endm
.macro put name
  la a0, \name
  call put_text
.endm
.macro put_sum name, field          # text, then the sum of a field over all workers
  put \name
  li a0, \field
  call sum_of
  call put_decimal
.endm
.macro fail message                 # for workers; s10: found, s11: expected
  la a0, \message
  tail worker_failed
.endm

.text
.global _start
_start:
  ld s1, 0(sp)                      # argc
  addi s2, sp, 8
  call count_cpus
  la t0, workers
  sd a0, 0(t0)
1: addi s1, s1, -1                  # options
  addi s2, s2, 8
  blez s1, 4f
  ld t0, 0(s2)
  lbu t1, 0(t0)
  li t2, '-'
  bne t1, t2, usage
  lbu t1, 1(t0)
  li t2, 'q'
  bne t1, t2, 2f
  la t0, quiet
  sd t2, 0(t0)
  j 1b
2: addi s1, s1, -1
  addi s2, s2, 8
  blez s1, usage
  ld a0, 0(s2)
  la t3, prefix
  li t2, 'f'
  beq t1, t2, 3f
  la t3, disk_path
  li t2, 'd'
  beq t1, t2, 3f
  mv s3, t1
  call parse_decimal
  la t3, workers
  li t2, 'n'
  beq s3, t2, 3f
  la t3, megabytes
  li t2, 'm'
  beq s3, t2, 3f
  la t3, nap_ms
  li t2, 's'
  bne s3, t2, usage
3: sd a0, 0(t3)
  j 1b
4: global t0, workers
  beqz t0, usage
  li t1, MAX_WORKERS
  bltu t1, t0, usage
  global t0, megabytes
  beqz t0, usage
  li a0, AT_FDCWD                   # stop file of an earlier run
  la a1, stop_path
  li a2, 0
  syscall SYS_unlinkat
  li a0, 0
  li a1, MAX_WORKERS * BLOCK
  li a2, 3
  li a3, 0x21                       # MAP_SHARED | MAP_ANONYMOUS
  li a4, -1
  li a5, 0
  syscall SYS_mmap
  bltz a0, usage
  la t0, records
  sd a0, 0(t0)
  li s1, 0                          # pipes
5: slli t0, s1, 3
  la a0, pipes
  add a0, a0, t0
  li a1, O_NONBLOCK
  syscall SYS_pipe2
  addi s1, s1, 1
  global t0, workers
  bltu s1, t0, 5b
  li s1, 0                          # processes
6: li a0, SIGCHLD
  li a1, 0
  li a2, 0
  li a3, 0
  li a4, 0
  syscall SYS_clone
  bnez a0, 7f
  mv a0, s1
  j worker
7: slli t0, s1, 12
  global t1, records
  add t0, t0, t1
  sd a0, W_PID(t0)
  addi s1, s1, 1
  global t0, workers
  bltu s1, t0, 6b
  la t0, line                       # the token
  sd zero, 0(t0)
  la a0, pipes
  lw a0, 4(a0)
  la a1, line
  li a2, 8
  syscall SYS_write

watch:                              # the parent's loop: check ten times for the stop file, then print a line
  li s1, 10
1: la a0, tenth
  li a1, 0
  syscall SYS_nanosleep
  li a0, AT_FDCWD
  la a1, stop_path
  li a2, 0
  li a3, 0
  syscall SYS_faccessat
  beqz a0, finish
  call look_for_errors
  addi s1, s1, -1
  bnez s1, 1b
  call look_for_stalls
  global t0, quiet
  bnez t0, watch
  put text_n
  call put_sums
  put text_gap
  li a0, W_GAP
  call largest_of
  call put_microseconds
  call clear_gaps
  put text_max_gap
  li a0, W_MAX_GAP
  call largest_of
  call put_microseconds
  put text_all_ok
  call flush
  j watch

finish:
  global t0, records
  li t1, 1
  li t2, BLOCK - 8
  add t0, t0, t2
  sd t1, 0(t0)                      # request to the workers to stop
1: la a0, tenth
  li a1, 0
  syscall SYS_nanosleep
  call look_for_errors
  li a0, W_DONE
  call sum_of
  global t0, workers
  bne a0, t0, 1b
  put text_pass
  call put_sums
  put text_max_gap
  li a0, W_MAX_GAP
  call largest_of
  call put_microseconds
  call put_newline
  call flush
  li a0, 0
  syscall SYS_exit

put_sums:
  addi sp, sp, -16
  sd ra, 0(sp)
  li a0, W_COUNT
  call sum_of
  call put_decimal
  put_sum text_pages, W_PAGES
  put_sum text_files, W_FILES
  put_sum text_disks, W_DISKS
  put_sum text_tokens, W_TOKENS
  ld ra, 0(sp)
  addi sp, sp, 16
  ret

usage:
  put text_usage
  call flush
  li a0, 2
  syscall SYS_exit

# a worker's error, or a worker that exited without DONE
look_for_errors:
  enter
  li s1, 0
  global s2, records
1: ld s3, W_ERROR(s2)
  bnez s3, 2f
  ld t0, W_DONE(s2)
  bnez t0, 4f
  ld a0, W_PID(s2)
  li a1, 0
  li a2, 1                          # WNOHANG
  li a3, 0
  syscall SYS_wait4
  beqz a0, 4f
  ld s3, W_ERROR(s2)
  bnez s3, 2f
  ld t0, W_DONE(s2)
  bnez t0, 4f
  la s3, text_died
2: put text_fail
  mv a0, s3
  call put_text
  put text_worker
  mv a0, s1
  call put_decimal
  put text_found
  ld a0, W_FOUND(s2)
  call put_decimal
  put text_expected
  ld a0, W_EXPECTED(s2)
  call put_decimal
  call put_newline
  call flush
  li s1, 0
  global s2, records
3: ld a0, W_PID(s2)
  li a1, SIGKILL
  syscall SYS_kill
  li t0, BLOCK
  add s2, s2, t0
  addi s1, s1, 1
  global t0, workers
  bltu s1, t0, 3b
  li a0, 1
  syscall SYS_exit
4: li t0, BLOCK
  add s2, s2, t0
  addi s1, s1, 1
  global t0, workers
  bltu s1, t0, 1b
  leave

# a worker that has not counted for 60 lines
look_for_stalls:
  global t0, records
  global t1, workers
1: ld t2, W_COUNT(t0)
  ld t3, W_SEEN(t0)
  sd t2, W_SEEN(t0)
  ld t4, W_STALLED(t0)
  addi t4, t4, 1
  beq t2, t3, 2f
  li t4, 0
2: sd t4, W_STALLED(t0)
  li t5, 60
  bltu t4, t5, 3f
  la t5, text_stalled
  sd t5, W_ERROR(t0)
3: li t5, BLOCK
  add t0, t0, t5
  addi t1, t1, -1
  bnez t1, 1b
  ret

sum_of:                             # a0: field → a0
  global t0, records
  global t1, workers
  add t0, t0, a0
  li a0, 0
1: ld t2, 0(t0)
  add a0, a0, t2
  li t2, BLOCK
  add t0, t0, t2
  addi t1, t1, -1
  bnez t1, 1b
  ret

largest_of:                         # a0: field → a0
  global t0, records
  global t1, workers
  add t0, t0, a0
  li a0, 0
1: ld t2, 0(t0)
  bgeu a0, t2, 2f
  mv a0, t2
2: li t2, BLOCK
  add t0, t0, t2
  addi t1, t1, -1
  bnez t1, 1b
  ret

clear_gaps:
  global t0, records
  global t1, workers
1: sd zero, W_GAP(t0)
  li t2, BLOCK
  add t0, t0, t2
  addi t1, t1, -1
  bnez t1, 1b
  ret

count_cpus:                         # → a0
  li a0, 0
  li a1, 128
  la a2, line
  syscall SYS_sched_getaffinity
  la t0, line
  add t1, t0, a0
  li a0, 0
1: bgeu t0, t1, 3f
  ld t2, 0(t0)
  addi t0, t0, 8
2: beqz t2, 1b
  addi t3, t2, -1
  and t2, t2, t3
  addi a0, a0, 1
  j 2b
3: ret

parse_decimal:                      # a0: text → a0
  mv t0, a0
  li a0, 0
1: lbu t1, 0(t0)
  addi t1, t1, -'0'
  li t2, 9
  bltu t2, t1, 2f
  li t2, 10
  mul a0, a0, t2
  add a0, a0, t1
  addi t0, t0, 1
  j 1b
2: ret

# Text is collected and written as one line, so that output of other programs does not split it.
put_newline:
  la a0, text_newline
put_text:                           # a0
  la t0, line_used
  ld t1, 0(t0)
1: lbu t2, 0(a0)
  beqz t2, 2f
  la t3, line
  add t3, t3, t1
  sb t2, 0(t3)
  addi t1, t1, 1
  addi a0, a0, 1
  j 1b
2: sd t1, 0(t0)
  ret

put_microseconds:                   # a0: ns
  li t0, 1000
  divu a0, a0, t0
put_decimal:                        # a0
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

flush:
  la t0, line_used
  ld a2, 0(t0)
  sd zero, 0(t0)
  la a1, line
  li a0, 1
  syscall SYS_write
  ret

# A worker, a0: its number. s0 record, s1 number, s2 arena, s3 pages, s4 page, s5 count, s6 file, s7 disk, s8
# time of the last turn, s9 last token.
worker:
  mv s1, a0
  slli s0, a0, 12
  global t0, records
  add s0, s0, t0
  la t0, line                       # a hart of its own, if there are enough
  sd zero, 0(t0)
  srli t1, s1, 3
  add t0, t0, t1
  li t1, 1
  andi t2, s1, 7
  sll t1, t1, t2
  sb t1, 0(t0)
  li a0, 0
  li a1, 8
  la a2, line
  syscall SYS_sched_setaffinity
  global a1, megabytes
  slli s3, a1, 8
  slli a1, a1, 20
  li a0, 0
  li a2, 3
  li a3, 0x22                       # MAP_PRIVATE | MAP_ANONYMOUS
  li a4, -1
  li a5, 0
  syscall SYS_mmap
  mv s10, a0
  li s11, 0
  bltz a0, 9f
  mv s2, a0
  call open_file
  mv s6, a0
  mv s10, a0
  bltz a0, 9f
  li s7, -1
  global a1, disk_path
  beqz a1, 1f
  li a0, AT_FDCWD
  li a2, O_RDWR | O_DIRECT
  li a3, 0
  syscall SYS_openat
  mv s7, a0
  mv s10, a0
  bgez a0, 1f
9: fail text_set_up
1: li s4, 0
  li s5, 0
  li s9, -1
  li t0, -1
  sd t0, W_INVERSE(s0)
  li t0, GOLDEN
  addi t1, s1, 1
  mul t0, t0, t1
.irp n, 8,9,18,19,20,21,22,23,24,25,26,27
  addi t0, t0, 1
  fmv.d.x f\n, t0
.endr
  call now
  mv s8, a0

turn:
  ld s10, W_COUNT(s0)
  mv s11, s5
  bne s10, s11, 1f
  ld s10, W_INVERSE(s0)
  not s10, s10
  beq s10, s11, 2f
1: fail text_count
2: addi s5, s5, 1
  sd s5, W_COUNT(s0)
  not t0, s5
  sd t0, W_INVERSE(s0)
  li t0, GOLDEN
  addi t1, s1, 1
  mul s11, t0, t1
.irp n, 8,9,18,19,20,21,22,23,24,25,26,27
  addi s11, s11, 1
  fmv.x.d s10, f\n
  bne s10, s11, 3f
.endr
  j 4f
3: fail text_float
4: call now
  mv s10, a0
  mv s11, s8
  bgeu s10, s11, 5f
  fail text_clock
5: sub t0, s10, s11
  mv s8, s10
  ld t1, W_GAP(s0)
  bgeu t1, t0, 6f
  sd t0, W_GAP(s0)
6: ld t1, W_MAX_GAP(s0)
  bgeu t1, t0, 7f
  sd t0, W_MAX_GAP(s0)
7: li s10, 8                        # pages in each turn
8: call page_turn
  addi s10, s10, -1
  bnez s10, 8b
  call token_turn
  andi t0, s5, 15
  bnez t0, 10f
  mv a0, s6
  li a1, W_FILE_GENERATIONS
  li a2, 0xf1
  call block_turn
  ld t0, W_FILES(s0)
  addi t0, t0, 1
  sd t0, W_FILES(s0)
10: andi t0, s5, 63
  bnez t0, 12f
  bltz s7, 11f
  mv a0, s7
  li a1, W_DISK_GENERATIONS
  li a2, 0xd1
  call block_turn
  ld t0, W_DISKS(s0)
  addi t0, t0, 1
  sd t0, W_DISKS(s0)
11: li a0, NAP
  call nap
12: global t0, nap_ms
  beqz t0, 13f
  li a0, 1000000
  mul a0, a0, t0
  call nap
13: global t0, records
  li t1, BLOCK - 8
  add t0, t0, t1
  ld t0, 0(t0)
  beqz t0, turn

worker_done:                        # checks all memory and blocks again
  li s4, 0
1: mv a0, s4
  call page_seed
  mv a0, s2
  slli t0, s4, 12
  add a0, a0, t0
  ld t0, 0(a0)
  beqz t0, 2f                       # never filled
  la a4, text_memory
  call check_block
2: addi s4, s4, 1
  bltu s4, s3, 1b
  li s4, 0
3: mv a0, s6
  li a1, W_FILE_GENERATIONS
  li a2, 0xf1
  call verify_block
  bltz s7, 4f
  mv a0, s7
  li a1, W_DISK_GENERATIONS
  li a2, 0xd1
  call verify_block
4: addi s4, s4, 1
  li t0, BLOCKS
  bltu s4, t0, 3b
  li t0, 1
  fence
  sd t0, W_DONE(s0)
  li a0, 0
  syscall SYS_exit

worker_failed:
  sd s10, W_FOUND(s0)
  sd s11, W_EXPECTED(s0)
  fence
  sd a0, W_ERROR(s0)
  li a0, 1
  syscall SYS_exit

now:                                # → a0: CLOCK_MONOTONIC in ns
  addi sp, sp, -16
  li a0, 1
  mv a1, sp
  syscall SYS_clock_gettime
  ld a0, 0(sp)
  ld t0, 8(sp)
  li t1, 1000000000
  mul a0, a0, t1
  add a0, a0, t0
  addi sp, sp, 16
  ret

nap:                                # a0: ns; must not return earlier
  enter
  mv s2, a0
  call now
  mv s3, a0
  la t0, nap_time
  li t1, 1000000000
  divu t2, s2, t1
  sd t2, 0(t0)
  remu t2, s2, t1
  sd t2, 8(t0)
  mv a0, t0
  li a1, 0
  syscall SYS_nanosleep
  bnez a0, 1f
  call now
  sub s10, a0, s3
  mv s11, s2
  bgeu s10, s11, 1f
  fail text_nap
1: leave

# The pattern of page a0 in its generation → a1: seed. The generation is the current round over the arena.
page_seed:
  slli a1, a0, 32
  ld t0, W_PAGES(s0)
  divu t1, t0, s3                   # complete rounds; pages below s3's remainder have one more
  remu t2, t0, s3
  bgeu a0, t2, 1f
  addi t1, t1, 1
1: xor a1, a1, t1
  slli t0, s1, 56
  xor a1, a1, t0
  li t0, GOLDEN
  mul a1, a1, t0
  ori a1, a1, 1
  ret

page_turn:                          # checks page s4, then fills it for the next round
  enter
  mv a0, s4
  call page_seed
  slli a0, s4, 12
  add s6, s2, a0
  ld t0, W_PAGES(s0)
  bltu t0, s3, 1f
  mv a0, s6
  la a4, text_memory
  call check_block
1: ld t0, W_PAGES(s0)
  addi t0, t0, 1
  sd t0, W_PAGES(s0)
  mv a0, s4
  call page_seed
  mv a0, s6
  call fill_block
  addi s4, s4, 1
  bltu s4, s3, 2f
  li s4, 0
2: sd s4, 32(sp)
  leave

check_block:                        # a0: 4 KiB, a1: seed, a4: message
  li t2, BLOCK
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
  mv a0, a4
  tail worker_failed

fill_block:                         # a0: 4 KiB, a1: seed
  li t2, BLOCK
  add t2, t2, a0
  li t3, LCG_A
  li t4, LCG_C
1: sd a1, 0(a0)
  mul a1, a1, t3
  add a1, a1, t4
  addi a0, a0, 8
  bltu a0, t2, 1b
  ret

# A block of a file (a0: descriptor, a1: field of generations, a2: salt): reads, compares, writes the next
# generation, sometimes syncs. Block s5 / 16 of this worker's BLOCKS.
block_turn:
  enter
  mv s2, a0
  add s3, a1, s0
  mv s4, a2
  srli s5, s5, 4
  andi s5, s5, BLOCKS - 1
  call read_block
  slli t0, s5, 3
  add s6, s3, t0
  ld t0, 0(s6)
  addi t0, t0, 1
  mv a0, t0
  call block_seed
  la a0, buffer
  call fill_block
  mv a0, s2
  la a1, buffer
  li a2, BLOCK
  call block_offset
  syscall SYS_pwrite64
  mv s10, a0
  li s11, BLOCK
  beq s10, s11, 1f
  fail text_write
1: ld t0, 0(s6)
  addi t0, t0, 1
  sd t0, 0(s6)
  andi t0, s5, 7
  bnez t0, 2f
  mv a0, s2
  syscall SYS_fsync
  mv s10, a0
  li s11, 0
  beq s10, s11, 2f
  fail text_write
2: leave

verify_block:                       # like block_turn for block s4, without writing
  enter
  mv s5, s4
  mv s2, a0
  add s3, a1, s0
  mv s4, a2
  call read_block
  leave

block_seed:                         # a0: generation, s4: salt, s5: block → a1
  slli a1, s4, 56
  slli t0, s1, 48
  xor a1, a1, t0
  slli t0, s5, 40
  xor a1, a1, t0
  xor a1, a1, a0
  li t0, GOLDEN
  mul a1, a1, t0
  ret

block_offset:                       # s1: worker, s5: block → a3
  li a3, BLOCKS
  mul a3, a3, s1
  add a3, a3, s5
  slli a3, a3, 12
  ret

read_block:                         # s2: descriptor, s3: generations, s5: block; compares if it was ever written
  slli t0, s5, 3
  add t0, t0, s3
  ld a4, 0(t0)
  beqz a4, 1f
  addi sp, sp, -16
  sd ra, 0(sp)
  sd a4, 8(sp)
  mv a0, s2
  la a1, buffer
  li a2, BLOCK
  call block_offset
  syscall SYS_pread64
  mv s10, a0
  li s11, BLOCK
  bne s10, s11, 2f
  ld a0, 8(sp)
  call block_seed
  la a0, buffer
  la a4, text_file
  call check_block
  ld ra, 0(sp)
  addi sp, sp, 16
1: ret
2: fail text_read

open_file:                          # prefix + a letter for the worker → a0
  la t0, path
  global t1, prefix
1: lbu t2, 0(t1)
  beqz t2, 2f
  sb t2, 0(t0)
  addi t0, t0, 1
  addi t1, t1, 1
  la t2, path_end
  bltu t0, t2, 1b
2: addi t2, s1, '0'
  sb t2, 0(t0)
  sb zero, 1(t0)
  li a0, AT_FDCWD
  la a1, path
  li a2, O_RDWR | O_CREAT
  li a3, 0x180
  syscall SYS_openat
  ret

# The token: each worker receives it with its own previous number plus the number of workers.
token_turn:
  enter
  slli t0, s1, 3
  la t1, pipes
  add s2, t1, t0
  lw a0, 0(s2)
  la a1, line
  li a2, 8
  syscall SYS_read
  li t0, 8
  bne a0, t0, 3f
  la t0, line
  ld s10, 0(t0)
  global s11, workers
  add s11, s11, s9
  bltz s9, 1f
  beq s10, s11, 1f
  fail text_token
1: mv s9, s10
  addi s10, s10, 1
  sd s10, 0(t0)
  ld t1, W_TOKENS(s0)
  addi t1, t1, 1
  sd t1, W_TOKENS(s0)
  addi t1, s1, 1
  global t2, workers
  bltu t1, t2, 2f
  li t1, 0
2: slli t1, t1, 3
  la t2, pipes
  add t1, t1, t2
  lw a0, 4(t1)
  la a1, line
  li a2, 8
  syscall SYS_write
  mv s10, a0
  li s11, 8
  beq s10, s11, 3f
  fail text_token
3: leave

.data
.align 3
workers: .dword 0
megabytes: .dword 4
nap_ms: .dword 0
quiet: .dword 0
prefix: .dword default_prefix
disk_path: .dword 0
records: .dword 0
line_used: .dword 0
tenth: .dword 0, 100000000
nap_time: .dword 0, 0
stop_path: .asciz "/run/witness.stop"
default_prefix: .asciz "/run/witness.file."
text_usage: .asciz "usage: witness [-q] [-n processes] [-m MiB] [-s ms] [-f file-prefix] [-d disk]\n"
text_newline: .asciz "\n"
text_n: .asciz "witness: n="
text_pages: .asciz " pages="
text_files: .asciz " files="
text_disks: .asciz " disk="
text_tokens: .asciz " tokens="
text_gap: .asciz " gap_us="
text_max_gap: .asciz " maxgap_us="
text_all_ok: .asciz " mem=ok file=ok\n"
text_pass: .asciz "witness: PASS n="
text_fail: .asciz "witness: FAIL "
text_worker: .asciz " worker="
text_found: .asciz " found="
text_expected: .asciz " expected="
text_set_up: .asciz "set-up"
text_count: .asciz "counter"
text_float: .asciz "floating-point register"
text_clock: .asciz "clock ran backwards"
text_nap: .asciz "sleep ended early"
text_memory: .asciz "memory"
text_file: .asciz "file or disk contents"
text_read: .asciz "read"
text_write: .asciz "write"
text_token: .asciz "token"
text_died: .asciz "process died"
text_stalled: .asciz "process stalled"

.section .bss
.align 12
buffer: .space BLOCK
line: .space 1024
path: .space 256
path_end: .space 8
.align 3
pipes: .space MAX_WORKERS * 8
