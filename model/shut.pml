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

/* inhibitor_lock() */
inline inhibitor_lock(ok)
{
	atomic {				/* I1 */
		ok = 0;
		if
		:: inhibitor == 0 || MUTANT == two_inhibitors_at_once ->
			inhibitor = me + 1;
			ok = 1;
			LOCKED
		:: else -> other = inhibitor
		fi
	};
	if
	:: ok
	:: else ->
		atomic { inhibitors_waiting++; LOCKED };	/* I2 */
		do
		:: atomic {			/* I3 */
			if
			:: inhibitor == 0 -> inhibitor = me + 1; ok = 1; LOCKED; break
			:: else -> other = inhibitor
			fi
		   };
		   MAY_EXPIRE;
		   if
		   :: !in_time -> break
		   :: else
		   fi;
		   SLEEP(asleep_inhibitor, inhibitor == other);	/* I4 */
		   if
		   :: !(asleep_inhibitor & ME_BIT)
#if DEADLINES
		   :: mortal ->
			atomic {
				asleep_inhibitor = asleep_inhibitor & ~ME_BIT;
				in_time = 0;
				placed = 1
			}
#endif
		   fi
		od;
		if
		:: ok || MUTANT != expired_stays_queued ->
			atomic { inhibitors_waiting--; LOCKED }	/* I5 */
		:: else
		fi
	fi;
	other = 0
}

/* inhibitor_unlock() */
inline inhibitor_unlock()
{
	atomic { inhibitor = 0; LOCKED };	/* I6 */
	if
	:: inhibitors_waiting > 0 && MUTANT != no_wake_of_next_inhibitor ->	/* I7 */
		WAKE_ONE(asleep_inhibitor)
	:: else
	fi
}

/* let_in(): it may end at any time, unless PATIENT. */
inline let_in()
{
	do
	:: atomic {				/* Q3 */
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
	:: at < PASSES -> atomic { if :: BOUND_ELSEWHERE(at) -> seen = 1 :: else fi; at++ }	/* B2 */
	:: else -> break
	od;
	at = 0;
#if FAILS
	if
	:: seen -> seen = 0; atomic { skip -> membarrier = 0; LOCKED }	/* F3 */
	:: skip
	fi;
	if
	:: !membarrier -> skip
	:: else ->
#endif
	do
	:: at < PASSES ->
		atomic {			/* S2 */
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

/* kick(): K1, K2, K3; pre: the thread was seen inside. */
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
		:: pending[p] = 1		/* K3 */
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
	atomic { tmp = awaited[at]; awaited[at] = 0; LOCKED };	/* W2 */
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
	:: SURE && BUSY == 0 ->			/* S3, W2 */
		if
		:: TAKES_BACK -> take_token(1)
		:: else
		fi;
		other = 0
	:: else ->
		atomic { tmp = awaited[at]; awaited[at] = 1; LOCKED };	/* W2 */
		if
		:: !tmp -> atomic { tokens++; LOCKED }
		:: else -> tmp = 0
		fi;
		if
		:: SURE && busy[at] == 0 && MUTANT != busy_not_read_again ->	/* W2 */
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
		seen = CREDIBLE(at);		/* F2 */
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
	:: at < PASSES -> take_token((MUTANT != expired_keeps_count)); at++	/* D3 */
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
		atomic {			/* S3, W2 */
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
	   left_moved = 0;			/* W1 */
#endif
	   all_out();
	   if
	   :: !found -> break
	   :: else
	   fi;
	   MAY_EXPIRE;				/* D2 */
	   if
	   :: !in_time -> break
	   :: else
	   fi;
	   if
	   :: awaits && tokens == 0 && MUTANT != tokens_not_looked_at	/* W3 */
	   :: else ->
#if MUTANT == left_read_after_look
		left_moved = 0;
#endif
		atomic {			/* W3 */
			if
			:: COMPARE(!left_moved) -> asleep_left = 1
			:: else
			fi
		};
		if
		:: !asleep_left
		:: poll -> asleep_left = 0	/* D1 */
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
	if
	:: in_time || MUTANT != expired_leaves_shut -> atomic { held = 0; shut = 0; LOCKED }	/* E1 */
	:: else
	fi;
#if MUTANT != open_without_wake
	asleep_shut = 0;			/* E2 */
#endif
	if
	:: in_time || MUTANT != expired_keeps_turn -> inhibitor_unlock()
	:: else
	fi
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
	inhibitor_lock(found);
	if
	:: found ->
		found = 0;
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
		atomic { shut = 1; LOCKED };	/* S1 */
		drain();
		if
		:: found && MUTANT != expired_leaves_tokens -> take_all_tokens()	/* D3 */
		:: else
		fi;
		found = 0;
		end_shut()
	:: else
	fi;
	atomic { barrier_done = 0; committing--; if :: mortal -> mortal = 0; placed = 1 :: else fi }
}

#define INHIBITOR_LOCALS \
	bool in_time, mortal, barrier_done, poll, found, awaits; \
	byte other;
