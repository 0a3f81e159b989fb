/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A fetch of dirty pages in parts, on the simulated VM: of one page of a region, and of the whole of it slot by slot, by the
 * number of slots. Each must cost what is asked for, so the whole grows with the slots, and a part of it does not.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "gpamap-sim.h"

/* 128 times the slots: the caches, and the logarithm. A look at all of them would be 128. */
#define PART_LIMIT 10.0
/* Of a slot in the pass: the same. */
#define PASS_LIMIT 10.0
#define SLOT (4 * PAGE)

enum { NR_SIZES = 3 };

struct fetched {
	unsigned slots;
	struct gpamap_sim *sim;
	struct gpamap *map;
	struct gpamap_region *ram;
	struct series page; /* us of a fetch of one page */
	struct series slot; /* us of each fetch in a pass */
};

static void fetched_open(struct fetched *f, unsigned slots)
{
	const struct gpamap_options opt = {.max_slot_size = SLOT};
	struct gpamap_region_desc desc = {
		.kind = GPAMAP_RAM, .size = slots * SLOT, .hva = reserve_memory(slots * SLOT)};
	struct gpamap_txn *txn;

	*f = (struct fetched){.slots = slots};
	check(gpamap_sim_new(NULL, &f->sim), "simulated VM");
	check(gpamap_new_sim(f->sim, &opt, &f->map), "map");
	check(gpamap_region_new(f->map, &desc, &f->ram), "region");
	check(gpamap_begin(f->map, &txn), "begin");
	check(gpamap_add(txn, gpamap_root(f->map, 0), 0, f->ram, 0), "add");
	check(gpamap_set_log(txn, f->ram, true), "log");
	check(gpamap_commit(txn, NULL, NULL), "commit");
}

static void fetched_close(struct fetched *f)
{
	gpamap_region_put(f->ram);
	gpamap_free(f->map);
	gpamap_sim_free(f->sim);
	series_free(&f->page);
	series_free(&f->slot);
}

static double fetch(struct fetched *f, uint64_t offset, uint64_t size)
{
	double start = now_us();
	uint64_t bitmap;

	check(gpamap_dirty_fetch(f->map, f->ram, offset, size, &bitmap), "fetch");
	return now_us() - start;
}

static void sample(struct fetched *f)
{
	double start = now_us();

	for (unsigned i = 0; i < f->slots; i++)
		fetch(f, i * SLOT, SLOT);
	series_add(&f->slot, (now_us() - start) / f->slots);
	series_add(&f->page, fetch(f, f->slots / 2 * SLOT, PAGE));
}

void bench_fetch(struct bench *b)
{
	static const unsigned slots[NR_SIZES] = {64, 1024, 8192};
	struct fetched f[NR_SIZES];
	double page[NR_SIZES], pass[NR_SIZES];

	for (int i = 0; i < NR_SIZES; i++)
		fetched_open(&f[i], slots[i]);
	for (unsigned round = 0; round < (b->quick ? 10 : 50); round++) {
		for (int i = 0; i < NR_SIZES; i++)
			sample(&f[i]);
	}
	for (int i = 0; i < NR_SIZES; i++) {
		page[i] = result_row(b, "fetch", "one page", slots[i], "us", &f[i].page);
		pass[i] = result_row(b, "fetch", "all, slot by slot: each", slots[i], "us",
				     &f[i].slot);
	}
	result_ratio(b, "fetch", "one page: at 8192 slots / at 64", page[NR_SIZES - 1] / page[0],
		     PART_LIMIT);
	result_ratio(b, "fetch", "each in a pass: at 8192 slots / at 64",
		     pass[NR_SIZES - 1] / pass[0], PASS_LIMIT);
	for (int i = 0; i < NR_SIZES; i++)
		fetched_close(&f[i]);
}
