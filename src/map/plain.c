/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The plain way: pages mapped, unmapped and protected by GPA, the newest wins.
 *
 * The plain mappings of an address space are in a tree. A mapping says which bytes of which region stand there,
 * and how they are protected; what the region itself says (memory, log, read-only) is looked up when the
 * mapping is flattened, so that an edit of the region reaches it.
 *
 * Every verb works out, without changing anything, which mappings it takes (in) and which it puts in their
 * place (out). Then it reserves, marks, and swaps them. With n mappings in the address space and k of them in the
 * range or beside it, that takes O(k log n), and memory for O(k) of them, and for O(k log n) nodes until the
 * transaction ends.
 *
 * Invariants:
 *  PM1  Plain mappings of an address space don't overlap.
 *  PM2  A region that isn't internal has the entry (first, space) in its tree `shown` for each mapping
 *      of it, with the range of the mapping.
 */
#include <errno.h>

#include "map/check.h"
#include "map/label.h"
#include "map/map.h"
#include "map/plain.h"
#include "map/view.h"

struct mapping {
	struct gm_range range;
	struct gm_seg seg; /* region, offset, kind and READONLY; the rest is 0 */
};

struct swap {
	struct gm_map *map;
	unsigned space;
	struct mapping *mappings; /* what in and out lie in */
	struct mapping *in;
	size_t nr_in;
	struct mapping *out;
	size_t nr_out;
};

static struct gm_tree *ranges_of(const struct swap *c)
{
	return &c->map->spaces[c->space].ranges;
}

/* ---------------------------------------------------------------------------- work out --- */

/* Collect the mappings in @look. -ENOMEM. */
static int begin(struct swap *c, struct gm_map *m, unsigned space, struct gm_range look)
{
	const struct gm_node *root = m->spaces[space].ranges.root;
	size_t n = 0;

	*c = (struct swap){.map = m, .space = space};
	gm_tree_for_each (node, root, look)
		n++;
	/* Going out: each of them, but the outermost may be cut in two, or have a new one between. */
	c->mappings = gm_calloc(m->alloc, 2 * n + 2, sizeof(*c->mappings));
	if (!c->mappings)
		return -ENOMEM;
	c->in = c->mappings;
	c->out = c->mappings + n;
	gm_tree_for_each (node, root, look)
		c->in[c->nr_in++] = (struct mapping){node->range, *gm_seg_of(node)};
	return 0;
}

static void end(struct swap *c)
{
	gm_free(c->map->alloc, c->mappings);
}

/* The mapping goes out; it may be one with the last that did. */
static void emit(struct swap *c, const struct mapping *p)
{
	struct mapping *last = c->nr_out ? &c->out[c->nr_out - 1] : NULL;

	if (last && last->range.last + 1 == p->range.first && last->seg.region == p->seg.region &&
	    last->seg.offset + gm_range_size(last->range) == p->seg.offset &&
	    last->seg.kind == p->seg.kind && last->seg.flags == p->seg.flags)
		last->range.last = p->range.last;
	else
		c->out[c->nr_out++] = *p;
}

static void set_prot(struct gm_seg *seg, enum gpamap_prot prot)
{
	seg->kind = prot == GPAMAP_NONE ? GM_SEG_NONE : GM_SEG_RAM;
	seg->flags = prot == GPAMAP_RO ? GM_SEG_READONLY : 0;
}

/* What came in goes out, as far as it lies in @range; with another protection if @prot isn't 0. */
static void emit_part(struct swap *c, struct gm_range range, enum gpamap_prot prot)
{
	for (size_t i = 0; i < c->nr_in; i++) {
		struct mapping p = c->in[i];

		if (!gm_range_intersect(p.range, range, &p.range))
			continue;
		p.seg.offset += p.range.first - c->in[i].range.first;
		if (prot)
			set_prot(&p.seg, prot);
		emit(c, &p);
	}
}

static void emit_before(struct swap *c, struct gm_range window)
{
	if (window.first)
		emit_part(c, (struct gm_range){0, window.first - 1}, 0);
}

static void emit_after(struct swap *c, struct gm_range window)
{
	if (window.last != UINT64_MAX)
		emit_part(c, (struct gm_range){window.last + 1, UINT64_MAX}, 0);
}

static bool same(const struct mapping *a, const struct mapping *b)
{
	return a->range.first == b->range.first && a->range.last == b->range.last &&
	       a->seg.region == b->seg.region && a->seg.offset == b->seg.offset &&
	       a->seg.kind == b->seg.kind && a->seg.flags == b->seg.flags;
}

/* Neighbours that came in only because they might have been joined. */
static void skip_same(struct swap *c)
{
	while (c->nr_in && c->nr_out && same(c->in, c->out)) {
		c->in++;
		c->nr_in--;
		c->out++;
		c->nr_out--;
	}
	while (c->nr_in && c->nr_out && same(&c->in[c->nr_in - 1], &c->out[c->nr_out - 1])) {
		c->nr_in--;
		c->nr_out--;
	}
}

/* ------------------------------------------------------------------------------- apply --- */

static void count(const struct mapping *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i].seg.region->pending++;
}

/* Each region has its edits reserved once, and its count back at 0. */
static int reserve_shown(const struct mapping *p, size_t n, int err)
{
	for (size_t i = 0; i < n; i++) {
		struct gpamap_region *r = p[i].seg.region;

		if (!err && r->pending && !r->internal)
			err = gm_tree_reserve(&r->shown, r->pending);
		r->pending = 0;
	}
	return err;
}

/* Mark what changes in @window: where something comes in, or goes out. */
static int mark(const struct swap *c, struct gm_range window, const struct mapping *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct gm_range r;

		if (gm_range_intersect(p[i].range, window, &r) &&
		    gm_windows_cover(&c->map->spaces[c->space].windows, r))
			return -ENOMEM;
	}
	return 0;
}

static int prepare(const struct swap *c, struct gm_range window)
{
	int err = gm_tree_reserve(ranges_of(c), c->nr_in + c->nr_out);

	count(c->in, c->nr_in);
	count(c->out, c->nr_out);
	err = reserve_shown(c->in, c->nr_in, err);
	err = reserve_shown(c->out, c->nr_out, err);
	if (!err)
		err = mark(c, window, c->in, c->nr_in);
	if (!err)
		err = mark(c, window, c->out, c->nr_out);
	return err;
}

static void take(const struct swap *c, const struct mapping *p)
{
	struct gpamap_region *r = p->seg.region;

	if (!r->internal) {
		gm_touch(r);
		gm_tree_remove(&r->shown, p->range.first, c->space);
	}
	gm_tree_remove(ranges_of(c), p->range.first, 0);
}

static void put(const struct swap *c, const struct mapping *p)
{
	struct gpamap_region *r = p->seg.region;

	if (!r->internal) {
		gm_touch(r);
		gm_tree_insert(&r->shown, p->range, c->space, NULL);
	}
	gm_tree_insert(ranges_of(c), p->range, 0, &p->seg);
}

/* Swap in for out; they differ within @window only. All or nothing. */
static int apply(struct swap *c, struct gm_range window)
{
	int err;

	skip_same(c);
	err = prepare(c, window);
	if (err)
		return err;
	/* The nodes of what is taken keep its regions alive until the transaction ends (T4). */
	for (size_t i = 0; i < c->nr_in; i++)
		take(c, &c->in[i]);
	for (size_t i = 0; i < c->nr_out; i++)
		put(c, &c->out[i]);
	return 0;
}

/* ------------------------------------------------------------------------------ checks --- */

static int check_range(const struct gm_map *m, unsigned space, uint64_t gpa, uint64_t size,
		       struct gm_msg *msg, struct gm_range *ret)
{
	if (space >= m->nr_spaces)
		return gm_fail(msg, -ENXIO, "there is no address space %u, only %u of them", space,
			       m->nr_spaces);
	if (size == 0)
		return gm_fail(msg, -EINVAL, "the size at GPA 0x%llx is 0", (gm_ull)gpa);
	if (!gm_aligned(m, gpa) || !gm_size_aligned(m, size))
		return gm_fail(
			msg, -EINVAL,
			"GPA 0x%llx and size 0x%llx must be multiples of the page size 0x%llx",
			(gm_ull)gpa, (gm_ull)size, (gm_ull)m->page_size);
	if (!gm_range_make(gpa, size, ret))
		return gm_fail(msg, -EOVERFLOW, "0x%llx bytes from GPA 0x%llx reach beyond 2^64",
			       (gm_ull)size, (gm_ull)gpa);
	return 0;
}

static int check_prot(const struct gpamap_region *r, enum gpamap_prot prot, struct gm_msg *msg)
{
	if (prot < GPAMAP_RW || prot > GPAMAP_NONE)
		return gm_fail(msg, -EINVAL, "there is no protection %d", (int)prot);
	if (prot == GPAMAP_RO && r && r->guest_memfd)
		return gm_fail(msg, -EPERM, "'" GM_NAME "': guest_memfd can't be read-only",
			       gm_label(r));
	return 0;
}

static int check_offset(const struct gm_map *m, const struct gpamap_region *ram, uint64_t offset,
			uint64_t size, struct gm_msg *msg)
{
	struct gm_range window;

	if (ram->kind != GPAMAP_RAM)
		return gm_fail(msg, -ENOTSUP, "'" GM_NAME "' is no RAM, but of kind %s",
			       gm_label(ram), gm_kind_name(ram->kind));
	if (!gm_aligned(m, offset))
		return gm_fail(msg, -EINVAL,
			       "offset 0x%llx in '" GM_NAME
			       "' is not a multiple of the page size 0x%llx",
			       (gm_ull)offset, gm_label(ram), (gm_ull)m->page_size);
	if (!gm_range_make(offset, size, &window))
		return gm_fail(msg, -EOVERFLOW,
			       "0x%llx bytes from offset 0x%llx of '" GM_NAME "' reach beyond 2^64",
			       (gm_ull)size, (gm_ull)offset, gm_label(ram));
	if (!gm_range_within(window, gm_all_of(ram->now.size)))
		return gm_fail(msg, -ERANGE,
			       "0x%llx bytes from offset 0x%llx are not within '" GM_NAME
			       "' of 0x%llx bytes",
			       (gm_ull)size, (gm_ull)offset, gm_label(ram), (gm_ull)ram->now.size);
	return 0;
}

static int check_protect(const struct swap *c, struct gm_range window, enum gpamap_prot prot,
			 struct gm_msg *msg)
{
	uint64_t next = window.first;
	bool done = false;

	for (size_t i = 0; i < c->nr_in && !done; i++) {
		struct gm_range r = c->in[i].range;
		int err;

		if (!gm_range_overlap(r, window))
			continue;
		if (r.first > next)
			break;
		err = check_prot(c->in[i].seg.region, prot, msg);
		if (err)
			return err;
		done = r.last >= window.last;
		next = r.last + 1;
	}
	if (!done)
		return gm_fail(msg, -ENOENT,
			       "nothing is mapped at GPA 0x%llx, within 0x%llx-0x%llx",
			       (gm_ull)next, (gm_ull)window.first, (gm_ull)window.last);
	return 0;
}

/* ------------------------------------------------------------------------------- verbs --- */

/* @window and the addresses beside it, where a neighbour may be that it continues. */
static struct gm_range with_neighbours(struct gm_range window)
{
	if (window.first)
		window.first--;
	if (window.last != UINT64_MAX)
		window.last++;
	return window;
}

static int no_memory(struct gm_range window, struct gm_msg *msg)
{
	return gm_fail(msg, -ENOMEM, "no memory to change what is mapped at GPA 0x%llx-0x%llx",
		       (gm_ull)window.first, (gm_ull)window.last);
}

static int map_one(struct gm_map *m, unsigned space, struct gm_range window,
		   struct gpamap_region *r, uint64_t offset, enum gpamap_prot prot,
		   struct gm_msg *msg)
{
	struct mapping p = {window, {.region = r, .offset = offset}};
	struct swap c;
	int err = begin(&c, m, space, with_neighbours(window));

	if (err)
		return no_memory(window, msg);
	set_prot(&p.seg, prot);
	emit_before(&c, window);
	emit(&c, &p);
	emit_after(&c, window);
	err = apply(&c, window);
	end(&c);
	return err ? no_memory(window, msg) : 0;
}

int gm_ranges_map(struct gm_map *m, unsigned space, uint64_t gpa, uint64_t size, void *hva,
		  enum gpamap_prot prot, struct gm_msg *msg)
{
	uint64_t from = (uint64_t)(uintptr_t)hva;
	struct gm_range window;
	int err = check_range(m, space, gpa, size, msg, &window);

	if (!err)
		err = check_prot(NULL, prot, msg);
	if (!err)
		err = gm_check_hva(m, "pages", from, size, msg);
	return err ? err : map_one(m, space, window, m->pages, from, prot, msg);
}

int gm_ranges_map_region(struct gm_map *m, unsigned space, uint64_t gpa, uint64_t size,
			 struct gpamap_region *ram, uint64_t offset, enum gpamap_prot prot,
			 struct gm_msg *msg)
{
	struct gm_range window;
	int err = gm_check_map(m, ram, msg);

	if (!err)
		err = check_range(m, space, gpa, size, msg, &window);
	if (!err)
		err = check_offset(m, ram, offset, size, msg);
	if (!err)
		err = check_prot(ram, prot, msg);
	return err ? err : map_one(m, space, window, ram, offset, prot, msg);
}

int gm_ranges_unmap(struct gm_map *m, unsigned space, uint64_t gpa, uint64_t size,
		    struct gm_msg *msg)
{
	struct gm_range window;
	struct swap c;
	int err = check_range(m, space, gpa, size, msg, &window);

	if (err)
		return err;
	err = begin(&c, m, space, window);
	if (err)
		return no_memory(window, msg);
	emit_before(&c, window);
	emit_after(&c, window);
	err = apply(&c, window);
	end(&c);
	return err ? no_memory(window, msg) : 0;
}

int gm_ranges_protect(struct gm_map *m, unsigned space, uint64_t gpa, uint64_t size,
		      enum gpamap_prot prot, struct gm_msg *msg)
{
	struct gm_range window;
	struct swap c;
	int err = check_range(m, space, gpa, size, msg, &window);

	if (!err)
		err = check_prot(NULL, prot, msg);
	if (err)
		return err;
	err = begin(&c, m, space, with_neighbours(window));
	if (err)
		return no_memory(window, msg);
	err = check_protect(&c, window, prot, msg);
	if (!err) {
		emit_before(&c, window);
		emit_part(&c, window, prot);
		emit_after(&c, window);
		err = apply(&c, window);
		if (err)
			no_memory(window, msg);
	}
	end(&c);
	return err;
}
