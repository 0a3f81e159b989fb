/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gpamap-listener.h - for users of guest memory that don't go through the gate: vhost, VFIO, a device backend
 * in a thread or in another process. Whoever keeps a copy of the map, or memory pinned by it, changes it with
 * the commit. Each callback is optional. What a listener sees of a commit:
 *
 *     nothing critical      prepare  applied
 *     the gate shuts        prepare  quiesce  resume(true)  applied
 *     vetoed by a later one prepare  cancelled
 *     a failure             prepare  [quiesce  resume(false)]  cancelled
 *     undoing failed, too   ... quiesce  cancelled, and it stays quiesced; a later commit repairs the map:
 *                           prepare  resume(true)  applied
 *
 * So what is needed of the old map and of the new one is kept from prepare until applied or cancelled. If
 * nothing differs that a listener can see, none is called; but a commit that repairs a broken map calls
 * them all.
 *
 * Where the gate doesn't shut, memory comes early and goes late, while the listener goes on: guests may use
 * new memory before applied. A listener that must never see a commit half done needs
 * GPAMAP_COMMIT_ONE_INSTANT.
 *
 * Callbacks run one at a time, on the thread that commits. It waits for them, so:
 *  - They may look at the map: gpamap_lookup(), gpamap_read(), gpamap_write(). It is the new one in resume(true)
 *    and applied, and else the old one.
 *  - Whatever waits for a commit fails with -EDEADLK in them: gpamap_begin(), gpamap_commit() and all else on
 *    the transaction (gpamap_abort() does nothing), gpamap_dirty_fetch(), gpamap_reserve_slots(),
 *    gpamap_listener_add(), and ioctls about slots. So does what passes the gate, in quiesce and resume.
 *  - They must not wait for a thread that may be in such a function or at the gate, nor for a lock that such
 *    a thread may hold. A device's thread that raises interrupts by an ioctl is at the gate while it does (those
 *    that are gated, as KVM_IRQ_LINE is): quiesce can't wait for it. Use an irqfd, or raise them when the request
 *    is done with.
 *
 * Pages that a device writes by its own table are not in the library's dirty bits: it reports them itself.
 */
#ifndef GPAMAP_LISTENER_H
#define GPAMAP_LISTENER_H

#include "gpamap.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A listener of a map. */
struct gpamap_listener;

/* What a commit changes, as data. Valid from prepare until applied or cancelled has returned. */
struct gpamap_change;

/* A range in which both views show one piece or nothing, and not the same. */
struct gpamap_changed {
	unsigned space;
	uint64_t gpa;
	uint64_t size;		      /* GPAMAP_SIZE_MAX: all */
	struct gpamap_segment before; /* cut to the range; its kind is 0 where there is nothing */
	struct gpamap_segment after;
};

/* How many ranges, in order of address space and GPA. */
size_t gpamap_change_count(const struct gpamap_change *change);
/* Range @i, valid as long as the change; NULL past the end. */
const struct gpamap_changed *gpamap_change_range(const struct gpamap_change *change, size_t i);
/* As gpamap_lookup(), in the whole of the old and of the new view. */
int gpamap_change_before(const struct gpamap_change *change, unsigned space, uint64_t gpa,
			 struct gpamap_segment *ret);
int gpamap_change_after(const struct gpamap_change *change, unsigned space, uint64_t gpa,
			struct gpamap_segment *ret);

struct gpamap_listener_desc {
	/* For messages and gpamap_stuck(); copied; not empty. */
	const char *name;
	/* prepare and quiesce call the lowest first, and among equals the one that was added first; the others,
	 * on the way back, call the last one first. */
	int priority;
	void *opaque;
	/* Nothing has happened yet, and the commit may still fail. To allocate, and to refuse with a negative
	 * errno, which is then the commit's. */
	int (*prepare)(void *opaque, const struct gpamap_change *change);
	/* Stop using guest memory, until resume. No vCPU runs, and no ioctl is inside the gate. @deadline_ns is on
	 * CLOCK_MONOTONIC: this listener's share of what is left of the commit's; it may be past, and is
	 * then good for what needs no wait. A negative errno fails the commit with it, -ETIMEDOUT as with a
	 * vCPU that does not come out; the listener then goes on as if it had not been called. */
	int (*quiesce)(void *opaque, uint64_t deadline_ns);
	/* Go on: with the new map if @changed, else with the old one. The gate opens afterwards. */
	void (*resume)(void *opaque, bool changed);
	/* The commit has succeeded. When this returns, the listener has no more use for what the old map alone had:
	 * it may be released next. */
	void (*applied)(void *opaque, const struct gpamap_change *change);
	/* The commit has failed after this listener's prepare, and the map is the old one. When this returns, the
	 * listener has no more use for what the new map alone had. */
	void (*cancelled)(void *opaque);
};

/*
 * Add a listener. Before this returns, prepare and applied are called for it alone, with a change from
 * nothing to the map as it is: so it needs no other code to begin. Waits for a commit on its way.
 *
 * -EINVAL: no name. -EDEADLK: from inside the gate, or from a callback of a listener. -ENOMEM. What prepare
 * returned. gpamap_last_message() says more.
 */
int gpamap_listener_add(struct gpamap *map, const struct gpamap_listener_desc *desc,
			struct gpamap_listener **ret);

/*
 * Take it out again. Waits for a commit on its way, so must be called outside the gate; afterwards none of
 * its callbacks is called any more, also no resume, should it be quiesced in a broken map. From a callback
 * of a listener it takes effect at the end of the commit. Those that are left at gpamap_free() go with the
 * map.
 */
void gpamap_listener_remove(struct gpamap_listener *listener);

#ifdef __cplusplus
}
#endif

#endif /* GPAMAP_LISTENER_H */
