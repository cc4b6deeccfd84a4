# Zeroed memory. Assembled last.
.section .bss
.align 14
bss_start:
harts: .space MAX_HARTS * HART_SIZE
harts_end:
disk_queue: .space 2 * PAGE
disk_buffers: .space SLOTS * PAGE
mail: .space MAX_HARTS << MAIL_SHIFT
disk_slots: .space SLOTS << SLOT_SHIFT
disk_generations: .space MAX_BLOCKS * 4
.align 6
shared_amo: .space 64               # each on its own cache line
shared_lrsc: .space 64
shared_time: .space 64
.macro variable name
\name: .space 8
.endm
variable boot_hart
variable hart_count
variable ram_end
variable boot_args
variable use_sstc
variable start_time
variable last_report
variable key
variable stopping
variable released
variable fail_lock
variable fail_cause
variable plant_ipi
variable harts_lock             # held during a remote fence, or while a hart is being stopped and started
variable hotplug_hart
variable hotplug_next
variable hotplug_time
variable hotplug_count
variable disk_regs
variable disk_irq
variable disk_event
variable disk_seen
variable disk_budget
variable disk_flush
variable disk_blocks
variable disk_writes
variable opt_mem
variable opt_rate
variable opt_period
variable opt_report
variable opt_harts
variable opt_idle
variable opt_spin
variable opt_io
variable opt_blocks
variable opt_nodisk
variable opt_poll
variable opt_sbi_timer
variable opt_suspend
variable opt_hotplug
.align 12
image_end:
