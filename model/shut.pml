/* SPDX-License-Identifier: BSD-3-Clause */
/* The inhibitor's side of the gate: src/sync/gate_shut.c. */

#if DEADLINES
#define MAY_EXPIRE \
	if \
	:: in_time && mortal -> in_time = 0; placed = 1 \
	:: skip \
	fi
#else
#define MAY_EXPIRE skip
#endif

/* The map's slots_lock: commits come one after the other (G8). */
#if MUTANT == two_inhibitors_at_once
#define SLOTS_LOCK skip
#define SLOTS_UNLOCK skip
#else
#define SLOTS_LOCK atomic { !slots_locked -> slots_locked = 1; LOCKED }
#define SLOTS_UNLOCK atomic { slots_locked = 0; LOCKED }
#endif

/* gm_gate_let_in(): it may end at any time, unless PATIENT. */
inline let_in()
{
	do
	:: atomic {				/* GQ3 */
		other = waiting;
		if
		:: !other || MUTANT == no_letting_in -> other = 0; break
		:: else
		fi
	   };
	   atomic {
		if
		:: COMPARE(waiting == other) -> asleep_waiting = 1
		:: else
		fi;
		other = 0
	   };
	   if
	   :: !asleep_waiting
#if !PATIENT
	   :: atomic { skip -> asleep_waiting = 0; break }
#endif
	   fi
	od
}

#if BINDS
#define BOUND_ELSEWHERE(p) (bound[p] && p != me)
#else
#define BOUND_ELSEWHERE(p) (p != me)
#endif

#if FAILS
#define BARRIER_AHEAD (!barrier_done && membarrier)
#define CREDIBLE(p) \
	(barrier_done || membarrier || fenced[p] || !BOUND_ELSEWHERE(p) || MUTANT == busy_believed)
#elif BUFFERED
#define BARRIER_AHEAD (!barrier_done)
#define CREDIBLE(p) 1
#else
#define BARRIER_AHEAD 0
#define CREDIBLE(p) 1
#endif

/* heavy_barrier(): each thread executes a full barrier, one after the other. */
inline heavy_barrier()
{
#if BUFFERED
	/* Is a pass bound to another thread? */
	at = 0;
	seen = 0;
	do
	:: at < PASSES -> atomic { if :: BOUND_ELSEWHERE(at) -> seen = 1 :: else fi; at++ }	/* GB2 */
	:: else -> break
	od;
	at = 0;
#if FAILS
	if
	:: seen -> seen = 0; atomic { skip -> membarrier = 0; LOCKED }	/* GF3 */
	:: skip
	fi;
	if
	:: !membarrier -> skip
	:: else ->
#endif
	do
	:: at < PASSES ->
		atomic {			/* GS2 */
			if
			:: seen && MUTANT != no_membarrier && MUTANT != membarrier_before_shut ->
				DRAIN(at)
			:: else
			fi;
			at++
		}
	:: else -> break
	od;
	barrier_done = 1;
#if FAILS
	fi;
#endif
	at = 0;
	seen = 0
#else
	skip
#endif
}

/* kick(): GK1, GK2, GK3; pre: the thread was seen inside. */
inline kick(p)
{
	if
	:: fresh[p] || owed[p] ->
		fresh[p] = 0;
		owed[p] = 0;
#if MUTANT == signal_before_mark
		pending[p] = 1;
		mark_kicked(p)
#else
		mark_kicked(p);
		if
		:: pending[p] = 1		/* GK3 */
#if EAGAIN
		:: atomic { may_fail -> may_fail = 0; owed[p] = (MUTANT != eagain_forgotten) }
#endif
		fi
#endif
	:: else
	fi
}

#if PASSES > 0
/* take_token(), of the pass that is looked at. */
inline take_token(counts)
{
	atomic { tmp = awaited[at]; awaited[at] = 0; LOCKED };	/* GW2 */
	if
	:: tmp -> atomic { tmp = 0; tokens = tokens - (counts); LOCKED }
	:: else
	fi
}

#if FAILS
#define SURE seen
#else
#define SURE true
#endif
#if MUTANT == credible_asked_after_busy
#define BUSY other
#else
#define BUSY busy[at]
#endif
#define TAKES_BACK (MUTANT != token_not_taken_back)

/* await_pass(): is it inside? Then other is 1, and it has a token. */
inline await_pass()
{
	if
	:: SURE && BUSY == 0 ->			/* GS3, GW2 */
		if
		:: TAKES_BACK -> take_token(1)
		:: else
		fi;
		other = 0
	:: else ->
		atomic { tmp = awaited[at]; awaited[at] = 1; LOCKED };	/* GW2 */
		if
		:: !tmp -> atomic { tokens++; LOCKED }
		:: else -> tmp = 0
		fi;
		if
		:: SURE && busy[at] == 0 && MUTANT != busy_not_read_again ->	/* GW2 */
			if
			:: TAKES_BACK -> take_token(1)
			:: else
			fi;
			other = 0
		:: else -> other = 1
		fi
	fi
}

/* look() at the passes. */
inline look_at_passes()
{
	at = 0;
	do
	:: at < PASSES ->
#if MUTANT == credible_asked_after_busy
		other = busy[at];
#endif
#if FAILS
		seen = CREDIBLE(at);		/* GF2 */
#endif
		await_pass();
		if
		:: other ->
			atomic { other = 0; found = 1; awaits = 1 };
			kick(at);
#if FAILS
			/* Not sure of him: he is woken, to show what he knows. */
			if
			:: !seen -> asleep_shut = 0; poll = 1
			:: else
			fi;
#endif
			poll = poll || owed[at]
		:: else
		fi;
#if FAILS
		seen = 0;
#endif
#if MUTANT == look_without_lock
		UNLOCK;
		INHIBITOR_LOCK;
#endif
		at++
	:: else -> break
	od;
	at = 0
}

/* take_all_tokens() */
inline take_all_tokens()
{
	LOCK;
	at = 0;
	do
	:: at < PASSES -> take_token((MUTANT != expired_keeps_count)); at++	/* GD3 */
	:: else -> break
	od;
	at = 0;
	UNLOCK
}
#else
#define look_at_passes() skip
#define take_all_tokens() skip
#endif

inline look_at_records()
{
	do
	:: at < RECORDS ->
		atomic {			/* GS3, GW2 */
			if
			:: record[at] != 0 -> found = 1
			:: else
			fi;
			at++
		}
	:: else -> break
	od;
	at = 0
}

/* all_out() */
inline all_out()
{
	INHIBITOR_LOCK;
	do
	:: atomic { found = 0; awaits = 0; poll = 0 };
	   look_at_passes();
	   look_at_records();
	   if
	   :: !found && BARRIER_AHEAD ->
		heavy_barrier()
#if MUTANT == no_look_after_barrier
		;
		break
#endif
	   :: else -> break
	   fi
	od;
	poll = (poll || BARRIER_AHEAD) && MUTANT != no_poll_before_barrier;
	atomic {
		UNLOCK;
		if
		:: !found ->
			CLAIM(one_inhibitor_at_a_time, !held);
			held = 1;
			GETS;
			CLAIM(G1_nobody_inside_while_shut, inside == 0)
		:: else
		fi
	}
}

/* drain() */
inline drain()
{
	do
	::
#if MUTANT != left_read_after_look
	   left_moved = 0;			/* GW1 */
#endif
	   all_out();
	   if
	   :: !found -> break
	   :: else
	   fi;
	   MAY_EXPIRE;				/* GD2 */
	   if
	   :: !in_time -> break
	   :: else
	   fi;
	   if
	   :: awaits && tokens == 0 && MUTANT != tokens_not_looked_at	/* GW3 */
	   :: else ->
#if MUTANT == left_read_after_look
		left_moved = 0;
#endif
		atomic {			/* GW3 */
			if
			:: COMPARE(!left_moved) -> asleep_left = 1
			:: else
			fi
		};
		if
		:: !asleep_left
		:: poll -> asleep_left = 0	/* GD1 */
#if DEADLINES
		:: mortal -> atomic { asleep_left = 0; in_time = 0; placed = 1 }
#endif
		fi
	   fi
	od;
	atomic { poll = 0; awaits = 0 }
}

/* end_shut() */
inline end_shut()
{
#if MUTANT == waiting_read_before_open
	seen = waiting;
#endif
	if
	:: in_time || MUTANT != expired_leaves_shut -> atomic { held = 0; shut = 0; LOCKED }	/* GE1 */
	:: else
	fi;
#if MUTANT == waiting_read_before_open
	if
	:: seen -> asleep_shut = 0
	:: else
	fi;
	seen = 0
#elif MUTANT != open_without_wake
	if
	:: waiting -> asleep_shut = 0		/* GE2 */
	:: else
	fi
#endif
}

/* round++ */
#if PASSES == 3
#define NEXT_ROUND atomic { fresh[0] = 1; fresh[1] = 1; fresh[2] = 1 }
#elif PASSES == 2
#define NEXT_ROUND atomic { fresh[0] = 1; fresh[1] = 1 }
#else
#define NEXT_ROUND fresh[0] = 1
#endif

/* gm_gate_shut(), then gm_gate_open() */
inline commit(may_expire)
{
	atomic {
		in_time = 1;
		mortal = DEADLINES == 2 || (DEADLINES && (may_expire));
		barrier_done = 0;
		committing++;
		WANTS
	};
	SLOTS_LOCK;
	let_in();
	NEXT_ROUND;
#if MUTANT == membarrier_before_shut
	atomic {
		do
		:: at < PASSES -> DRAIN(at); at++
		:: else -> break
		od;
		at = 0
	};
#endif
	atomic { shut = 1; LOCKED };	/* GS1 */
	drain();
	if
	:: found && MUTANT != expired_leaves_tokens -> take_all_tokens()	/* GD3 */
	:: else
	fi;
	found = 0;
	end_shut();
	SLOTS_UNLOCK;
	atomic { barrier_done = 0; committing--; if :: mortal -> mortal = 0; placed = 1 :: else fi }
}

#define INHIBITOR_LOCALS \
	bool in_time, mortal, barrier_done, poll, found, awaits; \
	byte other;
