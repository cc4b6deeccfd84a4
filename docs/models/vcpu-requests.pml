/* vCPU requests, modes, kicks, block and WAIT, as implemented by src/hypervisor/requests/vcpu-requests.ts,
 * vcpu-thread.ts (run, #park, #block) and vm.ts (pause, resume). The model has one vCPU and four other
 * threads: the first makes a request that wakes the vCPU (UNBLOCK), the second a request with WAIT and
 * NO_WAKEUP (TLB_FLUSH), the third pauses and resumes the vCPU, the fourth raises an interrupt (posted if the
 * vCPU is in the guest). Atomics are sequentially consistent, as Promela is.
 *
 * Checked properties: a request that wakes the vCPU is handled; a raised interrupt is taken (neither is lost,
 * and no wake-up is); WAIT returns only after the vCPU has left the guest code that ran when the request was
 * made; pause returns only with the vCPU outside the guest; no thread waits for ever.
 *
 * tools/check-model.sh runs spin on the model, and again with each planted bug (-DBUG=1..5), which spin must
 * find:
 *   BUG 1: the vCPU checks for requests before, not after, its mode becomes IN_GUEST
 *   BUG 2: block() looks for a reason to run before it raises the sleeping mark, and does not compare the
 *          wake counter
 *   BUG 3: WAIT trusts the mode alone after its wake-up, and does not wait for a vCPU that is EXITING
 *   BUG 4: the thread marks itself parked in a word other than the one it sleeps on: a resume and a new pause
 *          between the mark and the sleep leave it asleep
 *   BUG 5: the device checks whether the vCPU is in the guest before it sets the interrupt's line, not after
 */
#ifndef BUG
#define BUG 0
#endif

#define OUTSIDE 0
#define IN_GUEST 1
#define EXITING 2
#define READING 3
#define GO 1
#define PAUSE 0
#define PARKED 2
#ifndef CAP
#define CAP 2
#endif
/* CAP: how many exits and blocks the guest causes. It bounds the counters, so they do not wrap. */
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef THREADS
#define THREADS 15 /* 1 the unblocker, 2 the flusher, 4 the VMM, 8 the device */
#endif

byte mode = OUTSIDE;
bool req_wakes, req_nowake;   /* the request bitmap */
bool kick;                    /* the word that the engine polls */
bool line;                    /* an interrupt is pending; the engine polls this as well */
bool sleeping;
byte wake;
byte exits;
byte waiters;
byte run_control = GO;
#if BUG == 4
bool parked_mark;
#define parked (run_control == PAUSE && parked_mark)
#else
#define parked (run_control == PARKED)
#endif

/* Atomics.wait on a word: asleep until another thread notifies it. */
bool asleep_wake, asleep_run, asleep_exits;

/* Ghost variables: they exist only for the properties. */
bool in_guest;        /* guest instructions are executing */
bool stale;           /* the same guest instructions were executing when the WAIT request was made */
bool made_wakes, handled_wakes;
bool raised, taken;
byte handled_nowake;
byte voluntary;
byte vmm_rounds;

inline notify_exits() { if :: waiters > 0 -> asleep_exits = false :: else fi }

inline leave_guest() {
  mode = OUTSIDE;
  exits++;
  notify_exits()
}

inline handle_requests() {
  if :: req_wakes -> req_wakes = false; handled_wakes = true :: else fi;
  if :: req_nowake -> req_nowake = false; handled_nowake++ :: else fi
}

active proctype vcpu() {
  byte seen;
  bool reason;
top:
  /* #park */
  do
  :: run_control == GO -> break
  :: else ->
#if BUG == 4
     parked_mark = true;
     atomic { if :: run_control == PAUSE -> asleep_run = true :: else fi };
#else
     atomic { if :: run_control == PAUSE -> run_control = PARKED :: else fi };
     atomic { if :: run_control == PARKED -> asleep_run = true :: else fi };
#endif
     !asleep_run
  od;
  handle_requests();
  if
  :: voluntary < CAP -> voluntary++; goto block   /* WFI with nothing pending */
  :: voluntary < CAP -> voluntary++;              /* a walk of guest memory outside the guest */
     mode = READING;
     leave_guest();
  :: true
  fi;
#if BUG == 1
  if :: req_wakes || req_nowake || run_control != GO -> goto top :: else fi;
#endif
  kick = false;
  mode = IN_GUEST;
#if BUG != 1
  if :: req_wakes || req_nowake || run_control != GO -> leave_guest(); goto top :: else fi;
#endif
  in_guest = true;
  do
  :: kick -> break
  :: line -> atomic { line = false; taken = true }
  :: voluntary < CAP -> voluntary++; break       /* an exit that the guest causes */
  od;
  atomic { in_guest = false; stale = false };
  leave_guest();
  goto top;

block:
#if BUG == 2
  reason = req_wakes || line || run_control != GO;
  sleeping = true;
  if :: !reason -> asleep_wake = true; !asleep_wake :: else fi;
#else
  seen = wake;
  sleeping = true;
  reason = req_wakes || line || run_control != GO;
  if
  :: !reason ->
     atomic { if :: wake == seen -> asleep_wake = true :: else fi };
     !asleep_wake
  :: else
  fi;
#endif
  sleeping = false;
  goto top
}

inline wake_up() { wake++; asleep_wake = false }

/* Sets `hit` if the target was in the guest, leaving it, or reading guest memory. */
inline do_kick(hit) {
  byte previous;
  atomic {
    previous = mode;
    if :: mode == IN_GUEST -> mode = EXITING :: else fi
  };
  if :: previous == IN_GUEST -> kick = true :: else fi;
#if BUG == 3
  hit = (previous == IN_GUEST)
#else
  hit = (previous != OUTSIDE)
#endif
}

inline wait_outside(before) {
  waiters++;
  do
  :: mode == OUTSIDE -> break
  :: mode != OUTSIDE && exits != before -> break
  :: mode != OUTSIDE && exits == before ->
     atomic { if :: exits == before -> asleep_exits = true :: else fi };
     !asleep_exits
  od;
  waiters--
}

#if THREADS & 1
active proctype unblocker() {
  bool hit;
  atomic { req_wakes = true; made_wakes = true };
  if :: sleeping -> wake_up() :: else fi;
  do_kick(hit)
}

#endif

#if THREADS & 8
active proctype device() {
  bool hit;
  bool posted;
#if BUG == 5
  posted = (mode == IN_GUEST);
#endif
  atomic { line = true; raised = true };
#if BUG != 5
  posted = (mode == IN_GUEST);
#endif
  if
  :: posted
  :: else ->
     req_wakes = true;
     if :: sleeping -> wake_up() :: else fi;
     do_kick(hit)
  fi
}

#endif

#if THREADS & 2
active proctype flusher() {
  bool hit;
  byte before;
  atomic { req_nowake = true; stale = in_guest };
  before = exits;
  do_kick(hit);
  if :: hit -> wait_outside(before) :: else fi;
  assert(!stale)
}

#endif

#if THREADS & 4
active proctype vmm() {
  bool hit;
  byte before;
  do
  :: vmm_rounds == ROUNDS -> break
  :: else ->
     vmm_rounds++;
     run_control = PAUSE;
     wake_up();
     before = exits;
     do_kick(hit);
     if :: hit -> wait_outside(before) :: else fi;
     parked;
     /* Registers are read here: no guest code may run until resume. */
     assert(!in_guest && mode != IN_GUEST && mode != EXITING);
#if BUG == 4
     parked_mark = false;
#endif
     run_control = GO;
     asleep_run = false
  od
}

#endif

/* With no sender left and nothing pending, the vCPU may sleep for ever: the only valid end state. */
ltl no_lost_request { [] (made_wakes -> <> handled_wakes) }
ltl no_lost_interrupt { [] (raised -> <> taken) }
ltl waiters_return { <> [] (waiters == 0) }
ltl pause_returns { <> ((THREADS & 4) == 0 || (vmm_rounds == ROUNDS && run_control == GO)) }
