/* SPDX-License-Identifier: BSD-3-Clause */
/* What the parts of the gate share: gate.c (vCPUs), gate_hold.c (other threads), gate_shut.c. */
#ifndef GM_SYNC_GATE_IMPL_H
#define GM_SYNC_GATE_IMPL_H

#include "sync/futex.h"
#include "sync/gate.h"

/* Of a thread that has not been asked for its id, or of one in the child of a fork. */
/* clang-format off */
#define GM_THREAD_UNKNOWN {.tid = -1, .passing = -1}
/* clang-format on */

/* GK1, GK2: any KVM_RUN from here to the last leave returns at once. The order matters, see gate.c. */
static inline void gm_mark_kicked(struct gm_pass *p)
{
	uint8_t none = 0;

	if (p->immediate_exit)
		atomic_compare_exchange_strong(p->immediate_exit, &none, GM_KICKED);
	atomic_store(&p->kicked, true);
}

/* To be called by a holder when its record is free (G4). */
void gm_wake_inhibitor(struct gm_gate *g);

/* Take the token of a pass back, if it is out. True: it was. Its count is then to be subtracted. */
static inline bool gm_take_token(struct gm_pass *p)
{
	return atomic_exchange(&p->awaited, false);
}

/* Sleep at the shut gate. 0: try to get in again, it may be open. -ENOTRECOVERABLE: it is broken.
 * pre: has just ceased to be inside (G3). */
int gm_gate_sleep(struct gm_gate *g);

/* Around the time from the first refusal at the gate until in: the next inhibitor lets those in first, and who
 * opens the gate wakes nobody if there are none. */
static inline void gm_waiting_begin(struct gm_gate *g)
{
	atomic_fetch_add(&g->waiting, 1);
}

static inline void gm_waiting_end(struct gm_gate *g)
{
	if (atomic_fetch_sub(&g->waiting, 1) == 1)
		gm_futex_wake(&g->waiting, 1);
}

/* Has the calling thread shut the gate? */
static inline bool gm_gate_mine(struct gm_gate *g)
{
	return atomic_load_explicit(&g->inhibitor, memory_order_relaxed) == gm_thread_id();
}

/* Forget the record that the calling thread has in a gate that ends. */
void gm_holder_forget(const struct gm_gate *g);

#endif
