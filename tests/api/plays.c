/* SPDX-License-Identifier: BSD-3-Clause */
/* The plays; see plays.h. */
#include "plays.h"

static uint8_t *memory;

void plays_memory(void)
{
	memory = mem_new(MEMORY, 4 * EACH);
}

void scene_add(struct scene *s, struct gpamap_txn *txn, int r, uint64_t gpa)
{
	ok_txn(txn, gpamap_add(txn, s->root, gpa, s->r[r], 0));
}

void scene_move(struct scene *s, struct gpamap_txn *txn, int r, uint64_t gpa)
{
	ok_txn(txn, gpamap_move(txn, s->r[r], gpa));
}

void scene_drop(struct scene *s, struct gpamap_txn *txn, int r)
{
	ok_txn(txn, gpamap_remove(txn, s->r[r]));
}

void scene_log(struct scene *s, struct gpamap_txn *txn, int r)
{
	ok_txn(txn, gpamap_set_log(txn, s->r[r], true));
}

static void relabel_first(struct scene *s, struct gpamap_txn *txn)
{
	scene_log(s, txn, 0);
	scene_add(s, txn, 0, AT(0));
	scene_add(s, txn, 1, AT(5));
}

/* The same memory at the same place: to the kernel, the second is the first without its log. */
static void relabel(struct scene *s, struct gpamap_txn *txn)
{
	scene_drop(s, txn, 0);
	scene_add(s, txn, 4, AT(0));
	scene_drop(s, txn, 1);
}

static void chain_first(struct scene *s, struct gpamap_txn *txn)
{
	scene_add(s, txn, 0, AT(0));
	scene_add(s, txn, 1, AT(1));
}

/* Each onto the next one's place. */
static void chain(struct scene *s, struct gpamap_txn *txn)
{
	scene_move(s, txn, 1, AT(2));
	scene_move(s, txn, 0, AT(1));
	scene_add(s, txn, 2, AT(5));
}

static void long_chain_first(struct scene *s, struct gpamap_txn *txn)
{
	scene_log(s, txn, 0);
	for (int i = 0; i < 3; i++)
		scene_add(s, txn, i, AT(i));
}

static void long_chain(struct scene *s, struct gpamap_txn *txn)
{
	for (int i = 2; i >= 0; i--)
		scene_move(s, txn, i, AT(i) + PAGE);
	scene_add(s, txn, 3, AT(6));
}

static void swap_first(struct scene *s, struct gpamap_txn *txn)
{
	scene_log(s, txn, 0);
	scene_add(s, txn, 0, AT(0));
	scene_add(s, txn, 1, AT(2));
	scene_add(s, txn, 2, AT(4));
	scene_add(s, txn, 3, AT(8));
}

static void swap(struct scene *s, struct gpamap_txn *txn)
{
	scene_move(s, txn, 0, AT(3));
	scene_move(s, txn, 1, AT(0));
	scene_move(s, txn, 0, AT(2));
	scene_log(s, txn, 2);
	scene_drop(s, txn, 3);
}

static void twins_first(struct scene *s, struct gpamap_txn *txn)
{
	scene_log(s, txn, 0);
	scene_log(s, txn, 1);
	scene_add(s, txn, 0, AT(0));
	scene_add(s, txn, 1, AT(2));
	scene_add(s, txn, 2, AT(5));
}

static void twins(struct scene *s, struct gpamap_txn *txn)
{
	scene_drop(s, txn, 0);
	scene_drop(s, txn, 1);
	scene_add(s, txn, 4, AT(0));
	scene_add(s, txn, 5, AT(2) + PAGE);
	scene_drop(s, txn, 2);
	scene_add(s, txn, 3, AT(5));
}

/* To the kernel, the second is the first at another place. */
static void twin_beside_first(struct scene *s, struct gpamap_txn *txn)
{
	scene_add(s, txn, 0, AT(0));
	scene_add(s, txn, 1, AT(3));
	scene_add(s, txn, 2, AT(6));
}

static void twin_beside(struct scene *s, struct gpamap_txn *txn)
{
	scene_drop(s, txn, 0);
	scene_add(s, txn, 4, AT(0) + PAGE);
	scene_move(s, txn, 1, AT(3) + PAGE);
	scene_drop(s, txn, 2);
}

/* All four kinds of operations. */
static void kinds(struct scene *s, struct gpamap_txn *txn)
{
	ok_txn(txn, gpamap_set_readonly(txn, s->r[0], true));
	scene_log(s, txn, 2);
	scene_move(s, txn, 1, AT(2) + PAGE);
	scene_drop(s, txn, 3);
	scene_add(s, txn, 5, AT(6));
}

const struct play plays[PLAYS] = {
	{"relabel", relabel_first, relabel, 0, true},
	{"chain", chain_first, chain, GPAMAP_COMMIT_ONE_INSTANT, false},
	{"long chain", long_chain_first, long_chain, 0, true},
	{"swap", swap_first, swap, 0, true},
	{"twins", twins_first, twins, 0, true},
	{"twin beside", twin_beside_first, twin_beside, GPAMAP_COMMIT_ONE_INSTANT, false},
	{"kinds", swap_first, kinds, 0, true},
};

void scene_open(struct scene *s)
{
	vm_open(&s->vm, NULL, NULL);
	s->root = gpamap_root(s->vm.map, 0);
	for (size_t i = 0; i < REGIONS; i++)
		s->r[i] = vm_ram(&s->vm, memory + i % 4 * EACH * PAGE, EACH, 0);
}

void scene_close(struct scene *s)
{
	for (size_t i = 0; i < REGIONS; i++)
		gpamap_region_put(s->r[i]);
	vm_close(&s->vm);
}

uint64_t scene_fetch(struct scene *s, int r)
{
	uint64_t bitmap = 0;

	ok(gpamap_dirty_fetch(s->vm.map, s->r[r], 0, EACH * PAGE, &bitmap));
	return bitmap;
}

void scene_check_region(struct scene *s, int r, uint64_t gpa)
{
	vm_check_pages(&s->vm, gpa / PAGE, EACH, MEMORY, (uint64_t)(r % 4) * EACH, true);
}
