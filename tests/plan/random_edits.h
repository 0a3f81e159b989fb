/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random worlds, and random changes of their views: memory mapped and unmapped, protected, logged, moved,
 * re-backed and renamed, devices of a few bytes. Windows are as small as may be, or larger.
 */
#ifndef GM_TESTS_RANDOM_EDITS_H
#define GM_TESTS_RANDOM_EDITS_H

#include "world.h"

#define PAGES_MAX 40

struct random_world {
	struct world w;
	uint64_t base;			/* first page */
	unsigned nr;			/* pages */
	uint64_t moved_hva[NR_REGIONS]; /* where each region's memory is, beside its first place */
	bool roomy;			/* slots never run short */
	bool has_gmem;
	bool plain; /* little but protecting and growing: many pieces that could be one */
};

static uint64_t random_state;

static inline uint64_t random_seed(void)
{
	const char *seed = getenv("GPAMAP_TEST_SEED");

	random_state = seed ? strtoull(seed, NULL, 0) : 20240607;
	printf("GPAMAP_TEST_SEED=%llu\n", (unsigned long long)random_state);
	return random_state;
}

/* splitmix64 */
static inline uint64_t random_next(void)
{
	uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static inline unsigned below(unsigned n)
{
	return (unsigned)(random_next() % n);
}

static inline void random_world_init(struct random_world *r)
{
	static const unsigned blocks[] = {1, 2, 4, 8, 16, 64};
	uint32_t limit = 512, max_taken = 512;

	memset(r, 0, sizeof(*r));
	r->roomy = below(2);
	r->nr = 2 + below(PAGES_MAX - 1);
	if (!r->roomy)
		*(below(2) ? &limit : &max_taken) = 1 + below(20);
	r->plain = below(2);
	world_init(&r->w, limit, max_taken);
	for (unsigned i = 0; i < SPACES && limit > 4 && below(3) == 0; i++)
		must(gm_ids_reserve(&r->w.slots[i].ids, below(limit - 3), 2));
	if (r->w.slots[0].ids.nr_reserved != r->w.slots[1].ids.nr_reserved)
		must(gm_ids_reserve(&r->w.slots[1].ids, 1, 2));
	r->w.in.max_slot_size = PAGE * blocks[below(6)];
	r->has_gmem = below(4) == 0;
	switch (below(3)) {
	case 0:
		r->base = 0;
		break;
	case 1:
		r->base = 1000 + below(9);
		break;
	default:
		r->base = UINT64_MAX / PAGE - r->nr + 1;
		break;
	}
}

static inline struct gm_range random_range(const struct random_world *r)
{
	unsigned first = below(r->nr), n = 1 + below(below(3) ? 4 : r->nr);

	if (n > r->nr - first)
		n = r->nr - first;
	return (struct gm_range){(r->base + first) * PAGE,
				 (r->base + first + n - 1) * PAGE + (PAGE - 1)};
}

/* A window: just @range, or more. */
static inline void random_window(struct random_world *r, unsigned space, struct gm_range range)
{
	struct gm_range wide = random_range(r);

	if (below(4) == 0) {
		range.first = wide.first < range.first ? wide.first : range.first;
		range.last = wide.last > range.last ? wide.last : range.last;
	}
	window(&r->w, space, range);
}

static inline void put(struct random_world *r, unsigned space, struct gm_range range,
		       const struct gm_seg *seg)
{
	view_put(&r->w, space, range, seg);
	random_window(r, space, range);
}

static inline void edit_map(struct random_world *r, unsigned space)
{
	struct gm_range range = random_range(r);
	int region = (int)below(r->has_gmem ? NR_REGIONS : NR_REGIONS - 1);
	uint64_t at = below(3) ? range.first - r->base * PAGE : below(8) * PAGE;
	struct gm_seg seg;
	uint32_t flags = 0;

	if (r->plain) {
		seg = seg_of(&r->w, 0, range.first - r->base * PAGE, 0);
		put(r, space, range, &seg);
		return;
	}
	if (region == NR_REGIONS - 1)
		flags = GM_SEG_GUEST_MEMFD;
	else if (below(5) == 0)
		flags = GM_SEG_READONLY;
	if (below(4) == 0)
		flags |= GM_SEG_LOG;
	seg = seg_of(&r->w, region, at, flags);
	seg.hva += r->moved_hva[region];
	if (below(10) == 0 && region != NR_REGIONS - 1)
		seg.kind = GM_SEG_ROMD;
	if (below(8) == 0)
		seg.group = 1 + below(2);
	put(r, space, range, &seg);
}

static inline void edit_unmap(struct random_world *r, unsigned space)
{
	put(r, space, random_range(r), NULL);
}

/* A device of a few bytes: the rest of its page is no memory then. */
static inline void edit_device(struct random_world *r, unsigned space)
{
	struct gm_seg seg = {.region = &r->w.regions[0], .kind = GM_SEG_MMIO, .gmem_fd = -1};
	struct gm_range page = random_range(r);
	uint64_t first = page.first + below(PAGE), n = below(below(2) ? 16 : 2 * PAGE);

	if (n > page.last - first)
		n = page.last - first;
	put(r, space, (struct gm_range){first, first + n}, &seg);
}

/* What is at a random place, whole; and the memory under it, where a part of it was hidden. */
static inline bool random_seg(struct random_world *r, unsigned space, struct gm_range *range,
			      struct gm_seg *seg)
{
	const struct gm_node *n = gm_tree_first(r->w.views[space].root, random_range(r));

	if (!n)
		return false;
	*range = n->range;
	*seg = *gm_seg_of(n);
	return true;
}

/* Fill the rest of a page with the memory that begins or ends in it: a device goes away. */
static inline void edit_undevice(struct random_world *r, unsigned space)
{
	struct gm_range range, hidden;
	struct gm_seg seg;

	if (!random_seg(r, space, &range, &seg) || !gm_seg_backed(&seg) ||
	    (range.last & (PAGE - 1)) == PAGE - 1)
		return;
	hidden = (struct gm_range){range.last + 1, range.last | (PAGE - 1)};
	seg = gm_seg_advance(&seg, range.first, hidden.first);
	put(r, space, hidden, &seg);
}

/* Change all segments in @range, or all that show @region, by @change. */
static inline void change_segs(struct random_world *r, unsigned space, struct gm_range range,
			       const struct gpamap_region *region,
			       void (*change)(struct random_world *r, struct gm_seg *seg))
{
	uint64_t first = range.first;

	for (;;) {
		struct gm_range rest = {first, range.last}, part;
		const struct gm_node *n = gm_tree_first(r->w.views[space].root, rest);
		struct gm_seg seg;

		if (!n)
			return;
		gm_range_intersect(n->range, rest, &part);
		seg = gm_seg_advance(gm_seg_of(n), n->range.first, part.first);
		if (gm_seg_backed(&seg) && (!region || seg.region == region)) {
			change(r, &seg);
			put(r, space, part, &seg);
		}
		if (part.last == range.last)
			return;
		first = part.last + 1;
	}
}

static inline void toggle_readonly(struct random_world *r, struct gm_seg *seg)
{
	(void)r;
	if (!(seg->flags & GM_SEG_GUEST_MEMFD))
		seg->flags ^= GM_SEG_READONLY;
}

static inline void toggle_log(struct random_world *r, struct gm_seg *seg)
{
	(void)r;
	seg->flags ^= GM_SEG_LOG;
}

static inline void reback(struct random_world *r, struct gm_seg *seg)
{
	size_t region = (size_t)(seg->region - r->w.regions);

	if (!(seg->flags & GM_SEG_GUEST_MEMFD))
		seg->hva = region_hva((int)region) + r->moved_hva[region] + seg->offset;
}

/* The same memory, named by another region. */
static inline void rename_seg(struct random_world *r, struct gm_seg *seg)
{
	if (seg->flags & GM_SEG_GUEST_MEMFD)
		return;
	seg->region = &r->w.regions[below(NR_REGIONS - 1)];
	seg->group = below(3);
}

static inline struct gm_range whole(const struct random_world *r)
{
	return (struct gm_range){r->base * PAGE, (r->base + r->nr - 1) * PAGE + (PAGE - 1)};
}

static inline void edit_segs(struct random_world *r, unsigned space)
{
	const struct gpamap_region *region = &r->w.regions[below(NR_REGIONS)];

	switch (below(6)) {
	case 0:
		change_segs(r, space, whole(r), region, toggle_log);
		break;
	case 1:
		r->moved_hva[region - r->w.regions] ^= UINT64_C(1) << 32;
		change_segs(r, space, whole(r), region, reback);
		break;
	case 2:
		change_segs(r, space, random_range(r), NULL, rename_seg);
		break;
	case 3:
		change_segs(r, space, random_range(r), NULL, toggle_log);
		break;
	default:
		change_segs(r, space, random_range(r), NULL, toggle_readonly);
		break;
	}
}

static inline void edit_move(struct random_world *r, unsigned space)
{
	struct gm_range range, to, all = whole(r);
	uint64_t size;
	struct gm_seg seg;

	if (!random_seg(r, space, &range, &seg) || (range.first & (PAGE - 1)))
		return;
	size = range.last - range.first;
	to.first = (r->base + below(r->nr)) * PAGE;
	if (size > all.last - to.first)
		return;
	to.last = to.first + size;
	if (below(8))
		put(r, space, range, NULL);
	put(r, space, to, &seg);
}

static inline void edit_swap(struct random_world *r, unsigned space)
{
	struct gm_range a, b;
	struct gm_seg sa, sb;

	if (!random_seg(r, space, &a, &sa) || !random_seg(r, space, &b, &sb) ||
	    a.first == b.first || a.last - a.first != b.last - b.first ||
	    ((a.first ^ b.first) & (PAGE - 1)))
		return;
	put(r, space, a, &sb);
	put(r, space, b, &sa);
}

static inline void random_edit(struct random_world *r)
{
	unsigned space = below(4) == 0;

	if (r->plain && below(3)) {
		change_segs(r, space, random_range(r), NULL, toggle_readonly);
		return;
	}
	switch (below(16)) {
	case 0:
	case 1:
	case 2:
	case 3:
		edit_map(r, space);
		break;
	case 4:
	case 5:
		edit_unmap(r, space);
		break;
	case 6:
		edit_device(r, space);
		break;
	case 7:
		edit_undevice(r, space);
		break;
	case 8:
	case 9:
		edit_move(r, space);
		break;
	case 10:
		edit_swap(r, space);
		break;
	case 11:
		random_window(r, space, random_range(r));
		break;
	default:
		edit_segs(r, space);
		break;
	}
}

#endif
