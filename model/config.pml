/* SPDX-License-Identifier: BSD-3-Clause */
/* The macros that make a configuration, or a mutant, of the model: run.py defines them. */

#ifndef VCPUS
#define VCPUS 0 /* threads that run a vCPU */
#endif
#ifndef MIXED
#define MIXED 0 /* threads that have a vCPU and nest holds of both kinds, in any order */
#endif
#ifndef HOLDERS
#define HOLDERS 0 /* threads that do ioctls and are no vCPU */
#endif
#ifndef INHIBITORS
#define INHIBITORS 0 /* threads that commit, and do nothing else */
#endif
#ifndef RECORDS
#define RECORDS 1 /* for holders: GM_HOLDERS in the source */
#endif
#ifndef RUNS
#define RUNS 1 /* times that a vCPU is asked to run; 0: for ever */
#endif
#ifndef HOLDS
#define HOLDS 1 /* times that a holder is inside; 0: for ever */
#endif
#ifndef COMMITS
#define COMMITS 1 /* by each inhibitor; 0: for ever */
#endif
#ifndef VCPU_COMMITS
#define VCPU_COMMITS 0 /* commits that each vCPU thread may do between two runs */
#endif
#ifndef STEPS
#define STEPS 3 /* enters and runs of a mixed thread */
#endif
#ifndef FENCES
#define FENCES 0 /* 1: full fences, no membarrier and no store buffers */
#endif
#ifndef FAILS
#define FAILS 0 /* 1: membarrier may fail, and the gate changes to full fences */
#endif
#ifndef DEADLINES
#define DEADLINES 0 /* 1: all commits of a thread but its last may run out of time; 2: all may */
#endif
#ifndef STUCK
#define STUCK 0 /* 1: a vCPU may heed no kick until a commit has run out of time */
#endif
#ifndef BINDS
#define BINDS 0 /* 1: passes have no owner at first */
#endif
#ifndef EAGAIN
#define EAGAIN 0 /* 1: a kick's signal may fail to be sent, once */
#endif
#ifndef APPLICATION
#define APPLICATION 0 /* 1: the application asks vCPU 0 to come out, once */
#endif
#ifndef PATIENT
#define PATIENT 0 /* 1: an inhibitor lets in whom it has to, however long it takes */
#endif
#ifndef FAIR
#define FAIR 0 /* 1: the lock is fair; only for questions about infinite runs */
#endif
#ifndef LIVE
#define LIVE 0 /* 1: formulas about infinite runs; nothing to check at rest */
#endif
#ifndef MUTANT
#define MUTANT none
#endif

/* Mutants: run.py defines MUTANT as one of these names, and says there what is wrong with it. */
#define none 0
#define no_membarrier 1
#define membarrier_before_shut 2
#define no_look_after_barrier 3
#define shut_read_before_busy 4
#define no_recheck_after_sleep 5
#define no_wake_on_leave 6
#define no_wake_at_gate 7
#define token_given_before_busy_cleared 8
#define left_read_after_look 9
#define no_poll_before_barrier 10
#define open_without_wake 11
#define sleep_without_compare 12
#define asleep_while_busy 13
#define kick_taken_back_before_run 14
#define kick_taken_back_by_inner_leave 15
#define signal_before_mark 16
#define k1_k2_swapped 17
#define t1_t2_swapped 18
#define immediate_exit_overwritten 19
#define immediate_exit_cleared_blindly 20
#define no_kick_of_oneself 21
#define records_taken_while_shut 22
#define crowd_joined_after_look 23
#define freed_read_after_look 24
#define added_without_lock 25
#define look_without_lock 26
#define expired_leaves_shut 28
#define commit_from_inside 31
#define bound_after_look 32
#define busy_believed 33
#define no_letting_in 34
#define no_wake_when_in 35
#define eagain_forgotten 36
#define two_inhibitors_at_once 37
#define shut_read_before_leave 38
#define credible_asked_after_busy 39
#define no_wake_of_crowd 40
#define request_lost 41
#define busy_not_read_again 43
#define tokens_not_looked_at 44
#define token_not_taken_back 45
#define expired_keeps_count 46
#define expired_leaves_tokens 47
#define not_kicked_after_wait 48
#define waiting_read_before_open 49
#define late_kick_taken_back_after_look 50

#define PASSES (VCPUS + MIXED)
#define THREADS (PASSES + HOLDERS + INHIBITORS)
#define BUFFERED (PASSES > 0 && !FENCES)
#define ME_BIT (1 << me)
#define ALL_THREADS ((1 << THREADS) - 1)

/* Arrays of length 0 are not allowed. */
#if PASSES > 0
#define PASS_ARRAY PASSES
#else
#define PASS_ARRAY 1
#endif

#define BUFFER 2 /* stores of busy that a thread's buffer holds */
#define NOBODY 255
