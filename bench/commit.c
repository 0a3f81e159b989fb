/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A commit of one changed page, end to end, among 10 to 32,000 mappings; and its rival, the two slot
 * operations alone. On KVM, or on the simulated VM where there is none. No vCPU runs.
 */
#include <err.h>
#include <gpamap-sim.h>
#include <gpamap.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "guest.h"

/* Of what a commit takes longer than its slot operations. The logarithm grows by 1.5, and what falls out of
 * the caches adds to it; the linear cost would be 32. */
#define GROWTH_LIMIT 8.0

struct rig {
	unsigned n;
	bool raw; /* the rival: no map, slots by hand */
	struct guest guest;
	struct gpamap_sim *sim; /* or KVM */
	struct gpamap *map;
	bool *readonly;
	char *memory;
	struct series us;
};

/* Every other page, so that each mapping is a slot of its own. */
static uint64_t place(unsigned i)
{
	return 2 * PAGE * i;
}

static int raw_slot(struct rig *r, unsigned i, bool readonly, uint64_t size)
{
	struct gpamap_sim_slot slot = {.slot = i};

	if (!r->sim)
		return guest_slot(&r->guest, i, readonly ? KVM_MEM_READONLY : 0, place(i), size);
	if (size) {
		slot.flags = readonly ? GPAMAP_SIM_READONLY : 0;
		slot.gpa = place(i);
		slot.size = size;
		slot.hva = (uint64_t)(uintptr_t)r->memory + place(i);
	}
	return gpamap_sim_set_slot(r->sim, &slot);
}

static void fill(struct rig *r)
{
	struct gpamap_txn *txn;

	if (r->raw) {
		for (unsigned i = 0; i < r->n; i++)
			check(raw_slot(r, i, false, PAGE), "slot");
		return;
	}
	check(gpamap_begin(r->map, &txn), "begin");
	for (unsigned i = 0; i < r->n; i++)
		check(gpamap_map_pages(txn, 0, place(i), PAGE, r->memory + place(i), GPAMAP_RW),
		      "map");
	check(gpamap_commit(txn, NULL, NULL), "commit");
}

static void rig_init(struct rig *r, int kvm, unsigned n, bool raw)
{
	*r = (struct rig){.n = n, .raw = raw};
	r->readonly = calloc(n, sizeof(*r->readonly));
	if (!r->readonly)
		err(1, "rig");
	if (kvm >= 0) {
		guest_init(&r->guest, kvm, place(n), 0);
		r->memory = r->guest.memory;
		if (!raw)
			check(gpamap_new_kvm(r->guest.fd, NULL, &r->map), "map");
	} else {
		r->memory = reserve_memory(place(n));
		check(gpamap_sim_new(NULL, &r->sim), "sim");
		if (!raw)
			check(gpamap_new_sim(r->sim, NULL, &r->map), "map");
	}
	fill(r);
}

static void rig_destroy(struct rig *r)
{
	gpamap_free(r->map);
	if (r->sim) {
		gpamap_sim_free(r->sim);
		munmap(r->memory, place(r->n));
	} else {
		guest_destroy(&r->guest);
	}
	free(r->readonly);
	series_free(&r->us);
}

static void change(struct rig *r, unsigned i)
{
	struct gpamap_txn *txn;

	r->readonly[i] = !r->readonly[i];
	if (r->raw) {
		check(raw_slot(r, i, false, 0), "delete");
		check(raw_slot(r, i, r->readonly[i], PAGE), "create");
		return;
	}
	check(gpamap_begin(r->map, &txn), "begin");
	check(gpamap_protect_pages(txn, 0, place(i), PAGE, r->readonly[i] ? GPAMAP_RO : GPAMAP_RW),
	      "protect");
	check(gpamap_commit(txn, NULL, NULL), "commit");
}

enum { NR_SIZES = 3, NR_RIGS = 2 * NR_SIZES };

static void report(struct bench *b, struct rig *rigs)
{
	double median[NR_RIGS], own[NR_SIZES];
	char what[80];

	for (int i = 0; i < NR_RIGS; i++)
		median[i] = result_row(b, "commit", rigs[i].raw ? "two slot operations" : "commit",
				       rigs[i].n, "us", &rigs[i].us);
	for (int i = 0; i < NR_SIZES; i++) {
		/* What can't be told from nothing counts as a tenth of a microsecond. */
		own[i] = fmax(0.1, median[i] - median[NR_SIZES + i]);
		snprintf(what, sizeof(what), "commit / two slot operations, at %u", rigs[i].n);
		result_ratio(b, "commit", what, median[i] / median[NR_SIZES + i], 0);
	}
	snprintf(what, sizeof(what), "commit - two slot operations: at %u / at %u", rigs[2].n,
		 rigs[1].n);
	result_ratio(b, "commit", what, own[2] / own[1], GROWTH_LIMIT);
}

void bench_commit(struct bench *b)
{
	static const unsigned sizes[NR_SIZES] = {10, 1000, 32000};
	unsigned rounds = b->quick ? 20 : 200;
	struct rig *rigs = calloc(NR_RIGS, sizeof(*rigs));

	if (!rigs)
		err(1, "rigs");
	if (b->kvm < 0)
		result_note(b, "commit", "no KVM here: measured on the simulated VM");
	srand(1);
	pin_begin();
	for (int i = 0; i < NR_RIGS; i++)
		rig_init(&rigs[i], b->kvm, sizes[i % NR_SIZES], i >= NR_SIZES);
	for (unsigned round = 0; round < rounds; round++) {
		for (int i = 0; i < NR_RIGS; i++) {
			for (int turn = 0; turn < 20; turn++) {
				double start = now_us();

				change(&rigs[i], (unsigned)rand() % rigs[i].n);
				series_add(&rigs[i].us, now_us() - start);
			}
		}
	}
	pin_end();
	report(b, rigs);
	for (int i = 0; i < NR_RIGS; i++)
		rig_destroy(&rigs[i]);
	free(rigs);
}
