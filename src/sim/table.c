/* SPDX-License-Identifier: BSD-3-Clause */
/* The simulated VM's slot tables: look-up, the next version, and its publication. */
#include <sched.h>
#include <string.h>
#include <time.h>

#include "sim/impl.h"
#include "base/alloc.h"

void sim_slot_free(struct sim_slot *slot)
{
	if (slot)
		gm_free(&gm_alloc_default, slot->dirty);
	gm_free(&gm_alloc_default, slot);
}

/* The index of the first slot that ends beyond @gpa. */
static size_t first_beyond(const struct sim_table *t, uint64_t gpa)
{
	size_t low = 0, high = t->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct sim_slot *s = t->slot[mid];

		if (s->gpa + (s->size - 1) < gpa)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct sim_slot *sim_table_find(const struct sim_table *t, uint64_t gpa)
{
	size_t i = first_beyond(t, gpa);

	return i < t->n && t->slot[i]->gpa <= gpa ? t->slot[i] : NULL;
}

bool sim_table_overlaps(const struct sim_table *t, uint64_t gpa, uint64_t size,
			const struct sim_slot *but)
{
	size_t i = first_beyond(t, gpa);

	for (; i < t->n && t->slot[i]->gpa <= gpa + (size - 1); i++) {
		if (t->slot[i] != but)
			return true;
	}
	return false;
}

static struct sim_table *table_get(struct sim_space *space, size_t room)
{
	struct sim_table *t;

	for (unsigned i = 0; i < 2; i++) {
		t = space->spare[i];
		if (t && t->room >= room) {
			space->spare[i] = NULL;
			return t;
		}
	}
	/* Some more, for the next ones. */
	room += room / 2 + 16;
	t = gm_calloc(&gm_alloc_default, 1, sizeof(*t) + room * sizeof(t->slot[0]));
	if (t)
		t->room = room;
	return t;
}

void sim_table_put(struct sim_space *space, struct sim_table *t)
{
	for (unsigned i = 0; i < 2 && t; i++) {
		struct sim_table *spare = space->spare[i];

		/* Keep the larger one. */
		if (!spare || spare->room < t->room) {
			space->spare[i] = t;
			t = spare;
		}
	}
	gm_free(&gm_alloc_default, t);
}

struct sim_table *sim_table_edit(struct sim_space *space, const struct sim_slot *drop,
				 struct sim_slot *add)
{
	const struct sim_table *t = atomic_load(&space->table);
	struct sim_table *next = table_get(space, t->n + 1);
	size_t cut = drop ? first_beyond(t, drop->gpa) : t->n;
	size_t rest = t->n - cut;
	size_t at;

	if (!next)
		return NULL;
	if (drop)
		rest--;
	memcpy(next->slot, t->slot, cut * sizeof(t->slot[0]));
	memcpy(next->slot + cut, t->slot + (t->n - rest), rest * sizeof(t->slot[0]));
	next->n = cut + rest;
	if (!add)
		return next;
	at = first_beyond(next, add->gpa);
	memmove(next->slot + at + 1, next->slot + at, (next->n - at) * sizeof(next->slot[0]));
	next->slot[at] = add;
	next->n++;
	return next;
}

/* Wait until the section in which @v is now, if any, is over. */
static void wait_for(const struct gpamap_sim_vcpu *v)
{
	uint64_t section = atomic_load(&v->section);
	struct timespec nap = {0, 20000};
	unsigned turns = 0;

	if (!(section & 1))
		return;
	while (atomic_load(&v->section) == section) {
		if (turns++ < 32)
			sched_yield();
		else
			nanosleep(&nap, NULL);
	}
}

void sim_publish(struct gpamap_sim *sim, struct sim_space *space, struct sim_table *t)
{
	atomic_store(&space->table, t);
	for (struct gpamap_sim_vcpu *v = sim->vcpus; v; v = v->next)
		wait_for(v);
}
