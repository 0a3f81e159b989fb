/* SPDX-License-Identifier: BSD-3-Clause */
/* The map by the library: a region for each view, the main one in the tree, windows of the others above it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strategy.h"

/* At first so many slots may be used, and CHANGE_LIMIT takes some of them, down to what the pieces need. */
#define SLOTS_MOST 48u
#define SLOTS_LEAST 20u
#define SLOTS_STEP 2u

struct ours {
	struct gpamap_region *view[VIEWS]; /* of RAM and ROM */
	struct gpamap_region *beside;
	uint64_t *bitmap; /* of RAM and ROM */
	uint32_t slots;	  /* that may be used */
};

static int say(struct boot *b, const char *what, int err, const char *why)
{
	if (err < 0)
		snprintf(b->message, sizeof(b->message), "%s: %s: %s", what, strerror(-err), why);
	return err;
}

/* A failed call on the map itself. */
static int say_map(struct boot *b, const char *what, int err)
{
	char why[160] = "";

	if (err < 0)
		gpamap_last_message(b->pc->map, why, sizeof(why));
	return say(b, what, err, why);
}

static int new_region(struct boot *b, const char *name, unsigned flags, char *hva, size_t pages,
		      size_t most, struct gpamap_region **ret)
{
	const struct gpamap_region_desc desc = {
		.kind = GPAMAP_RAM,
		.flags = flags,
		.name = name,
		.size = pages * b->pages.size,
		.max_size = most * b->pages.size,
		.hva = hva,
	};

	return say_map(b, name, gpamap_region_new(b->pc->map, &desc, ret));
}

static int new_regions(struct boot *b, struct ours *o)
{
	const struct pages *p = &b->pages;
	int err;

	err = new_region(b, "main", 0, p->main, p->rom, 0, &o->view[VIEW_MAIN]);
	if (!err)
		err = new_region(b, "second", 0, p->second, p->rom, 0, &o->view[VIEW_SECOND]);
	if (!err)
		err = new_region(b, "apart", GPAMAP_UNMERGEABLE, p->main, p->rom, 0,
				 &o->view[VIEW_APART]);
	if (!err)
		err = new_region(b, "beside", 0, p->main + p->beside * p->size, 1, PAGES_BESIDE,
				 &o->beside);
	return err;
}

static int commit(struct boot *b, struct gpamap_txn *txn, int err)
{
	if (!err)
		err = gpamap_commit(txn, NULL, NULL);
	say(b, "change", err, gpamap_message(txn));
	gpamap_abort(txn);
	return err;
}

/* All ids but so many are reserved, one part at a time. An id may be in use, and then none is taken away. */
static int limit_slots(struct boot *b, uint32_t to)
{
	struct ours *o = b->state;
	int err = gpamap_reserve_slots(b->pc->map, 0, to, o->slots - to);

	if (err == -EBUSY)
		return 0;
	if (!err)
		o->slots = to;
	return say_map(b, "limit", err);
}

int ours_start(struct boot *b)
{
	struct ours *o = calloc(1, sizeof(*o));
	const struct pages *p = &b->pages;
	struct gpamap_region *root = gpamap_root(b->pc->map, 0);
	struct gpamap_txn *txn;
	int err = o ? 0 : -ENOMEM;

	b->state = o;
	if (err)
		return err;
	o->bitmap = calloc(p->count / 64 + 1, sizeof(*o->bitmap));
	if (!o->bitmap)
		return -ENOMEM;
	err = new_regions(b, o);
	if (err)
		return err;
	o->slots = b->slots;
	err = limit_slots(b, SLOTS_MOST);
	if (!err)
		err = gpamap_begin(b->pc->map, &txn);
	if (err)
		return err;
	err = gpamap_add(txn, root, p->gpa, o->view[VIEW_MAIN], 0);
	if (!err)
		err = gpamap_add(txn, root, pages_gpa(p, p->beside), o->beside, 0);
	return commit(b, txn, err);
}

static int put_piece(struct boot *b, struct gpamap_txn *txn, const struct piece *piece)
{
	const struct ours *o = b->state;
	const struct pages *p = &b->pages;
	uint64_t gpa = pages_gpa(p, piece->first), size = piece->count * p->size;

	if (piece->what == VIEW_MAIN)
		return gpamap_unmap_pages(txn, 0, gpa, size);
	return gpamap_map_region(txn, 0, gpa, size, o->view[piece->what & PAGE_VIEW],
				 piece->first * p->size,
				 piece->what & PAGE_READONLY ? GPAMAP_RO : GPAMAP_RW);
}

static int edit(struct boot *b, struct gpamap_txn *txn, const struct change *c)
{
	const struct ours *o = b->state;
	const struct pages *p = &b->pages;
	struct piece piece;
	int err = 0;

	if (c->kind == CHANGE_LOG) {
		for (enum view v = VIEW_MAIN; !err && v < VIEWS; v++)
			err = gpamap_set_log(txn, o->view[v], p->log);
		return err;
	}
	for (size_t at = c->first; !err && pages_next(p, &at, c->first + c->count, &piece);) {
		if (c->kind == CHANGE_BESIDE)
			err = gpamap_resize(txn, o->beside, piece.count * p->size);
		else
			err = put_piece(b, txn, &piece);
	}
	return err;
}

int ours_apply(struct boot *b, const struct change *c)
{
	const struct ours *o = b->state;
	struct gpamap_txn *txn;
	int err;

	if (c->kind == CHANGE_LIMIT)
		return o->slots > SLOTS_LEAST ? limit_slots(b, o->slots - SLOTS_STEP) : 0;
	err = gpamap_begin(b->pc->map, &txn);
	return err ? say_map(b, "begin", err) : commit(b, txn, edit(b, txn, c));
}

int ours_fetch(struct boot *b)
{
	const struct ours *o = b->state;
	const struct pages *p = &b->pages;
	int err = 0;

	for (enum view v = VIEW_MAIN; !err && v < VIEWS; v++) {
		err = gpamap_dirty_fetch(b->pc->map, o->view[v], 0, p->rom * p->size, o->bitmap);
		for (size_t i = 0; !err && i < (p->rom + 63) / 64; i++)
			b->dirty[i] |= o->bitmap[i];
	}
	return say_map(b, "fetch", err);
}

void ours_stop(struct boot *b)
{
	struct ours *o = b->state;
	struct gpamap_stats stats;

	if (!o)
		return;
	gpamap_get_stats(b->pc->map, &stats);
	b->gate_shut = stats.gate_shut;
	b->merges = stats.merges;
	for (enum view v = VIEW_MAIN; v < VIEWS; v++)
		gpamap_region_put(o->view[v]);
	gpamap_region_put(o->beside);
	free(o->bitmap);
	free(o);
}
