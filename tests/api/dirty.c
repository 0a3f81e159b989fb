/* SPDX-License-Identifier: BSD-3-Clause */
/* A logged region and what becomes of it; see dirty.h. */
#include "dirty.h"

uint8_t *memory, *memory_again;
static uint8_t *other;

int dirty_memory(void **state)
{
	(void)state;
	memory = mem_new(LOGGED, PAGES);
	memory_again = mem_again(LOGGED, PAGES);
	other = mem_new(OTHER, PAGES);
	return 0;
}

static struct gpamap_region *alias(struct dirty *d, uint64_t pages, unsigned flags)
{
	struct gpamap_region_desc desc = {.kind = GPAMAP_ALIAS,
					  .flags = flags,
					  .name = "alias",
					  .size = pages * PAGE,
					  .target = d->logged};

	return vm_region(&d->vm, &desc);
}

void dirty_commit(struct gpamap_txn *txn)
{
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
}

void dirty_open(struct dirty *d, const char *name, uint64_t seed)
{
	struct gpamap_options opt = {.max_slots = 60};
	struct gpamap_region *root;
	struct gpamap_txn *txn;

	memset(d, 0, sizeof(*d));
	d->random = random_new(name, seed);
	vm_open(&d->vm, NULL, &opt);
	d->logged = vm_ram(&d->vm, memory, 48, PAGES);
	d->whole = alias(d, PAGES, 0);
	d->window = alias(d, 16, 0);
	d->screen = alias(d, 4, GPAMAP_READONLY);
	root = gpamap_root(d->vm.map, 0);
	txn = vm_begin(&d->vm);
	ok_txn(txn, gpamap_add(txn, root, 0, d->whole, 0));
	ok_txn(txn, gpamap_add(txn, root, 100 * PAGE, d->window, 0));
	ok_txn(txn, gpamap_add(txn, root, 8 * PAGE, d->screen, 1));
	ok_txn(txn, gpamap_set_log(txn, d->logged, true));
	dirty_commit(txn);
}

void dirty_close(struct dirty *d)
{
	gpamap_region_put(d->logged);
	gpamap_region_put(d->whole);
	gpamap_region_put(d->window);
	gpamap_region_put(d->screen);
	vm_close(&d->vm);
}

/* ------------------------------------------------------------------------------------- edits --- */

static int edit_random(struct dirty *d, struct gpamap_txn *txn)
{
	struct random *r = &d->random;
	uint64_t n = 1 + random_below(r, 12);

	switch (random_below(r, 10)) {
	case 0:
		return gpamap_move(txn, d->whole, random_below(r, 20) * PAGE);
	case 1:
		return gpamap_move(txn, d->window, (60 + random_below(r, 60)) * PAGE);
	case 2:
		return gpamap_move(txn, d->screen, random_below(r, 120) * PAGE);
	case 3:
		return gpamap_set_enabled(txn, d->screen, random_below(r, 2));
	case 4:
		return gpamap_set_target_offset(txn, d->window, random_below(r, 60) * PAGE);
	case 5:
		return gpamap_resize(txn, d->logged, (1 + random_below(r, PAGES)) * PAGE);
	case 6:
		return gpamap_map_region(txn, 0, random_below(r, 148) * PAGE, n * PAGE, d->logged,
					 0, random_below(r, 4) ? GPAMAP_RW : GPAMAP_RO);
	case 7:
		return gpamap_map_pages(txn, 0, random_below(r, 148) * PAGE, n * PAGE, other,
					GPAMAP_RW);
	case 8:
		return gpamap_reback(txn, d->logged, random_below(r, 2) ? memory : memory_again);
	default:
		return gpamap_unmap_pages(txn, 0, random_below(r, 148) * PAGE, 4 * n * PAGE);
	}
}

/* A rule of the fault plan, at random. */
static void arm_random(struct dirty *d)
{
	enum gpamap_sim_call call = (enum gpamap_sim_call)random_below(&d->random, 6);

	gpamap_sim_fail(d->vm.sim, call, 1 + (unsigned)random_below(&d->random, 6), EIO,
			random_below(&d->random, 2));
}

void dirty_disarm(struct dirty *d)
{
	for (int call = GPAMAP_SIM_ANY; call <= GPAMAP_SIM_GET_DIRTY; call++)
		gpamap_sim_fail(d->vm.sim, (enum gpamap_sim_call)call, 0, 0, false);
}

void dirty_change(struct dirty *d, bool faults)
{
	struct gpamap_commit_options opt = {0};
	struct gpamap_txn *txn = vm_begin(&d->vm);
	int err;

	for (uint64_t k = 1 + random_below(&d->random, 3); k > 0; k--) {
		err = edit_random(d, txn);
		/* A resized region is not as long as a mapping of it wants to be. */
		if (err != -ERANGE)
			ok_txn(txn, err);
	}
	if (random_below(&d->random, 8) == 0)
		opt.flags = GPAMAP_COMMIT_ONE_INSTANT;
	if (faults)
		arm_random(d);
	err = gpamap_commit(txn, &opt, NULL);
	dirty_disarm(d);
	if (!err)
		return;
	assert_true(faults || err == -ENOSPC);
	d->faults++;
	d->repairs += err == -ENOTRECOVERABLE;
	if (err != -ENOSPC && random_below(&d->random, 2)) {
		dirty_commit(txn);
		return;
	}
	gpamap_abort(txn);
	txn = vm_begin(&d->vm);
	dirty_commit(txn);
}

uint64_t dirty_fetch_all(struct dirty *d)
{
	uint64_t bits = 0;

	ok(gpamap_dirty_fetch(d->vm.map, d->logged, 0, PAGES * PAGE, &bits));
	return bits;
}
