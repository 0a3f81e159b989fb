/* SPDX-License-Identifier: BSD-3-Clause */
/* What the next views say, as the verifier reads them, and whether the slots say the same. (V3) */
#include <errno.h>

#include "model.h"

/* ---------------------------------------------------------------------------- sights --- */

struct gm_sight gm_sight_of_slot(const struct gm_slot *s, uint64_t gpa)
{
	uint64_t by = gpa - s->gpa.first;
	bool gmem = s->flags & GM_SLOT_GUEST_MEMFD;

	return (struct gm_sight){
		.hva = s->hva + by,
		.gmem_fd = gmem ? s->gmem_fd : -1,
		.gmem_offset = gmem ? s->gmem_offset + by : 0,
		.flags = s->flags & ~(uint32_t)GM_SLOT_LOG,
		.log = s->flags & GM_SLOT_LOG,
	};
}

static struct gm_sight sight_of_seg(const struct gm_node *n, uint64_t gpa)
{
	const struct gm_seg *s = gm_seg_of(n);
	uint64_t by = gpa - n->range.first;
	bool gmem = s->flags & GM_SEG_GUEST_MEMFD;
	bool readonly = s->kind == GM_SEG_ROMD || (s->flags & GM_SEG_READONLY);

	return (struct gm_sight){
		.hva = s->hva + by,
		.gmem_fd = gmem ? s->gmem_fd : -1,
		.gmem_offset = gmem ? s->gmem_offset + by : 0,
		.flags = (readonly ? GM_SLOT_READONLY : 0) | (gmem ? GM_SLOT_GUEST_MEMFD : 0),
		.log = (s->flags & GM_SEG_LOG) && !readonly && !gmem,
	};
}

bool gm_sight_same(const struct gm_sight *a, const struct gm_sight *b)
{
	return a->hva == b->hva && a->flags == b->flags && a->gmem_fd == b->gmem_fd &&
	       a->gmem_offset == b->gmem_offset;
}

/* -------------------------------------------------------------------------- stretches --- */

struct gm_sight gm_stretch_at(const struct gm_stretch *s, uint64_t gpa)
{
	struct gm_sight ret = s->sight;

	ret.hva += gpa - s->range.first;
	if (ret.flags & GM_SLOT_GUEST_MEMFD)
		ret.gmem_offset += gpa - s->range.first;
	return ret;
}

static bool is_memory(const struct gm_node *n)
{
	uint32_t kind = gm_seg_of(n)->kind;

	return kind == GM_SEG_RAM || kind == GM_SEG_ROMD;
}

/* Does @b go on where @a ends, with what would come next of the same memory? */
static bool goes_on(const struct gm_node *a, const struct gm_node *b)
{
	const struct gm_seg *sa = gm_seg_of(a), *sb = gm_seg_of(b);
	struct gm_sight next, there;

	if (!is_memory(b) || a->range.last == UINT64_MAX || a->range.last + 1 != b->range.first)
		return false;
	next = sight_of_seg(a, b->range.first);
	there = sight_of_seg(b, b->range.first);
	return gm_sight_same(&next, &there) && next.log == there.log && sa->region == sb->region &&
	       sa->group == sb->group &&
	       sa->offset + (b->range.first - a->range.first) == sb->offset;
}

/* The whole pages of @r; false: there are none. */
static bool shrink(struct gm_range *r, uint64_t page_size)
{
	uint64_t head = (page_size - r->first % page_size) % page_size;
	uint64_t tail = (r->last % page_size + 1) % page_size;
	uint64_t last_offset = r->last - r->first;

	if (last_offset < head || last_offset - head < tail)
		return false;
	r->first += head;
	r->last -= tail;
	return r->first < r->last;
}

bool gm_stretch_find(const struct gm_node *view, uint64_t page_size, struct gm_range within,
		     struct gm_stretch *ret)
{
	const struct gm_node *n = gm_tree_first(view, within);

	while (n) {
		const struct gm_node *start = n, *end = n;
		struct gm_range r;

		n = gm_tree_next(view, within, end->range.first, end->tag);
		if (!is_memory(start))
			continue;
		while (n && goes_on(end, n)) {
			end = n;
			n = gm_tree_next(view, within, end->range.first, end->tag);
		}
		r.first = start->range.first > within.first ? start->range.first : within.first;
		r.last = end->range.last < within.last ? end->range.last : within.last;
		if (!shrink(&r, page_size))
			continue;
		*ret = (struct gm_stretch){.range = r, .sight = sight_of_seg(start, r.first)};
		return true;
	}
	return false;
}

/* ------------------------------------------------------------------------------- V3 --- */

static int differs(const struct gm_model *m, unsigned space, uint64_t gpa, const char *why)
{
	return gm_fail(m->msg, -EINVAL, "V3: space %u, 0x%llx: %s", space, (unsigned long long)gpa,
		       why);
}

static int compare_slot(const struct gm_model *m, const struct gm_slot *s,
			const struct gm_stretch *stretch)
{
	struct gm_sight has = gm_sight_of_slot(s, s->gpa.first);
	struct gm_sight wants = gm_stretch_at(stretch, s->gpa.first);

	if (s->gpa.last > stretch->range.last)
		return differs(m, s->space, stretch->range.last, "a slot goes beyond its memory");
	if (!gm_sight_same(&has, &wants))
		return differs(m, s->space, s->gpa.first, "a slot shows other memory");
	if (has.log != wants.log)
		return differs(m, s->space, s->gpa.first, "LOG is wrong");
	if (s->gpa.first / m->in->most_slot_size != s->gpa.last / m->in->most_slot_size)
		return differs(m, s->space, s->gpa.first, "a slot is too large");
	return 0;
}

/* The slots of @stretch, from the first byte to the last. None reaches into it from below: it would be in the gap
 * before, or go beyond the stretch before. */
static int compare_stretch(const struct gm_model *m, unsigned space,
			   const struct gm_stretch *stretch)
{
	uint64_t gpa = stretch->range.first;

	for (;;) {
		const struct gm_slot *s = gm_model_at(m, space, gpa);
		int err;

		if (!s)
			return differs(m, space, gpa, "memory without a slot");
		err = compare_slot(m, s, stretch);
		if (err || s->gpa.last == stretch->range.last)
			return err;
		gpa = s->gpa.last + 1;
	}
}

static int no_slots_in(const struct gm_model *m, unsigned space, struct gm_range r)
{
	const struct gm_slot *s = gm_model_next(m, space, r.first);

	return s && s->gpa.first <= r.last
		       ? differs(m, space, s->gpa.first, "a slot without memory")
		       : 0;
}

static int compare_space(const struct gm_model *m, unsigned space)
{
	struct gm_range rest = {0, UINT64_MAX};
	struct gm_stretch stretch;
	int err;

	while (gm_stretch_find(m->in->views[space], m->in->page_size, rest, &stretch)) {
		if (stretch.range.first > rest.first) {
			struct gm_range gap = {rest.first, stretch.range.first - 1};

			err = no_slots_in(m, space, gap);
			if (err)
				return err;
		}
		err = compare_stretch(m, space, &stretch);
		if (err || stretch.range.last == UINT64_MAX)
			return err;
		rest.first = stretch.range.last + 1;
	}
	return no_slots_in(m, space, rest);
}

int gm_model_compare(const struct gm_model *m)
{
	for (unsigned i = 0; i < m->in->nr_spaces; i++) {
		int err = compare_space(m, i);

		if (err)
			return err;
	}
	return 0;
}
