/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is behind the handles. The api folder is the only place that sees planner, gate and backend
 * together.
 *
 * What one thread may have to wait for, in the order in which it is taken:
 *
 *     txn_turn      a turn: gpamap_begin() to commit or abort
 *     slots_lock    a turn: a commit, a fetch of dirty bits, whatever must not meet a slot operation
 *     gate          shut for the critical part of a commit
 *     accessors     a second gate, shut while a commit publishes views that take memory away or change it
 *     edit          a mutex: regions, and which transaction is open; never held while waiting for one of the others
 *
 * Who is inside the gate must take neither turn, because a committer has both while it waits for the gate to be empty:
 * -EDEADLK. It may access memory, and so wait for the accessors' gate, since a committer that has shut that waits for
 * nothing more; and it may take edit. An accessor is inside for the copy of one piece, and takes nothing there.
 *
 * Invariants:
 *  A1  Between commits, slots[i].tree is what the kernel has in space i, but for leftovers that are missing or
 *      strays; gm_leftovers_settle() brings them into it.
 *  A2  Between commits, views[i] is what the published set of views says, and every whole page that it backs is in
 *      one slot of slots[i], and no other page is; but for the ranges of leftovers.
 *  A3  While broken, the gate is shut.
 *  A4  A map is freed when gpamap_free() was called and its last region is gone; until then its edit lock
 *      and allocator serve gpamap_region_put().
 *  A5  `calling` is the thread that holds slots_lock while it is in a listener's callback, and else 0. It
 *      must not wait for that lock, nor for the transaction to end: -EDEADLK.
 *  A6  `open` is the handle of the open transaction, which is behind `txn`; NULL: none is open. Only what is called
 *      with that handle reaches the record or the edits.
 *  A7  While txn_busy, the open transaction is one commit's or preview's, and its record that thread's alone.
 */
#ifndef GM_API_IMPL_H
#define GM_API_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "backend/backend.h"
#include "gpamap.h"
#include "map/edit.h"
#include "map/flatten.h"
#include "map/map.h"
#include "map/plain.h"
#include "map/region.h"
#include "map/view.h"
#include "ops/access.h"
#include "ops/listener.h"
#include "ops/logged.h"
#include "ops/vcpu.h"
#include "plan/plan.h"
#include "sync/gate.h"
#include "sync/publish.h"

/*
 * What is behind a handle of the open transaction. The handle itself is not its address but a number: the map's address,
 * which is a multiple of GM_MAP_ALIGN, plus how many transactions have been begun, modulo GM_MAP_ALIGN - 1, plus 1.
 * Nothing is read through a handle but the map. So one whose transaction has ended is as safe as any, needs no memory,
 * and is told from the open one as long as fewer than GM_MAP_ALIGN - 1 others have been begun since, or a multiple of it.
 */
#define GM_MAP_ALIGN ((uintptr_t)65536)

struct gpamap_txn {
	struct gpamap *map;
	struct gm_msg msg;
	bool is_stuck;
	struct gm_stuck stuck;
	char stuck_listener[sizeof(((struct gpamap_stuck_info *)NULL)->listener)];
};

/* On the stack of a thread that waits. */
struct gm_turn_waiter {
	struct gm_turn_waiter *next;
	pthread_cond_t turn;
	pid_t tid;
	bool granted;
};

/* A lock that can be waited for until a deadline, that knows who has it, and that goes to whoever came first: a
 * stream of ioctls can't starve a commit (P6). */
struct gm_turn {
	pthread_mutex_t mutex;
	/* All under mutex: */
	pid_t holder; /* 0: it is free, and nobody waits */
	struct gm_turn_waiter *first;
	struct gm_turn_waiter **end;
};

/* As gpamap_stats; written by the committer, read by anyone. */
struct gm_counters {
	atomic_uint_fast64_t commits;
	atomic_uint_fast64_t failed;
	atomic_uint_fast64_t gate_shut;
	atomic_uint_fast64_t slot_ioctls;
	atomic_uint_fast64_t timeouts;
	atomic_uint_fast64_t undone;
	atomic_uint_fast64_t merges;
	atomic_uint_fast64_t pending;
	atomic_uint_fast32_t slots;
	atomic_bool broken;
};

/* What an operation that KVM refused has left in the kernel (leftover.c). */
enum gm_leftover_kind {
	GM_STRAY = 1, /* a slot that the kernel has, and the table has not */
	GM_MISSING,   /* one that the table has, and the kernel has not */
	GM_REFLAGGED, /* one whose flags have been corrected in the table, which is to count as another version */
	GM_SETTLED, /* by now the table is right; the views still differ */
};

struct gm_leftover {
	enum gm_leftover_kind kind;
	struct gm_slot slot; /* with a reference on its region */
};

struct gm_leftovers {
	struct gm_leftover *l;
	size_t n;
};

struct gpamap {
	struct gm_gate gate;
	struct gm_gate accessors; /* without passes; open while the map is broken */
	void *raw; /* as allocated; the struct stands at a multiple of GM_MAP_ALIGN */
	struct gm_alloc alloc;
	struct gm_backend *backend;
	struct gm_publish publish;
	struct gm_memory memory; /* of accessors: the two above, and constant */
	unsigned nr_spaces;
	unsigned timeout_ms;
	bool faults_may_block;
	/* As in struct gm_plan_input. */
	uint64_t max_slot_size, most_slot_size;
	pid_t pid;	    /* of the process that made it */
	uint64_t born_ns;   /* with the address it tells a map from all that are gone */
	atomic_size_t refs; /* one for the handle, one for each region (A4) */

	pthread_mutex_t edit;
	struct gm_map map;	       /* under edit */
	const struct gpamap_txn *open; /* under edit (A6) */
	bool txn_busy;		       /* under edit (A7) */
	uint64_t nr_begun;	       /* under edit */
	struct gpamap_txn txn;	       /* under edit, or A7 */

	struct gm_turn txn_turn;
	struct gm_turn slots_lock;
	/* All under slots_lock, and by address space where they are arrays: */
	struct gm_tree *views;
	struct gm_slots *slots;
	struct gm_windows *windows;	   /* those of the commit on its way */
	const struct gm_node **next_roots; /* of its views */
	struct gm_stale *stale;		   /* of the views that it replaced */
	uint64_t stamp;			   /* number of the last commit */
	const struct gm_node **old_roots;  /* of the views as they are */
	bool broken;
	struct gm_leftovers leftovers;
	struct gm_logged logged; /* for fetches; may be behind the slots */
	struct gm_listeners listeners;
	_Atomic(pid_t) calling; /* A5; read by anyone */

	struct gm_counters counters;
};

/* See execute.c. */
enum gm_commit_state {
	GM_COMMIT_PREPARED = 1,
	GM_COMMIT_EARLY,
	GM_COMMIT_SHUT,
	GM_COMMIT_HELD,
	GM_COMMIT_PUBLISHED,
	GM_COMMIT_LATE,
	GM_COMMIT_DONE,
	GM_COMMIT_UNDONE,
	GM_COMMIT_BROKEN,
};

/* A commit on its way. */
struct gm_commit {
	struct gpamap *m;
	struct gm_msg *msg;
	struct gm_plan plan;
	struct gm_plan_input in;
	/* Known when it is prepared: */
	bool nothing_to_do; /* no window was touched */
	bool planned;	    /* gm_plan_make() has succeeded; accept or reject is due */
	bool needs_gate;
	bool takes_memory;  /* the old views have memory in a window: accessors may be in it */
	uint64_t *scratch;  /* for the dirty bits of the largest slot to be harvested */
	uint32_t *new_ids;  /* room for the ids of all creates (check.c) */
	uint64_t *kept_ids; /* a bit for each id that an undo could not free (undo.c) */
	struct gm_leftovers leftovers; /* of this commit; there's room for all that it may leave */
	unsigned timeout_ms;
	uint64_t deadline_ns; /* for all that it waits for */
	/* While it is executed: */
	enum gm_commit_state state;
	size_t done; /* EX1 */
	bool holds_gate;
	bool holds_accessors;
	struct gm_views *next; /* to be published */
	struct gm_views *old;  /* what it has replaced; NULL until it is */
	uint64_t blackout_start;
	struct gm_stuck stuck;
	const struct gpamap_listener *stuck_listener;
	struct gpamap_change *change; /* for the listeners; NULL: they are not concerned */
	struct gpamap_commit_report report;
};

/* turn.c */
void gm_turn_init(struct gm_turn *t);
void gm_turn_destroy(struct gm_turn *t);
void gm_turn_take(struct gm_turn *t);
/* -ETIMEDOUT: *@holder is the thread that has it. The deadline is on CLOCK_MONOTONIC. */
int gm_turn_take_until(struct gm_turn *t, uint64_t deadline_ns, pid_t *holder);
/* Has the calling thread taken it, and nobody passed it on? */
bool gm_turn_mine(struct gm_turn *t);
/* To the next one. It need not be the thread that took it. */
void gm_turn_pass(struct gm_turn *t);

/* Waits for a commit on its way, or for an ioctl that is serialised with commits. */
static inline void gm_slots_lock(struct gpamap *m)
{
	gm_turn_take(&m->slots_lock);
}

static inline int gm_slots_lock_until(struct gpamap *m, uint64_t deadline_ns, pid_t *holder)
{
	return gm_turn_take_until(&m->slots_lock, deadline_ns, holder);
}

static inline void gm_slots_unlock(struct gpamap *m)
{
	gm_turn_pass(&m->slots_lock);
}

/* txn.c */
/* Let a commit or preview have the transaction behind the handle *@txn, which becomes its record (A7). -EINVAL: it has
 * ended. -EDEADLK: in a listener's callback. -EBUSY: another thread commits it. No message can be kept for any. */
int gm_txn_use(struct gpamap_txn **txn);
/* It stays open. */
void gm_txn_unuse(struct gpamap_txn *txn);
/* It has ended. */
void gm_txn_end(struct gpamap_txn *txn);

/* prepare.c: flatten, plan, allocate. Everything that can fail without an ioctl. On failure, and to give up
 * what was prepared, call gm_commit_cancel(). Both with slots_lock held, without edit. */
int gm_commit_prepare(struct gm_commit *c, unsigned flags);
void gm_commit_cancel(struct gm_commit *c);
/* What is left of it in the end, in either case. */
void gm_commit_free(struct gm_commit *c);

/* check.c: could KVM do the plan, as far as can be known before its first operation? -ERANGE, -EINVAL, -ENOTSUP: a
 * limit. -EBUSY: an id is in use by others. -ENOMEM. pre: slots_lock is held. */
int gm_commit_check(struct gm_commit *c);
/* Of the ids alone, and for the creates of one phase. */
int gm_commit_check_ids(struct gm_commit *c, enum gm_phase phase);

/* execute.c: do the plan, all or nothing. On failure the slots are as before but for leftovers, or the map is broken
 * and -ENOTRECOVERABLE is returned. */
int gm_commit_execute(struct gm_commit *c);

/* state.c */
void gm_commit_enter(struct gm_commit *c, enum gm_commit_state state);
/* Do one operation, and count it. */
int gm_commit_slot_op(struct gm_commit *c, const struct gm_op *op);

/* hold.c */
/* From GM_COMMIT_EARLY to GM_COMMIT_HELD: hold vCPUs, listeners and accessors, as far as there is need. On failure
 * some may be held, and are to be let go. -ETIMEDOUT. What a listener gave. */
int gm_commit_hold(struct gm_commit *c);
/* Let accessors in, if they are held. */
void gm_commit_open_accessors(struct gm_commit *c);
/* Resume listeners and open the gate. pre: it is held. */
void gm_commit_open(struct gm_commit *c, bool changed);

/* Does @op end a dirty log, so that its bits must be read before? */
static inline bool gm_op_ends_log(const struct gm_op *op)
{
	return (op->kind == GM_OP_DELETE || op->kind == GM_OP_FLAGS) &&
	       (op->from.flags & GM_SLOT_LOG);
}

/* undo.c: take back what is done; @err is why, and what to return unless that fails, too. */
int gm_commit_undo(struct gm_commit *c, int err);

/* leftover.c; all with slots_lock held. */
/* Allocate room for what @c may leave. pre: planned. */
int gm_leftovers_reserve(struct gm_commit *c);
/* @c leaves @s. Can't fail. */
void gm_leftover_note(struct gm_commit *c, enum gm_leftover_kind kind, const struct gm_slot *s);
/* @c has ended, and the plan is accepted or rejected: what it has left is the map's. If it @succeeded, the map's own
 * leftovers are gone. */
void gm_leftovers_adopt(struct gm_commit *c, bool succeeded);
/* Bring the table in line with the kernel. -ENOMEM: as before. pre: the tables are not edited. */
int gm_leftovers_settle(struct gpamap *m);
/* Let the commit look at their ranges. -ENOMEM. */
int gm_leftovers_touch(struct gpamap *m);
void gm_leftovers_forget(struct gpamap *m);

/* listen.c: what a commit says to the listeners, if they are concerned. All with slots_lock held. */
/* Ask them. A refusal is told to those who had agreed before it. */
int gm_listen_prepare(struct gm_commit *c);
/* pre: the gate is shut. Those who have quiesced stay so, also where this fails. */
int gm_listen_quiesce(struct gm_commit *c);
void gm_listen_resume(struct gm_commit *c, bool changed);
void gm_listen_applied(struct gm_commit *c);
void gm_listen_cancelled(struct gm_commit *c);
/* Let go of those that were removed in a callback; and of all, at the map's end. */
void gm_listen_sweep(struct gpamap *m);
void gm_listen_end(struct gpamap *m);

/* Is this thread in a callback of a listener of this map? (A5) */
bool gm_in_callback(struct gpamap *m);
/* May this thread wait for a commit or a transaction to end? Else -EDEADLK, and a message about @what. */
int gm_may_wait(struct gpamap *m, const char *what, struct gm_msg *msg);

/* message.c */
/* Keep @err and @msg for gpamap_last_message() of this thread, and return @err. @msg NULL: the errno says it all. */
int gm_map_fail(struct gpamap *m, int err, const struct gm_msg *msg);

/* map.c */
/* Release regions that nothing reaches any more. No lock held. */
void gm_reap(struct gpamap *m);
void gm_map_put(struct gpamap *m);
/* A map over @backend, which it then owns, also on failure. */
int gm_map_new(struct gm_backend *backend, const struct gm_alloc *alloc,
	       const struct gpamap_options *opt, struct gm_msg *msg, struct gpamap **ret);

#endif
