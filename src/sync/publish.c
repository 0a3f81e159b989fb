/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Publication of flat views: liburcu's bulletproof flavour, whose readers need not be registered, so that
 * any thread of the application may be one.
 */
#include "sync/publish.h"

/* Without URCU_INLINE_SMALL_FUNCTIONS: calls, so a fix in liburcu needs no new build of ours. */
#include <urcu-bp.h>

/*
 * liburcu is not built with ThreadSanitizer, which therefore doesn't see that the end of a read section comes
 * before the end of a grace period. Say so: each unlock releases, each grace period acquires.
 */
#if defined(__SANITIZE_THREAD__)
#define GM_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GM_TSAN 1
#endif
#endif

#ifdef GM_TSAN
#include <sanitizer/tsan_interface.h>
static char grace; /* an address, never written */
#define tsan_read_ends() __tsan_release(&grace)
#define tsan_reads_have_ended() __tsan_acquire(&grace)
#else
#define tsan_read_ends() ((void)0)
#define tsan_reads_have_ended() ((void)0)
#endif

void gm_read_lock(void)
{
	urcu_bp_read_lock();
}

void gm_read_unlock(void)
{
	tsan_read_ends();
	urcu_bp_read_unlock();
}

struct gm_views *gm_views_set(struct gm_publish *p, struct gm_views *views)
{
	/* A full barrier, and ordered with the gate: what was published with the gate shut is what every
	 * vCPU thread reads once it is in again. */
	return atomic_exchange(&p->current, views);
}

void gm_synchronize(void)
{
	int cancel;

	/* It may sleep where a thread can be cancelled, with a lock of its own held. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	urcu_bp_synchronize_rcu();
	pthread_setcancelstate(cancel, NULL);
	tsan_reads_have_ended();
}
