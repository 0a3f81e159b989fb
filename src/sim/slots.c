/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The simulated VM's two slot ioctls: what KVM refuses and with which errno, in the order in which it
 * looks, and the swaps by which each kind of change is done.
 *
 *     CREATE  one swap
 *     DELETE  old -> INVALID -> nothing
 *     MOVE    old -> INVALID -> new; one that fails: old -> INVALID -> old
 *     FLAGS   one swap
 */
#include <errno.h>
#include <string.h>

#include "sim/impl.h"
#include "base/alloc.h"
#include "plan/kvm_rules.h"

struct change {
	const struct gpamap_sim_slot *req;
	enum gpamap_sim_call
		kind; /* GPAMAP_SIM_ANY: nothing to change, or refused before it was told */
	struct sim_space *space;
	struct sim_slot *old;
	int fault; /* a move: fail with it half way */
};

static uint64_t dirty_words(const struct gpamap_sim *sim, uint64_t size)
{
	return (size / sim->page_size + 63) / 64;
}

/* ------------------------------------------------------------------------- what is refused --- */

/* A slot as the rules (plan/kvm_rules.h) know it. */
static struct gm_slot rules_slot(const struct gpamap_sim_slot *req)
{
	return (struct gm_slot){
		.gpa = {req->gpa, req->gpa + (req->size - 1)},
		.hva = req->hva,
		.gmem_offset = req->guest_memfd_offset,
		.gmem_fd = (int)req->guest_memfd,
		.space = req->slot >> 16,
		.id = req->slot & 0xffff,
		.flags = (req->flags & GPAMAP_SIM_LOG_DIRTY ? GM_SLOT_LOG : 0) |
			 (req->flags & GPAMAP_SIM_READONLY ? GM_SLOT_READONLY : 0) |
			 (req->flags & GPAMAP_SIM_GUEST_MEMFD ? GM_SLOT_GUEST_MEMFD : 0),
	};
}

static struct gm_slot rules_slot_of(const struct sim_slot *s)
{
	struct gpamap_sim_slot same = {s->id,  s->flags,       s->gpa,	  s->size,
				       s->hva, s->gmem_offset, s->gmem_fd};

	return rules_slot(&same);
}

static bool legal_flags(const struct gpamap_sim *sim, uint32_t flags)
{
	uint32_t legal = GPAMAP_SIM_LOG_DIRTY;

	if (!(sim->flags & GPAMAP_SIM_NO_READONLY))
		legal |= GPAMAP_SIM_READONLY;
	if (!(sim->flags & GPAMAP_SIM_NO_REGION2) && flags & GPAMAP_SIM_GUEST_MEMFD)
		legal = GPAMAP_SIM_GUEST_MEMFD;
	return !(flags & ~legal);
}

static bool legal_hva(uint64_t hva, uint64_t size)
{
	return size <= SIM_USER_END && hva <= SIM_USER_END - size;
}

static bool known_slot(const struct gpamap_sim *sim, uint32_t slot)
{
	return slot >> 16 < sim->nr_spaces && (slot & 0xffff) < sim->nr_slots;
}

/* What KVM looks at whatever the change is, deletes included. */
static bool legal_request(const struct gpamap_sim *sim, const struct gpamap_sim_slot *req)
{
	uint64_t in_page = sim->page_size - 1;

	if (!legal_flags(sim, req->flags) || !known_slot(sim, req->slot))
		return false;
	if ((req->size | req->gpa | req->hva) & in_page || !legal_hva(req->hva, req->size))
		return false;
	if (req->flags & GPAMAP_SIM_GUEST_MEMFD &&
	    (req->guest_memfd_offset & in_page ||
	     req->guest_memfd_offset + req->size < req->guest_memfd_offset))
		return false;
	if (req->gpa + req->size < req->gpa)
		return false;
	return req->size / sim->page_size <= GM_KVM_MAX_SLOT_PAGES;
}

/* What becomes of a slot that exists; false: it can't be done in place. */
static bool tell_modify(struct change *c)
{
	struct gm_slot from = rules_slot_of(c->old), to = rules_slot(c->req);

	if (gm_rules_why_not_in_place(&from, &to))
		return false;
	switch (gm_rules_tell(&from, &to)) {
	case GM_OP_MOVE:
		c->kind = GPAMAP_SIM_MOVE;
		break;
	case GM_OP_FLAGS:
		c->kind = GPAMAP_SIM_FLAGS;
		break;
	default:
		break;
	}
	return true;
}

/* Does it overlap a slot of KVM's own? */
static bool overlaps_hidden(const struct gpamap_sim *sim, const struct gpamap_sim_slot *req)
{
	return sim->hidden_size && req->gpa < sim->hidden_gpa + sim->hidden_size &&
	       sim->hidden_gpa < req->gpa + req->size;
}

/* Tell the kind of a change by the slot that has the id now. */
static int tell(struct gpamap_sim *sim, struct change *c)
{
	const struct gpamap_sim_slot *req = c->req;

	if (!legal_request(sim, req))
		return -EINVAL;
	c->space = &sim->space[req->slot >> 16];
	c->old = c->space->by_id[req->slot & 0xffff];
	if (!req->size) {
		c->kind = GPAMAP_SIM_DELETE;
		return c->old ? 0 : -EINVAL;
	}
	if (!c->old)
		c->kind = GPAMAP_SIM_CREATE;
	else if (!tell_modify(c))
		return -EINVAL;
	if ((c->kind == GPAMAP_SIM_CREATE || c->kind == GPAMAP_SIM_MOVE) &&
	    (overlaps_hidden(sim, req) ||
	     sim_table_overlaps(atomic_load(&c->space->table), req->gpa, req->size, c->old)))
		return -EEXIST;
	return 0;
}

/* Can the pages of a guest_memfd be bound? Each may be in one slot only, of any space. */
static int check_guest_memfd(struct gpamap_sim *sim, const struct gpamap_sim_slot *req)
{
	struct gm_slot slot = rules_slot(req);

	for (unsigned i = 0; i < sim->nr_spaces; i++) {
		const struct sim_table *t = atomic_load(&sim->space[i].table);

		for (size_t k = 0; k < t->n; k++) {
			struct gm_slot other = rules_slot_of(t->slot[k]);

			if (gm_rules_share_guest_memfd(&slot, &other))
				return sim->flags & GPAMAP_SIM_GMEM_EEXIST ? -EEXIST : -EINVAL;
		}
	}
	return 0;
}

static bool beyond_last_gpa(const struct gpamap_sim *sim, const struct gpamap_sim_slot *req)
{
	return req->gpa + (req->size - 1) > sim->last_gpa;
}

/* -------------------------------------------------------------------------- what is swapped --- */

/* The slot as it will be. It shares the log of the old one if both have one. NULL: no memory. */
static struct sim_slot *make_slot(struct gpamap_sim *sim, const struct change *c)
{
	struct sim_slot *s = gm_calloc(&gm_alloc_default, 1, sizeof(*s));
	const struct gpamap_sim_slot *req = c->req;

	if (!s)
		return NULL;
	s->gpa = req->gpa;
	s->size = req->size;
	s->hva = req->hva;
	s->gmem_offset = req->guest_memfd_offset;
	s->gmem_fd = req->guest_memfd;
	s->id = req->slot;
	s->flags = req->flags;
	if (!(s->flags & GPAMAP_SIM_LOG_DIRTY) || sim->flags & GPAMAP_SIM_DIRTY_RING)
		return s;
	if (c->old && c->old->dirty)
		s->dirty = c->old->dirty;
	else
		s->dirty = gm_calloc(&gm_alloc_default, dirty_words(sim, s->size),
				     sizeof(s->dirty[0]));
	if (!s->dirty) {
		gm_free(&gm_alloc_default, s);
		return NULL;
	}
	return s;
}

/* Free @s, which went or never came; @kept, if not NULL, may share its log. */
static void drop_slot(struct sim_slot *s, const struct sim_slot *kept)
{
	if (s && kept && s->dirty == kept->dirty)
		s->dirty = NULL;
	sim_slot_free(s);
}

/* One swap: @next, which may replace the old slot, comes. */
static int swap_in(struct gpamap_sim *sim, const struct change *c, struct sim_slot *next)
{
	struct sim_table *before = atomic_load(&c->space->table);
	struct sim_table *after = sim_table_edit(c->space, c->old, next);

	if (!after) {
		drop_slot(next, c->old);
		return -ENOMEM;
	}
	c->space->by_id[next->id & 0xffff] = next;
	sim_publish(sim, c->space, after);
	sim_table_put(c->space, before);
	drop_slot(c->old, next);
	return 0;
}

static int do_create(struct gpamap_sim *sim, const struct change *c)
{
	struct sim_slot *next;
	bool guest_memfd = c->req->flags & GPAMAP_SIM_GUEST_MEMFD;
	int r = 0;

	/* In KVM's order: a file that is none, a place that is none, and only then pages that are bound elsewhere. */
	if (guest_memfd && c->req->guest_memfd > INT32_MAX)
		r = -EBADF;
	else if (beyond_last_gpa(sim, c->req))
		r = -EINVAL;
	else if (guest_memfd)
		r = check_guest_memfd(sim, c->req);
	if (r)
		return r;
	next = make_slot(sim, c);
	if (!next)
		return -ENOMEM;
	sim_step(sim, GPAMAP_SIM_BEFORE_CREATE);
	return swap_in(sim, c, next);
}

static int do_flags(struct gpamap_sim *sim, const struct change *c)
{
	struct sim_slot *next = make_slot(sim, c);

	if (!next)
		return -ENOMEM;
	sim_step(sim, GPAMAP_SIM_BEFORE_FLAGS);
	return swap_in(sim, c, next);
}

static struct sim_slot *invalid_copy(const struct sim_slot *s)
{
	struct sim_slot *copy = gm_calloc(&gm_alloc_default, 1, sizeof(*copy));

	if (copy) {
		*copy = *s;
		copy->invalid = true;
	}
	return copy;
}

static bool is_running(const struct gpamap_sim *sim)
{
	for (const struct gpamap_sim_vcpu *v = sim->vcpus; v; v = v->next) {
		if (atomic_load(&v->running))
			return true;
	}
	return false;
}

/* @running: vCPUs ran when the slot became INVALID. */
static void note_trace(struct gpamap_sim *sim, bool running)
{
	atomic_fetch_add(&sim->traces, 1);
	if (running || is_running(sim))
		atomic_fetch_add(&sim->traces_running, 1);
}

uint64_t gpamap_sim_traces(struct gpamap_sim *sim, bool running)
{
	return atomic_load(running ? &sim->traces_running : &sim->traces);
}

/* Two swaps: the old slot, its INVALID copy, and @next (NULL: nothing). With @fault the second swap goes
 * back to the old slot, and @fault is returned. */
static int swap_twice(struct gpamap_sim *sim, const struct change *c, struct sim_slot *next,
		      int fault)
{
	struct sim_table *before = atomic_load(&c->space->table);
	struct sim_slot *invalid = invalid_copy(c->old);
	struct sim_table *during = invalid ? sim_table_edit(c->space, c->old, invalid) : NULL;
	struct sim_table *after = sim_table_edit(c->space, c->old, next);
	struct sim_table *unused = after;
	bool running;

	if (!during || !after) {
		fault = -ENOMEM;
		goto out;
	}
	running = is_running(sim);
	sim_publish(sim, c->space, during);
	sim_step(sim, GPAMAP_SIM_WHILE_INVALID);
	if (!fault) {
		c->space->by_id[c->old->id & 0xffff] = next;
		unused = before;
	}
	sim_publish(sim, c->space, fault ? before : after);
	if (fault)
		note_trace(sim, running);
out:
	sim_table_put(c->space, unused);
	sim_table_put(c->space, during);
	gm_free(&gm_alloc_default, invalid);
	return fault;
}

static int do_delete(struct gpamap_sim *sim, const struct change *c)
{
	int r = swap_twice(sim, c, NULL, 0);

	if (r)
		return r;
	sim_step(sim, GPAMAP_SIM_AFTER_DELETE);
	sim_slot_free(c->old);
	return 0;
}

static int do_move(struct gpamap_sim *sim, const struct change *c)
{
	struct sim_slot *next = make_slot(sim, c);
	int fault = c->fault;
	int r;

	if (!next)
		return -ENOMEM;
	/* KVM finds out when the slot is INVALID already. */
	if (!fault && beyond_last_gpa(sim, c->req))
		fault = -EINVAL;
	r = swap_twice(sim, c, next, fault);
	if (r)
		drop_slot(next, c->old);
	else
		drop_slot(c->old, next);
	return r;
}

/* ------------------------------------------------------------------------------ the ioctls --- */

static int set_slot(struct gpamap_sim *sim, const struct gpamap_sim_slot *req)
{
	struct change c = {.req = req};
	int r = tell(sim, &c);

	c.fault = sim_count(sim, c.kind);
	if (c.fault && (r || c.kind != GPAMAP_SIM_MOVE))
		return c.fault;
	if (r)
		return r;
	switch (c.kind) {
	case GPAMAP_SIM_CREATE:
		return do_create(sim, &c);
	case GPAMAP_SIM_DELETE:
		return do_delete(sim, &c);
	case GPAMAP_SIM_MOVE:
		return do_move(sim, &c);
	case GPAMAP_SIM_FLAGS:
		return do_flags(sim, &c);
	default:
		return 0;
	}
}

int gpamap_sim_set_slot(struct gpamap_sim *sim, const struct gpamap_sim_slot *slot)
{
	int r;

	pthread_mutex_lock(&sim->slot_lock);
	r = set_slot(sim, slot);
	pthread_mutex_unlock(&sim->slot_lock);
	return r;
}

bool sim_has_slot(struct gpamap_sim *sim, uint32_t slot)
{
	bool has;

	pthread_mutex_lock(&sim->slot_lock);
	has = known_slot(sim, slot) && sim->space[slot >> 16].by_id[slot & 0xffff];
	pthread_mutex_unlock(&sim->slot_lock);
	return has;
}

static int get_dirty_log(struct gpamap_sim *sim, uint32_t id, unsigned char *bitmap)
{
	const struct sim_slot *s;
	uint64_t words;
	int r = sim_count(sim, GPAMAP_SIM_GET_DIRTY);

	if (r)
		return r;
	if (sim->flags & GPAMAP_SIM_DIRTY_RING)
		return -ENXIO;
	if (!known_slot(sim, id))
		return -EINVAL;
	s = sim->space[id >> 16].by_id[id & 0xffff];
	if (!s || !s->dirty)
		return -ENOENT;
	if (!bitmap)
		return -EFAULT;
	words = dirty_words(sim, s->size);
	for (uint64_t i = 0; i < words; i++) {
		uint64_t word = atomic_load_explicit(&s->dirty[i], memory_order_relaxed);

		/* The acquire: whoever sees the bit sees the store that set it. */
		if (word)
			word = atomic_exchange(&s->dirty[i], 0);
		memcpy(bitmap + i * sizeof(word), &word, sizeof(word));
	}
	sim_step(sim, GPAMAP_SIM_IN_GET_DIRTY);
	return 0;
}

int gpamap_sim_get_dirty_log(struct gpamap_sim *sim, uint32_t slot, void *bitmap)
{
	int r;

	pthread_mutex_lock(&sim->slot_lock);
	r = get_dirty_log(sim, slot, bitmap);
	pthread_mutex_unlock(&sim->slot_lock);
	return r;
}
