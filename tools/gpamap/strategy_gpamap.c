/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The library: regions and range verbs instead of slots. Blackout: as the library reports it, from the
 * first vCPU held until the gate opens.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "look.h"
#include "run.h"

/* With many more vCPUs than processors it takes long until all are out. A guest that hangs is found by the
 * crew, so this need not be short. */
#define TIMEOUT_MS 60000u

struct gpamap_window {
	struct gpamap_region *guard[RO_PAGES]; /* aliases on single pages, which protect works on */
	struct gpamap_region *alias;	       /* the one that moves */
	struct gpamap_region *back;	       /* its memory is changed */
};

struct gpamap_state {
	struct gpamap *map;
	struct gpamap_region *ram;
	struct gpamap_region *hot[HOT_COUNT];
	struct gpamap_region *show[SHOW_PAGES]; /* those that are not numbered */
	struct gpamap_region *places;		/* the memory of those that are */
	struct gpamap_window *win;
	struct gpamap_vcpu **vcpu;
	uint64_t first_ioctls; /* what start took */
};

static uint64_t page_offset(const struct run *r, unsigned window, unsigned page)
{
	return r->arena.offset + (window * WINDOW_PAGES + page) * PAGE;
}

static int new_alias(const struct run *r, struct gpamap_state *g, unsigned window, unsigned page,
		     unsigned pages, struct gpamap_region **ret)
{
	const struct gpamap_region_desc desc = {
		.kind = GPAMAP_ALIAS,
		.name = "alias",
		.size = pages * PAGE,
		.target = g->ram,
		.target_offset = page_offset(r, window, page),
	};

	return gpamap_region_new(g->map, &desc, ret);
}

/* The arena goes after the map. A callback all the same: memory that has one needs no gate to go. */
static void released(void *opaque)
{
	(void)opaque;
}

static int new_ram(struct gpamap_state *g, const char *name, uint64_t size, uint64_t max, char *hva,
		   struct gpamap_region **ret)
{
	const struct gpamap_region_desc desc = {
		.kind = GPAMAP_RAM,
		.name = name,
		.size = size,
		.max_size = max,
		.hva = hva,
		.release = released,
	};

	return gpamap_region_new(g->map, &desc, ret);
}

static int new_window(const struct run *r, struct gpamap_state *g, unsigned window)
{
	struct gpamap_window *w = &g->win[window];
	char *hva = (char *)arena_page(&r->arena, window, BACK_FIRST);
	int ret = 0;

	for (unsigned i = 0; !ret && i < RO_PAGES; i++)
		ret = new_alias(r, g, window, ro_pages[i], 1, &w->guard[i]);
	if (!ret)
		ret = new_alias(r, g, window, MOVE_FIRST, ALIAS_PAGES, &w->alias);
	if (!ret)
		ret = new_ram(g, "back", BACK_PAGES * PAGE, 0, hva, &w->back);
	return ret;
}

static int new_regions(struct run *r, struct gpamap_state *g)
{
	const struct arena *a = &r->arena;
	int ret = new_ram(g, "ram", a->memory, a->memory + TAIL_PAGES * PAGE, a->ram, &g->ram);

	for (unsigned i = 0; !ret && i < HOT_COUNT; i++)
		ret = new_ram(g, "hot", HOT_SIZE, 0, a->hot + i * HOT_SIZE, &g->hot[i]);
	for (unsigned w = 0; !ret && w < a->windows; w++)
		ret = new_window(r, g, w);
	if (!ret && a->state.generation)
		ret = new_ram(g, "places", SHOW_PAGES * SHOW_PLACES * PAGE, 0, a->show, &g->places);
	for (unsigned i = 0; !ret && a->state.generation && i < SHOW_PAGES; i++) {
		if (!show_numbered(i))
			ret = new_ram(g, "show", PAGE, 0, arena_show_hva(a, i, 0), &g->show[i]);
	}
	return ret;
}

static int add_window(const struct run *r, struct gpamap_state *g, struct gpamap_txn *txn,
		      unsigned window)
{
	struct gpamap_region *root = gpamap_root(g->map, 0);
	struct gpamap_window *w = &g->win[window];
	int ret = 0;

	for (unsigned i = 0; !ret && i < RO_PAGES; i++)
		ret = gpamap_add(txn, root, RAM_GPA + page_offset(r, window, ro_pages[i]),
				 w->guard[i], 1);
	if (!ret)
		ret = gpamap_add(txn, root, RAM_GPA + page_offset(r, window, MOVE_FIRST), w->alias,
				 1);
	if (!ret)
		ret = gpamap_add(txn, root, RAM_GPA + page_offset(r, window, BACK_FIRST), w->back,
				 1);
	return ret;
}

/* The pages on show as in @generation: windows of one region for those that are numbered, and regions for the others. */
static int show(const struct run *r, struct gpamap_state *g, struct gpamap_txn *txn,
		uint32_t generation)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < SHOW_PAGES; i++) {
		uint64_t gpa = arena_show_gpa(i, generation);

		if (show_numbered(i))
			ret = gpamap_map_region(
				txn, 0, gpa, PAGE, g->places,
				(uint64_t)(arena_show_hva(&r->arena, i, generation) -
					   r->arena.show),
				GPAMAP_RW);
		else
			ret = gpamap_add(txn, gpamap_root(g->map, 0), gpa, g->show[i], 0);
	}
	return ret;
}

static int hide(struct gpamap_state *g, struct gpamap_txn *txn, uint32_t generation)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < SHOW_PAGES; i++)
		ret = show_numbered(i)
			      ? gpamap_unmap_pages(txn, 0, arena_show_gpa(i, generation), PAGE)
			      : gpamap_remove(txn, g->show[i]);
	return ret;
}

/* Commit, or note why not and abort. */
static int commit(struct run *r, struct gpamap_txn *txn, int ret,
		  struct gpamap_commit_report *report)
{
	const struct gpamap_commit_options opt = {
		.flags = r->one_instant ? GPAMAP_COMMIT_ONE_INSTANT : 0,
	};

	if (!ret)
		ret = gpamap_commit(txn, &opt, report);
	if (!ret)
		return 0;
	snprintf(r->message, sizeof(r->message), "%s", gpamap_message(txn));
	gpamap_abort(txn);
	return ret;
}

static int first_map(struct run *r, struct gpamap_state *g)
{
	struct gpamap_txn *txn;
	int ret = gpamap_begin(g->map, &txn);

	if (ret)
		return ret;
	ret = gpamap_add(txn, gpamap_root(g->map, 0), RAM_GPA, g->ram, 0);
	for (unsigned w = 0; !ret && w < r->arena.windows; w++)
		ret = add_window(r, g, txn, w);
	if (!ret && r->arena.state.generation)
		ret = show(r, g, txn, r->arena.state.generation);
	return commit(r, txn, ret, NULL);
}

static int attach_all(struct run *r, struct gpamap_state *g)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < r->vcpus; i++)
		ret = r->port->attach(r->vm, i, g->map, &g->vcpu[i]);
	return ret;
}

static void lib_stop(struct run *r)
{
	struct gpamap_state *g = r->state;

	for (unsigned i = 0; g->vcpu && i < r->vcpus; i++)
		gpamap_vcpu_detach(g->vcpu[i]);
	for (unsigned w = 0; g->win && w < r->arena.windows; w++) {
		for (unsigned i = 0; i < RO_PAGES; i++)
			gpamap_region_put(g->win[w].guard[i]);
		gpamap_region_put(g->win[w].alias);
		gpamap_region_put(g->win[w].back);
	}
	for (unsigned i = 0; i < HOT_COUNT; i++)
		gpamap_region_put(g->hot[i]);
	for (unsigned i = 0; i < SHOW_PAGES; i++)
		gpamap_region_put(g->show[i]);
	gpamap_region_put(g->places);
	gpamap_region_put(g->ram);
	if (g->map)
		gpamap_free(g->map);
	free(g->win);
	free(g->vcpu);
	free(g);
	r->state = NULL;
}

static uint64_t lib_slot_ioctls(struct run *r)
{
	struct gpamap_state *g = r->state;
	struct gpamap_stats stats;

	gpamap_get_stats(g->map, &stats);
	return stats.slot_ioctls - g->first_ioctls;
}

static int lib_start(struct run *r)
{
	const struct gpamap_options opt = {
		.kick_signal = KICK_SIGNAL,
		.timeout_ms = TIMEOUT_MS,
		.max_slots = r->max_slots,
		.message = r->message,
		.message_size = sizeof(r->message),
	};
	struct gpamap_state *g = calloc(1, sizeof(*g));
	int ret;

	if (!g)
		return -ENOMEM;
	r->state = g;
	g->win = calloc(r->arena.windows, sizeof(*g->win));
	g->vcpu = calloc(r->vcpus, sizeof(struct gpamap_vcpu *));
	ret = g->win && g->vcpu ? r->port->map_new(r->vm, &opt, &g->map) : -ENOMEM;
	if (!ret) {
		/* Stable memory has a slot that the library does not know. */
		ret = gpamap_reserve_slots(g->map, 0, STABLE_SLOT, 1);
		if (!ret)
			ret = new_regions(r, g);
		if (ret)
			gpamap_last_message(g->map, r->message, sizeof(r->message));
	}
	if (!ret && !(ret = first_map(r, g)))
		ret = attach_all(r, g);
	if (!ret)
		g->first_ioctls = lib_slot_ioctls(r);
	else
		lib_stop(r);
	return ret;
}

/* By the range verbs: the newest mapping wins, and where there is none the tree is seen. */
static int change_gap(struct run *r, struct gpamap_state *g, struct gpamap_txn *txn,
		      const struct change *c)
{
	uint64_t offset = page_offset(r, c->window, gap_pages[c->index]);
	uint64_t gpa = RAM_GPA + offset;

	switch (c->value) {
	case GAP_READONLY:
		return gpamap_map_region(txn, 0, gpa, PAGE, g->ram, offset, GPAMAP_RO);
	case GAP_HOLE:
		return gpamap_map_region(txn, 0, gpa, PAGE, g->ram, offset, GPAMAP_NONE);
	case GAP_OTHER:
		return gpamap_map_pages(txn, 0, gpa, PAGE,
					r->arena.spare + offset - r->arena.offset, GPAMAP_RW);
	default:
		return gpamap_unmap_pages(txn, 0, gpa, PAGE);
	}
}

static int change_log(struct run *r, struct gpamap_state *g, struct gpamap_txn *txn, bool on)
{
	int ret = gpamap_set_log(txn, g->ram, on);

	for (unsigned w = 0; !ret && w < r->arena.windows; w++)
		ret = gpamap_set_log(txn, g->win[w].back, on);
	return ret;
}

static int change_hot(struct run *r, struct gpamap_state *g, struct gpamap_txn *txn,
		      const struct change *c)
{
	uint64_t gpa = r->arena.hot_gpa + 2 * c->index * HOT_SIZE;

	return c->value ? gpamap_add(txn, gpamap_root(g->map, 0), gpa, g->hot[c->index], 0)
			: gpamap_remove(txn, g->hot[c->index]);
}

static int change_show(struct run *r, struct gpamap_state *g, struct gpamap_txn *txn,
		       uint32_t generation)
{
	int ret = hide(g, txn, r->arena.state.generation);

	return ret ? ret : show(r, g, txn, generation);
}

static int change_back(struct run *r, struct gpamap_state *g, struct gpamap_txn *txn,
		       const struct change *c)
{
	uint64_t offset = page_offset(r, c->window, BACK_FIRST);
	char *hva = c->value ? r->arena.alt + offset - r->arena.offset : r->arena.ram + offset;

	return gpamap_reback(txn, g->win[c->window].back, hva);
}

static int edit_one(struct run *r, struct gpamap_state *g, struct gpamap_txn *txn,
		    const struct change *c)
{
	uint64_t at;

	switch (c->kind) {
	case CHANGE_GAP:
		return change_gap(r, g, txn, c);
	case CHANGE_READONLY:
		return gpamap_set_readonly(txn, g->win[c->window].guard[c->index], c->value);
	case CHANGE_SHIFT:
		at = RAM_GPA + page_offset(r, c->window, MOVE_FIRST + c->value);
		return gpamap_move(txn, g->win[c->window].alias, at);
	case CHANGE_BACK:
		return change_back(r, g, txn, c);
	case CHANGE_TAIL:
		return gpamap_resize(txn, g->ram, r->arena.memory + c->value * PAGE);
	case CHANGE_LOG:
		return change_log(r, g, txn, c->value);
	case CHANGE_HOT:
		return change_hot(r, g, txn, c);
	case CHANGE_SHOW:
		return change_show(r, g, txn, c->value);
	}
	return -EINVAL;
}

static int lib_apply(struct run *r, const struct change *changes, unsigned count,
		     struct applied *ret)
{
	struct gpamap_state *g = r->state;
	struct gpamap_commit_report report;
	struct gpamap_txn *txn;
	int err = gpamap_begin(g->map, &txn);

	if (err)
		return err;
	for (unsigned i = 0; !err && i < count; i++)
		err = edit_one(r, g, txn, &changes[i]);
	err = commit(r, txn, err, &report);
	if (err)
		return err;
	for (unsigned i = 0; i < count; i++)
		change_apply(&r->arena.state, &changes[i]);
	*ret = (struct applied){.gate_shut = report.gate_shut,
				.blackout = report.gate_shut,
				.blackout_us = (double)report.blackout_ns / 1000};
	return 0;
}

static int lib_fetch_dirty(struct run *r, uint64_t *bitmap)
{
	struct gpamap_state *g = r->state;
	int ret = gpamap_dirty_fetch(g->map, g->ram, r->arena.offset, r->arena.size, bitmap);

	for (unsigned w = 0; !ret && w < r->arena.windows; w++) {
		unsigned first = w * WINDOW_PAGES + BACK_FIRST;
		uint64_t bits = 0;

		ret = gpamap_dirty_fetch(g->map, g->win[w].back, 0, BACK_PAGES * PAGE, &bits);
		bitmap[first / 64] |= bits << (first % 64);
	}
	return ret;
}

static int lib_run_vcpu(struct run *r, unsigned vcpu)
{
	return gpamap_vcpu_run(((struct gpamap_state *)r->state)->vcpu[vcpu]);
}

static int lib_ioctl(struct run *r, unsigned vcpu, int device, unsigned long request, void *arg)
{
	struct gpamap *map = ((struct gpamap_state *)r->state)->map;

	(void)vcpu;
	return device == PORT_VM ? gpamap_vm_ioctl(map, request, arg)
				 : gpamap_device_ioctl(map, device, request, arg);
}

const struct strategy strategy_gpamap = {
	.name = "gpamap",
	.start = lib_start,
	.stop = lib_stop,
	.apply = lib_apply,
	.fetch_dirty = lib_fetch_dirty,
	.run_vcpu = lib_run_vcpu,
	.ioctl = lib_ioctl,
	.slot_ioctls = lib_slot_ioctls,
};
