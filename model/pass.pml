/* SPDX-License-Identifier: BSD-3-Clause */
/* The gate, as vCPUs pass it: src/sync/gate.c, gate_pass.h and gate_impl.h. */

/* --------------------------------------------------------------- what threads share --- */

/* gm_wake_inhibitor() */
inline wake_inhibitor()
{
	atomic { left_moved = 1; LOCKED };	/* GL4 */
	asleep_left = 0
}

/* gm_pass_give_token() */
inline give_token(wakes)
{
	atomic { tmp = awaited[me]; awaited[me] = 0; LOCKED };	/* GL4 */
	if
	:: tmp ->
		atomic { tokens--; tmp = (tokens == 0 && (wakes)); LOCKED };	/* GL4 */
		if
		:: tmp -> tmp = 0; wake_inhibitor()
		:: else
		fi
	:: else
	fi
}

/* gm_gate_sleep() */
inline gate_sleep()
{
	if
	:: shut != 0 ->				/* GA2 */
		SLEEP(asleep_shut, shut != 0);
		!(asleep_shut & ME_BIT)
	:: else
	fi
}

/* gm_mark_kicked(), by anybody: GK1, GK2. */
inline mark_kicked(p)
{
#if MUTANT == k1_k2_swapped
	atomic { kicked[p] = 1; LOCKED };
#endif
	atomic {				/* GK1 */
		if
		:: immediate_exit[p] == 0 || MUTANT == immediate_exit_overwritten ||
		   MUTANT == request_lost ->
			immediate_exit[p] = 2;
			LOCKED
		:: else
		fi;
		KEEPS_REQUEST(p)
	}
#if MUTANT != k1_k2_swapped
	;
	atomic { kicked[p] = 1; LOCKED }	/* GK2 */
#endif
}

inline clear_immediate_exit()
{
	atomic {				/* GT2 */
		if
		:: immediate_exit[me] == 2 || MUTANT == immediate_exit_cleared_blindly ->
			immediate_exit[me] = 0;
			LOCKED
		:: else
		fi;
		KEEPS_REQUEST(me)
	}
}

/* take_back() */
inline take_back()
{
	if
	:: kicked[me] ->
#if MUTANT == t1_t2_swapped
		clear_immediate_exit();
		atomic { kicked[me] = 0; LOCKED }
#else
		atomic { kicked[me] = 0; LOCKED };	/* GT1 */
		clear_immediate_exit()
#endif
	:: else
	fi
}

#define WAITING_BEGIN atomic { waiting++; LOCKED }	/* GQ1 */

inline waiting_end()
{
	atomic {				/* GQ2 */
		waiting--;
		LOCKED;
		tmp = (waiting == 0)
	};
	if
	:: tmp ->
#if MUTANT != no_wake_when_in
		asleep_waiting = 0;
#endif
		tmp = 0
	:: else
	fi
}

/* ------------------------------------------------------------------------ vCPUs pass --- */

#define LOOK_AT_SHUT atomic { seen = shut; if :: !seen -> INTO_THE_GATE :: else fi }

/* gm_pass_enter(); nest is what busy was; also_holds: the thread is inside by a record, too. */
inline pass_enter(nest, also_holds)
{
	WANTS;
#if BINDS && MUTANT != bound_after_look
	if
	:: bound[me]
	:: else -> atomic { bound[me] = 1; LOCKED }	/* GB1 */
	fi;
#endif
#if MUTANT != late_kick_taken_back_after_look
	if
	:: nest == 0 -> take_back()		/* a kick that came too late */
	:: else
	fi;
#endif
#if MUTANT == shut_read_before_busy
	LOOK_AT_SHUT;
	SET_BUSY(nest + 1);
#else
	SET_BUSY(nest + 1);			/* GO1 */
	LOOK_AT_SHUT;				/* GO3 */
#if MUTANT == late_kick_taken_back_after_look
	if
	:: nest == 0 -> take_back()
	:: else
	fi;
#endif
#endif
#if MUTANT == bound_after_look
	bound[me] = 1;
#endif
	if
	:: !seen
	:: else -> enter_shut(nest, also_holds)
	fi;
	seen = 0
}

/* enter_shut() */
inline enter_shut(nest, also_holds)
{
	if
	:: nest > 0 -> atomic { INTO_THE_GATE }
	:: nest == 0 && also_holds ->
#if MUTANT != added_without_lock
		LOCK;				/* G6 */
		UNLOCK;
#endif
#if MUTANT != no_kick_of_oneself
		mark_kicked(me);		/* GA3 */
#endif
		atomic { INTO_THE_GATE }
	:: nest == 0 && !also_holds ->
		/* gm_inside_but() may know without the lock that there is no other hold, or look. */
		if
		:: skip
		:: LOCK; UNLOCK
		fi;
		WAITING_BEGIN;
		do
		::
#if MUTANT != asleep_while_busy
		   SET_BUSY(0);			/* GA1 */
#endif
#if MUTANT != no_wake_at_gate
		   give_token(true);
#endif
		   gate_sleep();
		   take_back();
		   SET_BUSY(1);
		   atomic {			/* GO3 */
			if
			:: shut != 0 && MUTANT != no_recheck_after_sleep -> tmp = 0
			:: else -> tmp = 1; INTO_THE_GATE
			fi
		   };
		   if
		   :: tmp -> break
		   :: else
		   fi
		od;
		tmp = 0;
		waiting_end();
#if MUTANT != not_kicked_after_wait
		mark_kicked(me);		/* GA4 */
#endif
		has_waited[me] = 1
	fi
}

/* gm_pass_leave(); nest: what busy will be. */
inline pass_leave(nest)
{
	if
	:: nest == 0 || MUTANT == kick_taken_back_by_inner_leave -> take_back()
	:: else
	fi;
	atomic { inside--; if :: nest == 0 -> has_waited[me] = 0 :: else fi };
#if MUTANT == token_given_before_busy_cleared
	if
	:: shut != 0 && nest == 0 -> give_token(true)
	:: else
	fi;
#endif
#if MUTANT == shut_read_before_leave
	if
	:: shut != 0 && nest == 0 ->
		SET_BUSY(nest);
		give_token(true)
	:: else -> SET_BUSY(nest)
	fi
#else
	SET_BUSY(nest)				/* GL1 */
#endif
#if MUTANT != token_given_before_busy_cleared && MUTANT != shut_read_before_leave
	;
	if
	:: shut != 0 && nest == 0 -> give_token((MUTANT != no_wake_on_leave))	/* GL3 */
	:: else
	fi
#endif
}

/*
 * KVM_RUN. A signal that came before it may have had its handler run before; one that comes in it ends
 * it. The guest exits by itself soon, or not at all.
 */
inline kvm_run(interrupted)
{
	interrupted = 0;
#if MUTANT == kick_taken_back_before_run
	take_back();
#endif
	if
	:: pending[me] -> pending[me] = 0
	:: skip
	fi;
	if
	:: immediate_exit[me] != 0 ->		/* GR1 */
		atomic { interrupted = 1; pending[me] = 0 }
	:: else ->
		CLAIM(G7_told_after_a_wait, !has_waited[me] || MUTANT == kick_taken_back_before_run ||
		      MUTANT == kick_taken_back_by_inner_leave);
		if
		:: skip /* soon */
		:: atomic { skip -> in_guest = in_guest | ME_BIT };
end_in_the_guest:
		   atomic {
			pending[me] -> pending[me] = 0; interrupted = 1; in_guest = in_guest & ~ME_BIT
		   }
#if STUCK
		:: atomic { skip -> in_guest = in_guest | ME_BIT };
end_stuck:
		   atomic { placed -> pending[me] = 0; interrupted = 1; in_guest = in_guest & ~ME_BIT }
#endif
		fi
	fi
}
