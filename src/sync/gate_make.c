/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate: made and ended.
 *
 * What a thread knows of itself, and fork
 *
 *   gm_thread is the thread's own, and a fork copies it. In the child the thread has another id, is inside nothing, and
 *   has no pass; of the parent's other threads there are none. So the child forgets it all before fork() returns
 *   there, and passing needs no look at who we are. The handler stays registered as long as the library is loaded:
 *   libc drops it when the library is unloaded, and with it the thread's block. It is not called in the child of
 *   vfork(), which lives in its parent's memory and would forget for it, nor in one of _Fork() or a bare clone(2):
 *   there libc itself knows its threads by the parent's ids, and no library that uses it can do better.
 */
#include "sync/gate_impl.h"

#include <errno.h>
#include <linux/membarrier.h>

static void forget(void)
{
	gm_thread = (struct gm_thread)GM_THREAD_UNKNOWN;
}

/* Of two threads that make the first gate at once both may do this; forgetting twice is no harm. */
static int forget_in_children(void)
{
	static _Atomic(bool) registered;
	int err;

	if (atomic_load(&registered))
		return 0;
	err = pthread_atfork(NULL, NULL, forget);
	if (!err)
		atomic_store(&registered, true);
	return err;
}

int gm_gate_init(struct gm_gate *g, int kick_signal, bool no_membarrier)
{
	int err = forget_in_children();

	if (!err)
		err = pthread_mutex_init(&g->lock, NULL);
	if (err)
		return -err;
	atomic_init(&g->shut, GM_OPEN);
	atomic_init(&g->membarrier,
		    !no_membarrier && !syscall(SYS_membarrier,
					       MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
	g->kick_signal = kick_signal;
	atomic_init(&g->crowd, 0);
	atomic_init(&g->left, 0);
	atomic_init(&g->tokens, 0);
	atomic_init(&g->waiting, 0);
	atomic_init(&g->freed, 0);
	g->passes = NULL;
	atomic_init(&g->inhibitor, 0);
	g->round = 0;
	atomic_init(&g->kicks, 0);
	for (int i = 0; i < GM_HOLDERS; i++) {
		atomic_init(&g->holders[i].owner, 0);
		g->holders[i].depth = 0;
		g->holders[i].gate = g;
		g->holders[i].next = NULL;
	}
	return 0;
}

void gm_gate_destroy(struct gm_gate *g)
{
	gm_holder_forget(g);
	pthread_mutex_destroy(&g->lock);
}
