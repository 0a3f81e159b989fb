/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random worlds, and random changes of their views: memory mapped and unmapped, protected, logged, moved,
 * re-backed and renamed, trapping and not, devices of a few bytes and of many pages, over memory and below it.
 * Pages of guest_memfds go from one region, place and space to another. Windows are as small as may be, or
 * larger.
 */
#ifndef GM_TESTS_RANDOM_EDITS_H
#define GM_TESTS_RANDOM_EDITS_H

#include "world.h"

#define PAGES_MAX 40
/* Regions from this one on are guest_memfd: one file, of which the second one shows the pages from 4 on; and, less
 * often, another file. */
#define FIRST_GMEM 5
#define FIRST_FD 7
#define NR_FDS 2
#define FILE_PAGES 64

struct random_world {
	struct world w;
	uint64_t base; /* first page */
	unsigned nr;   /* pages */
	bool roomy;    /* slots never run short */
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
	r->w.in.most_slot_size = r->w.in.max_slot_size << below(4);
	r->has_gmem = below(2);
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

static inline struct gm_range whole(const struct random_world *r)
{
	return (struct gm_range){r->base * PAGE, (r->base + r->nr - 1) * PAGE + (PAGE - 1)};
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

/* Take away what shows @size bytes of file @fd from @offset on, wherever that is. */
static inline bool find_shown(struct random_world *r, unsigned space, int fd, struct gm_range bytes,
			      struct gm_range *ret)
{
	gm_tree_for_each (n, r->w.views[space].root, ((struct gm_range){0, UINT64_MAX})) {
		const struct gm_seg *s = gm_seg_of(n);
		uint64_t first = s->gmem_offset, size = n->range.last - n->range.first;
		struct gm_range shown = {first, first + size};

		if (!(s->flags & GM_SEG_GUEST_MEMFD) || s->gmem_fd != fd ||
		    !gm_range_intersect(shown, bytes, &shown))
			continue;
		ret->first = n->range.first + (shown.first - first);
		ret->last = n->range.first + (shown.last - first);
		return true;
	}
	return false;
}

static inline void evict(struct random_world *r, int fd, struct gm_range bytes)
{
	struct gm_range shown;

	for (unsigned space = 0; space < SPACES; space++) {
		while (find_shown(r, space, fd, bytes, &shown))
			put(r, space, shown, NULL);
	}
}

/* File @fd from @at on, as a region of it shows it. */
static inline struct gm_seg gmem_seg(struct random_world *r, int fd, uint64_t at)
{
	bool second = at >= 4 * PAGE && below(2);
	uint64_t offset = second ? at - 4 * PAGE : at;
	struct gm_seg seg = seg_of(&r->w, FIRST_GMEM + second, offset, GM_SEG_GUEST_MEMFD);

	seg.gmem_fd = fd;
	seg.gmem_offset = at;
	return seg;
}

static inline void put_gmem(struct random_world *r, unsigned space, struct gm_range range,
			    const struct gm_seg *seg)
{
	uint64_t size = range.last - range.first;

	/* Shown twice, now and then. */
	if (below(12))
		evict(r, seg->gmem_fd,
		      (struct gm_range){seg->gmem_offset, seg->gmem_offset + size});
	put(r, space, range, seg);
}

static inline void edit_map_gmem(struct random_world *r, unsigned space)
{
	struct gm_range range = random_range(r);
	uint64_t at = below(3) ? range.first - r->base * PAGE : below(8) * PAGE;
	struct gm_seg seg = gmem_seg(r, FIRST_FD + (below(4) == 0), at);

	if (below(4) == 0)
		seg.flags |= GM_SEG_LOG;
	put_gmem(r, space, range, &seg);
}

static inline void edit_map(struct random_world *r, unsigned space)
{
	struct gm_range range = random_range(r);
	int region = (int)below(FIRST_GMEM);
	uint64_t at = below(3) ? range.first - r->base * PAGE : below(8) * PAGE;
	struct gm_seg seg;
	uint32_t flags = 0;

	if (r->plain) {
		seg = seg_of(&r->w, 0, range.first - r->base * PAGE, 0);
		put(r, space, range, &seg);
		return;
	}
	if (below(5) == 0)
		flags = GM_SEG_READONLY;
	if (below(4) == 0)
		flags |= GM_SEG_LOG;
	seg = seg_of(&r->w, region, at, flags);
	seg.hva = r->w.regions[region].now.hva + at;
	if (below(10) == 0)
		seg.kind = GM_SEG_ROMD;
	if (below(8) == 0)
		seg.group = 1 + below(2);
	put(r, space, range, &seg);
}

static inline struct gm_seg random_trap(struct random_world *r)
{
	return (struct gm_seg){
		.region = &r->w.regions[below(3)],
		.kind = below(2) ? GM_SEG_MMIO : GM_SEG_NONE,
		.gmem_fd = -1,
	};
}

/* Nothing is left, or what was below comes to light. */
static inline void edit_unmap(struct random_world *r, unsigned space)
{
	struct gm_seg seg = random_trap(r);

	put(r, space, below(6) ? random_range(r) : whole(r), below(3) ? NULL : &seg);
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

/* Something below the memory: it shows where there is none. */
static inline void edit_beneath(struct random_world *r, unsigned space)
{
	struct gm_range range = random_range(r), gap = range;
	struct gm_seg seg = random_trap(r);

	for (;;) {
		const struct gm_node *n = gm_tree_first(r->w.views[space].root, gap);
		struct gm_range at = n ? n->range : gap;

		if (!n || at.first > gap.first)
			put(r, space, (struct gm_range){gap.first, n ? at.first - 1 : gap.last},
			    &seg);
		if (!n || at.last >= range.last)
			return;
		gap.first = at.last + 1;
	}
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

static inline bool is_mapping(const struct gm_seg *s)
{
	return gm_seg_backed(s) || s->kind == GM_SEG_NONE;
}

/* Change all segments of memory in @range, or all that show @region, by @change. */
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
		if (is_mapping(&seg) && (!region || seg.region == region)) {
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

/* A mapping that traps may remember memory, or have none. */
static inline bool has_memory(const struct gm_seg *s)
{
	return s->hva >= region_hva(0);
}

/* Memory traps, or is memory again; a ROM device goes to the mode in which it traps. */
static inline void toggle_trap(struct random_world *r, struct gm_seg *seg)
{
	(void)r;
	if (seg->kind == GM_SEG_ROMD)
		*seg = (struct gm_seg){.region = seg->region,
				       .offset = seg->offset,
				       .kind = GM_SEG_MMIO,
				       .gmem_fd = -1};
	else
		seg->kind = seg->kind == GM_SEG_NONE && has_memory(seg) ? GM_SEG_RAM : GM_SEG_NONE;
}

static inline void reback(struct random_world *r, struct gm_seg *seg)
{
	(void)r;
	if (has_memory(seg))
		seg->hva = seg->region->now.hva + seg->offset;
}

/* The same memory, named by another region. */
static inline void rename_seg(struct random_world *r, struct gm_seg *seg)
{
	seg->region = &r->w.regions[seg->flags & GM_SEG_GUEST_MEMFD ? FIRST_GMEM + below(2)
								    : below(FIRST_GMEM)];
	seg->group = below(3);
}

/* Other memory for a region, wherever it shows. */
static inline void edit_reback(struct random_world *r)
{
	struct gpamap_region *region = &r->w.regions[below(FIRST_GMEM)];

	if (!region->touched)
		region->was = region->now;
	region->touched = true;
	region->now.hva ^= UINT64_C(1) << 32;
	for (unsigned space = 0; space < SPACES; space++)
		change_segs(r, space, whole(r), region, reback);
}

static inline void edit_segs(struct random_world *r, unsigned space)
{
	const struct gpamap_region *region = &r->w.regions[below(NR_REGIONS)];

	switch (below(8)) {
	case 0:
		change_segs(r, space, whole(r), region, toggle_log);
		break;
	case 1:
		edit_reback(r);
		break;
	case 2:
		change_segs(r, space, random_range(r), NULL, rename_seg);
		break;
	case 3:
		change_segs(r, space, random_range(r), NULL, toggle_log);
		break;
	case 4:
		change_segs(r, space, random_range(r), NULL, toggle_trap);
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

/* A part of a guest_memfd that is shown goes to another place, region or space. */
static inline void edit_hand_over(struct random_world *r)
{
	struct gm_range range, to, all = whole(r);
	struct gm_seg seg;
	uint64_t skip, size;

	if (!random_seg(r, below(2), &range, &seg) || !(seg.flags & GM_SEG_GUEST_MEMFD) ||
	    range.last - range.first < PAGE - 1 || (range.first & (PAGE - 1)))
		return;
	skip = below((unsigned)((range.last - range.first + 1) / PAGE)) * PAGE;
	size = (range.last - range.first - skip + 1) / PAGE;
	size = (1 + below((unsigned)size)) * PAGE - 1;
	to.first = (r->base + below(r->nr)) * PAGE;
	if (size > all.last - to.first)
		size = all.last - to.first;
	to.last = to.first + size;
	seg = gmem_seg(r, seg.gmem_fd, seg.gmem_offset + skip);
	put_gmem(r, below(2), to, &seg);
}

static inline void edit_gmem(struct random_world *r, unsigned space)
{
	if (below(2))
		edit_hand_over(r);
	else
		edit_map_gmem(r, space);
}

static inline void random_edit(struct random_world *r)
{
	unsigned space = below(4) == 0;

	if (r->plain && below(3)) {
		change_segs(r, space, random_range(r), NULL, toggle_readonly);
		return;
	}
	if (r->has_gmem && below(5) == 0) {
		edit_gmem(r, space);
		return;
	}
	switch (below(17)) {
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
	case 12:
		edit_beneath(r, space);
		break;
	default:
		edit_segs(r, space);
		break;
	}
}

/* The transaction ends. */
static inline void end_edits(struct random_world *r, bool committed)
{
	for (int i = 0; i < NR_REGIONS; i++) {
		struct gpamap_region *region = &r->w.regions[i];

		if (region->touched && !committed)
			region->now = region->was;
		region->touched = false;
	}
}

#endif
