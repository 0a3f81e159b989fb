/* SPDX-License-Identifier: BSD-3-Clause */
/* Words of memory, store buffers, futexes and the lock; and the ghosts that only the properties see. */

/* ------------------------------------------------------------------------- properties --- */

/* Ghosts that are always false, so that spin's message names the property that failed. */
hidden byte G1_nobody_inside_while_shut;
hidden byte one_inhibitor_at_a_time;
hidden byte P6_nobody_waits_for_ever;
hidden byte P6_expired_leaves_no_trace;
hidden byte G5_no_mark_forgotten;
hidden byte G5_request_of_application_kept;
hidden byte G5_request_of_application_answered;
hidden byte G7_told_after_a_wait;

#define CLAIM(property, condition) \
	if \
	:: (condition) \
	:: else -> assert(property) \
	fi

/* ----------------------------------------------------------------------------- memory --- */

byte shut;		   /* a futex */
byte busy[PASS_ARRAY];	   /* what others see */
byte immediate_exit[PASS_ARRAY]; /* 0, 1: the application's, 2: ours */
bool kicked[PASS_ARRAY];
bool owed[PASS_ARRAY];
bool fresh[PASS_ARRAY];	   /* not yet kicked in this round: p->round != g->round */
bool pending[PASS_ARRAY];  /* the kick signal, in the kernel */
bool awaited[PASS_ARRAY];  /* the token is out */
short tokens;		   /* -1 where one is given back before it is counted */
#if BINDS
bool bound[PASS_ARRAY];	   /* the pass has an owner */
#endif
#if FAILS
bool membarrier = true;
bool fenced[PASS_ARRAY];
#endif
byte record[RECORDS];	   /* a holder's owner, me + 1; 0: free */
byte crowd;
byte freed_moved;	   /* whose read of `freed` is old: a bit each */
bool left_moved;	   /* `left` has moved since the inhibitor read it */
byte waiting;		   /* a futex */
bool lock;
bool slots_locked;	   /* the map's slots_lock (G8) */
#if FAIR
byte lock_wanted;
#endif

/* Who sleeps on which futex. */
byte asleep_shut, asleep_freed;
bool asleep_left, asleep_waiting; /* the inhibitor only */

/* Store buffers. Only busy is ever stored without a full fence. */
#if BUFFERED
byte buffered[PASS_ARRAY];
byte buffer[PASS_ARRAY * BUFFER];
#endif

/* ----------------------------------------------------------------------------- ghosts --- */

byte inside;	   /* holds */
bool held;	   /* an inhibitor is between gm_gate_shut() and gm_gate_open() */
byte ended;	   /* threads: a bit each */
byte in_guest;	   /* vCPUs in the guest until they are kicked: a bit each */
byte committing;   /* threads between the begin of gm_gate_shut() and the end of gm_gate_open() */
bool placed;	   /* what a vCPU may be stuck for is there */
bool requested;	   /* the application's request stands */
bool has_waited[PASS_ARRAY]; /* at the gate, before it came in */
#if EAGAIN
bool may_fail = true;
#endif
#if LIVE
bool wants[THREADS]; /* to be in, or to shut */
#define WANTS wants[me] = 1
#define GETS wants[me] = 0
#else
#define WANTS skip
#define GETS skip
#endif

#define INTO_THE_GATE \
	inside++; \
	GETS; \
	CLAIM(G1_nobody_inside_while_shut, !held)

#if MUTANT == request_lost
#define KEEPS_REQUEST(p) skip /* to see that the other property finds it, too */
#else
#define KEEPS_REQUEST(p) CLAIM(G5_request_of_application_kept, !requested || immediate_exit[p] == 1)
#endif

/* ---------------------------------------------------------------- processor and kernel --- */

#if BUFFERED
/* The buffer of thread p is empty from here: its own locked instruction or fence, or an interrupt. */
#define DRAIN(p) \
	if \
	:: buffered[p] == 0 \
	:: buffered[p] == 1 -> busy[p] = buffer[p * BUFFER]; buffer[p * BUFFER] = 0; buffered[p] = 0 \
	:: buffered[p] == 2 -> busy[p] = buffer[p * BUFFER + 1]; buffer[p * BUFFER] = 0; \
			       buffer[p * BUFFER + 1] = 0; buffered[p] = 0 \
	fi
/* Each locked instruction of a thread with a pass. */
#define LOCKED \
	if \
	:: me < PASSES -> DRAIN(me) \
	:: else \
	fi

/* What is in a buffer becomes visible at some time, in order. */
#define DRAIN_ONE(p) \
	atomic { \
		buffered[p] > 0 -> \
		busy[p] = buffer[p * BUFFER]; \
		buffer[p * BUFFER] = buffer[p * BUFFER + 1]; \
		buffer[p * BUFFER + 1] = 0; \
		buffered[p]-- \
	}
active proctype processor()
{
end:
	do
	:: DRAIN_ONE(0)
#if PASSES > 1
	:: DRAIN_ONE(1)
#endif
#if PASSES > 2
	:: DRAIN_ONE(2)
#endif
	od
}
#else
#define DRAIN(p) skip
#define LOCKED skip
#endif

#if BUFFERED
#define STORE_BUSY(depth) /* GO2, GL2: nothing that would empty the buffer */ \
	atomic { buffered[me] < BUFFER -> buffer[me * BUFFER + buffered[me]] = depth; buffered[me]++ }
#else
#define STORE_BUSY(depth) busy[me] = depth
#endif

/* set_busy() */
#if FAILS
#define SET_BUSY_FENCED(depth) \
	if \
	:: fenced[me] \
	:: else -> atomic { LOCKED; fenced[me] = 1 } /* GF1 */ \
	fi; \
	atomic { LOCKED; busy[me] = depth }
#define SET_BUSY(depth) \
	if \
	:: membarrier -> STORE_BUSY(depth) \
	:: else -> SET_BUSY_FENCED(depth) \
	fi
#else
#define SET_BUSY(depth) STORE_BUSY(depth)
#endif

#if MUTANT == sleep_without_compare
#define COMPARE(is_same) true
#else
#define COMPARE(is_same) (is_same)
#endif

/* futex(FUTEX_WAIT): compare and sleep at once, then be woken. @mask has a bit for each who sleeps. */
#define SLEEP(mask, is_same) \
	atomic { \
		if \
		:: COMPARE(is_same) -> LOCKED; mask = mask | ME_BIT \
		:: else \
		fi \
	}

/* futex(FUTEX_WAKE, 1): any one of those who sleep. */
#define WAKE_ONE(mask) \
	atomic { \
		if \
		:: mask & 1 -> mask = mask & ~1 \
		:: mask & 2 -> mask = mask & ~2 \
		:: mask & 4 -> mask = mask & ~4 \
		:: mask & 8 -> mask = mask & ~8 \
		:: mask == 0 \
		fi \
	}

#if FAIR
/* The inhibitor, who may poll for ever, does not take it again before one who waits for it. */
#define LOCK lock_wanted++; atomic { !lock -> lock = 1; lock_wanted--; LOCKED }
#define INHIBITOR_LOCK atomic { !lock && !lock_wanted -> lock = 1; LOCKED }
#else
#define LOCK atomic { !lock -> lock = 1; LOCKED }
#define INHIBITOR_LOCK LOCK
#endif
#define UNLOCK lock = 0
