/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate's protocol (src/sync/gate.c, gate_hold.c, gate_shut.c) as threads, words of memory and futexes,
 * for spin to search exhaustively. README.md says what is here, what is left out, and where each label is in
 * the source. run.py makes the configurations and the mutants.
 *
 * One Promela statement is one access to shared memory. What stands in atomic{} with it touches locals and
 * ghosts only, or is one locked instruction with it. Labels stand in comments beside the statements that they
 * name: GO1, GS2, ...
 */
#include "config.pml"
#include "memory.pml"
#include "pass.pml"
#include "hold.pml"
#include "shut.pml"

/* --------------------------------------------------------------------------- threads --- */

#define OWN_LOCALS \
	byte at, seen; \
	bool tmp;

#define END ended = ended | ME_BIT

#if VCPUS > 0
/* gpamap_vcpu_run(), and what the application does around it. */
proctype vcpu(byte me)
{
	OWN_LOCALS
#if VCPU_COMMITS > 0
	INHIBITOR_LOCALS
	byte commits;
#endif
	byte runs;
	bool interrupted;

	do
	:: RUNS == 0 || runs < RUNS ->
		if
		:: RUNS > 0 -> runs++
		:: else
		fi;
		do
		:: pass_enter(0, false);
		   kvm_run(interrupted);
#if MUTANT != commit_from_inside
		   pass_leave(0);
#endif
		   /* The application's loop: -EINTR, and it has not asked for it itself. */
		   if
		   :: !interrupted -> break
		   :: interrupted && immediate_exit[me] == 1 -> break
		   :: else -> interrupted = 0
		   fi
		od;
		interrupted = 0;
#if APPLICATION
		if
		:: me == 0 && requested -> atomic { requested = 0; immediate_exit[me] = 0 }
		:: else
		fi;
#endif
#if VCPU_COMMITS > 0
		if
		:: commits < VCPU_COMMITS -> commits++; commit(commits < VCPU_COMMITS)
		:: skip
		fi;
#endif
#if MUTANT == commit_from_inside
		pass_leave(0)
#endif
	:: else -> break
	od;
	END
}
#endif

#if MIXED > 0
/* A thread that nests holds of its vCPU and of a record and gives them back in any order. */
proctype mixed(byte me)
{
	OWN_LOCALS
	byte depth, steps, mine = NOBODY;
	bool ignored;

	do
	:: steps < STEPS && depth < 2 ->
		steps++;
		pass_enter(depth, (mine != NOBODY));
		depth++
	:: steps < STEPS && depth > 0 ->
		steps++;
		kvm_run(ignored);
		ignored = 0
	:: steps < STEPS && mine == NOBODY ->
		steps++;
		gate_enter((depth > 0))
	:: depth > 0 ->
		depth--;
		pass_leave(depth)
	:: mine != NOBODY ->
		gate_leave()
	:: depth == 0 && mine == NOBODY -> break
	od;
	END
}
#endif

#if HOLDERS > 0
proctype holder(byte me)
{
	OWN_LOCALS
	byte holds, mine = NOBODY;		/* GH1 */

	do
	:: HOLDS == 0 || holds < HOLDS ->
		if
		:: HOLDS > 0 -> holds++
		:: else
		fi;
		gate_enter(false);
		gate_leave()
	:: else -> break
	od;
	END
}
#endif

#if INHIBITORS > 0
proctype committer(byte me)
{
	OWN_LOCALS
	INHIBITOR_LOCALS
	byte commits;

	do
	:: COMMITS == 0 || commits < COMMITS ->
		if
		:: COMMITS > 0 -> commits++
		:: else
		fi;
		commit(commits < COMMITS)
	:: else -> break
	od;
	END
}
#endif

#if APPLICATION
/* Another thread of the application asks vCPU 0 to come out. */
active proctype application()
{
	atomic { immediate_exit[0] = 1; requested = 1 };
	pending[0] = 1
}
#endif

init {
	atomic {
		byte i;

		do
#if VCPUS > 0
		:: i < VCPUS -> run vcpu(i); i++
#endif
#if MIXED > 0
		:: i >= VCPUS && i < PASSES -> run mixed(i); i++
#endif
#if HOLDERS > 0
		:: i >= PASSES && i < PASSES + HOLDERS -> run holder(i); i++
#endif
#if INHIBITORS > 0
		:: i >= PASSES + HOLDERS && i < THREADS -> run committer(i); i++
#endif
		:: i == THREADS -> break
		od
	}
}

/* --------------------------------------------------------------------------- at rest --- */

#if !LIVE
/* When nothing can move any more: everybody has got where he wanted, and the gate is as it was made. */
active proctype at_rest()
{
	byte p;

end:
	atomic {
		timeout ->
		CLAIM(P6_expired_leaves_no_trace, committing > 0 ||
		      (shut == 0 && !slots_locked && !lock && !held && tokens == 0));
		CLAIM(P6_nobody_waits_for_ever, (ended | in_guest) == ALL_THREADS);
		CLAIM(P6_expired_leaves_no_trace, waiting == 0 && crowd == 0);
		do
		:: p < PASSES ->
			CLAIM(G5_no_mark_forgotten, immediate_exit[p] != 2 || kicked[p]);
			CLAIM(P6_expired_leaves_no_trace, committing > 0 || !awaited[p]);
			p++
		:: else -> break
		od;
		CLAIM(G5_request_of_application_answered, !requested || !(in_guest & 1))
	}
}
#endif

#if LIVE
/* The last thread is an inhibitor where these are used, and thread 0 a vCPU or holder. */
ltl gets_its_turn { [] (wants[THREADS - 1] -> <> !wants[THREADS - 1]) }
ltl gets_in { [] (wants[0] -> <> !wants[0]) }
#endif
