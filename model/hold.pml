/* SPDX-License-Identifier: BSD-3-Clause */
/* The gate, as other threads pass it: src/sync/gate_hold.c. */

/* try_claim(). Load and compare-and-swap are one step: a swap that fails is a load that came later. */
inline try_claim()
{
	at = 0;
	do
	:: at < RECORDS ->
		atomic {			/* GC1 */
			if			/* GH2 */
			:: record[(me + at) % RECORDS] == 0 ->
				record[(me + at) % RECORDS] = me + 1;
				mine = (me + at) % RECORDS;
				at = 0;
				LOCKED;
				break
			:: else -> at++
			fi
		}
	:: else -> at = 0; break
	od
}

/* claim(), claim_in_crowd() */
inline claim()
{
	try_claim();
	if
	:: mine != NOBODY
	:: else ->
		/* GH3 */
#if MUTANT != crowd_joined_after_look
		atomic { crowd++; LOCKED };	/* GC2 */
#endif
		do
		::
#if MUTANT != freed_read_after_look
		   freed_moved = freed_moved & ~ME_BIT;	/* GC3 */
#endif
		   try_claim();
		   if
		   :: mine != NOBODY -> break
		   :: else
		   fi;
#if MUTANT == freed_read_after_look
		   freed_moved = freed_moved & ~ME_BIT;
#endif
#if MUTANT == crowd_joined_after_look
		   atomic { crowd++; LOCKED };
#endif
		   SLEEP(asleep_freed, !(freed_moved & ME_BIT));	/* GC4 */
		   !(asleep_freed & ME_BIT);
#if MUTANT == crowd_joined_after_look
		   atomic { crowd--; LOCKED }
#endif
		od
#if MUTANT != crowd_joined_after_look
		;
		atomic { crowd--; LOCKED }
#endif
	fi
}

/* release() */
inline release()
{
	atomic { record[mine] = 0; mine = NOBODY; LOCKED };	/* GC5 */
	if
	:: crowd > 0 ->				/* GC6 */
		atomic { freed_moved = ALL_THREADS; LOCKED }
#if MUTANT != no_wake_of_crowd
		;
		WAKE_ONE(asleep_freed)
#endif
	:: else
	fi
}

/* gm_gate_enter(), hold_shut(); also_passes: the thread is inside by a pass, too. */
inline gate_enter(also_passes)
{
	WANTS;
	claim();
#if MUTANT == records_taken_while_shut
	atomic { INTO_THE_GATE };
#else
	LOOK_AT_SHUT;				/* GC7 */
#endif
	if
	:: !seen
	:: seen && also_passes ->
#if MUTANT != added_without_lock
		LOCK;				/* G6 */
		UNLOCK;
#endif
		atomic { INTO_THE_GATE }
	:: seen && !also_passes ->
		if
		:: skip
		:: LOCK; UNLOCK
		fi;
		WAITING_BEGIN;
		do
		:: release();
		   wake_inhibitor();		/* GC8 */
		   gate_sleep();
		   claim();
		   atomic {			/* GC7 */
			if
			:: shut != 0 -> tmp = 0
			:: else -> tmp = 1; INTO_THE_GATE
			fi
		   };
		   if
		   :: tmp -> break
		   :: else
		   fi
		od;
		tmp = 0;
		waiting_end()
	fi;
	seen = 0
}

/* gm_gate_leave() */
inline gate_leave()
{
	inside--;
	release()
#if MUTANT != no_wake_on_leave
	;
	if
	:: shut != 0 -> wake_inhibitor()	/* GC8 */
	:: else
	fi
#endif
}
