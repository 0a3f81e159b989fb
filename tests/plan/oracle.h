/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What must become of a random world, page by page, by the rules on top of plan.h. It knows nothing of planner and
 * verifier.
 */
#ifndef GM_TESTS_ORACLE_H
#define GM_TESTS_ORACLE_H

#include "random_edits.h"

/* What the oracle says of one page. */
struct page {
	bool backed;	   /* in the next view */
	struct gm_seg seg; /* as seen from the page's first byte */
	bool was, will_be; /* is anything in it, in the old view, in the next one? */
	bool goes,
		comes; /* with slots that can't stay; with memory that they leave, or that is new */
};

/* And of a page of a guest_memfd, in all spaces. */
struct file_page {
	unsigned shown; /* in how many places of the next views */
	bool goes, comes;
};

struct oracle {
	struct page page[SPACES][PAGES_MAX + 1];
	struct file_page file[NR_FDS][FILE_PAGES];
	uint32_t least[SPACES];	    /* slots that the view can't do without */
	uint32_t least_cut[SPACES]; /* the same if none may be larger than it has to be */
	uint32_t fixed[SPACES];	    /* slots of guest_memfds, which are not merged */
	uint32_t room[SPACES];	    /* slots that may be made before one is deleted */
};

/* ----------------------------------------------------------------------------- oracle --- */

static inline uint32_t slot_flags(const struct gm_seg *s)
{
	uint32_t flags = 0;

	if (s->kind == GM_SEG_ROMD || (s->flags & GM_SEG_READONLY))
		flags |= GM_SLOT_READONLY;
	if (s->flags & GM_SEG_GUEST_MEMFD)
		flags |= GM_SLOT_GUEST_MEMFD;
	return flags ? flags : s->flags & GM_SEG_LOG ? GM_SLOT_LOG : 0;
}

/* Could @b, @by bytes further on than @a, be in one slot with it? */
static inline bool goes_on(const struct gm_seg *a, const struct gm_seg *b, uint64_t by)
{
	return slot_flags(a) == slot_flags(b) && a->region == b->region && a->group == b->group &&
	       a->hva + by == b->hva && a->offset + by == b->offset && a->gmem_fd == b->gmem_fd &&
	       a->gmem_offset + (a->flags & GM_SEG_GUEST_MEMFD ? by : 0) == b->gmem_offset;
}

/* The memory of the page at @gpa, if all of it is; in pieces perhaps, where a device was. */
static inline bool look_at_page(const struct random_world *r, unsigned space, uint64_t gpa,
				struct gm_seg *ret)
{
	uint64_t last = gpa + (PAGE - 1), at = gpa;

	for (;;) {
		const struct gm_node *n =
			gm_tree_first(r->w.views[space].root, (struct gm_range){at, at});
		struct gm_seg seg;

		if (!n || !gm_seg_backed(gm_seg_of(n)))
			return false;
		seg = gm_seg_advance(gm_seg_of(n), n->range.first, at);
		if (at == gpa)
			*ret = seg;
		else if (!goes_on(ret, &seg, at - gpa))
			return false;
		if (n->range.last >= last)
			return true;
		at = n->range.last + 1;
	}
}

static inline uint64_t page_gpa(const struct random_world *r, unsigned p)
{
	return (r->base + p) * PAGE;
}

static inline bool any_in_page(const struct gm_node *view, uint64_t gpa)
{
	return gm_tree_first(view, (struct gm_range){gpa, gpa + (PAGE - 1)});
}

static inline struct file_page *file_page(struct oracle *o, int fd, uint64_t offset)
{
	assert_true(fd >= FIRST_FD && fd < FIRST_FD + NR_FDS && offset / PAGE < FILE_PAGES);
	return &o->file[fd - FIRST_FD][offset / PAGE];
}

static inline void look_at_pages(const struct random_world *r, struct oracle *o, unsigned space)
{
	uint64_t most = r->w.in.most_slot_size, preferred = r->w.in.max_slot_size;

	for (unsigned p = 0; p < r->nr; p++) {
		struct page *page = &o->page[space][p], *before = p ? page - 1 : NULL;
		uint64_t gpa = page_gpa(r, p);

		page->was = any_in_page(r->w.views[space].base, gpa);
		page->will_be = any_in_page(r->w.views[space].root, gpa);
		page->backed = look_at_page(r, space, gpa, &page->seg);
		if (!page->backed)
			continue;
		if (page->seg.flags & GM_SEG_GUEST_MEMFD)
			file_page(o, page->seg.gmem_fd, page->seg.gmem_offset)->shown++;
		if (before && before->backed && goes_on(&before->seg, &page->seg, PAGE)) {
			o->least[space] += gpa % most == 0;
			o->least_cut[space] += gpa % preferred == 0;
		} else {
			o->least[space]++;
			o->least_cut[space]++;
		}
	}
}

static inline unsigned page_of(const struct random_world *r, uint64_t gpa)
{
	return (unsigned)(gpa / PAGE - r->base);
}

/* Can the kernel keep slot @s, but for LOG on or off as a whole? */
static inline bool can_stay(const struct random_world *r, const struct oracle *o,
			    const struct gm_slot *s)
{
	unsigned first = page_of(r, s->gpa.first), last = page_of(r, s->gpa.last);
	const struct page *page = o->page[s->space];

	for (unsigned p = first; p <= last; p++) {
		const struct gm_seg *seg = &page[p].seg;

		if (!page[p].backed || seg->hva != s->hva + (p - first) * PAGE ||
		    ((slot_flags(seg) ^ s->flags) & ~(uint32_t)GM_SLOT_LOG))
			return false;
		if ((s->flags & GM_SLOT_GUEST_MEMFD) &&
		    (seg->gmem_fd != s->gmem_fd ||
		     seg->gmem_offset != s->gmem_offset + (p - first) * PAGE))
			return false;
		if (p > first && !goes_on(&page[p - 1].seg, seg, PAGE))
			return false;
	}
	return !(s->flags & GM_SLOT_LOG) ||
	       (page[first].seg.region == s->region && page[first].seg.offset == s->offset);
}

static inline void look_at_slot(const struct random_world *r, struct oracle *o,
				const struct gm_slot *s)
{
	unsigned first = page_of(r, s->gpa.first), last = page_of(r, s->gpa.last);
	bool stays = can_stay(r, o, s), gmem = s->flags & GM_SLOT_GUEST_MEMFD;

	o->fixed[s->space] += gmem;
	o->room[s->space]--;
	for (unsigned p = first; p <= last; p++) {
		if (stays)
			o->page[s->space][p].comes = false;
		else
			o->page[s->space][p].goes = true;
		if (!stays && gmem)
			file_page(o, s->gmem_fd, s->gmem_offset + (p - first) * PAGE)->goes = true;
	}
}

static inline void look_at_files(const struct random_world *r, struct oracle *o, unsigned space)
{
	for (unsigned p = 0; p < r->nr; p++) {
		const struct page *page = &o->page[space][p];

		if (page->comes && (page->seg.flags & GM_SEG_GUEST_MEMFD))
			file_page(o, page->seg.gmem_fd, page->seg.gmem_offset)->comes = true;
	}
}

static inline void ask_oracle(const struct random_world *r, struct oracle *o)
{
	struct gm_range all = {0, UINT64_MAX};

	memset(o, 0, sizeof(*o));
	for (unsigned space = 0; space < SPACES; space++) {
		o->room[space] = capacity(&r->w);
		look_at_pages(r, o, space);
		for (unsigned p = 0; p < r->nr; p++)
			o->page[space][p].comes = o->page[space][p].backed;
		gm_tree_for_each (n, r->w.slots[space].tree.base, all)
			look_at_slot(r, o, gm_slot_of(n));
		look_at_files(r, o, space);
	}
}

static inline bool shown_twice(const struct oracle *o)
{
	for (int fd = 0; fd < NR_FDS; fd++) {
		for (int p = 0; p < FILE_PAGES; p++) {
			if (o->file[fd][p].shown > 1)
				return true;
		}
	}
	return false;
}

/* ---------------------------------------------------------------------------- reasons --- */

/* Why an operation is critical. */
enum {
	WHY_INSTANT = 1 << 0,  /* all are */
	WHY_OVERLAP = 1 << 1,  /* what goes meets what comes */
	WHY_SHARED = 1 << 2,   /* in a guest_memfd */
	WHY_LOG = 1 << 3,      /* its bits are to be read */
	WHY_DECISIVE = 1 << 4, /* neither to be taken back nor to be left undone, unnoticed */
};

/* Nobody frees the memory of @s before the library says so. */
static inline bool is_kept(const struct random_world *r, const struct gm_slot *s)
{
	size_t i = (size_t)(s->region - r->w.regions);
	const struct gpamap_region *region = &r->w.regions[i];
	bool rebacked = region->touched && region->was.hva != region->now.hva;

	return HAS_RELEASE(i) && !rebacked && s->hva == region->now.hva + s->offset;
}

static inline unsigned why_of_pages(const struct random_world *r, struct oracle *o,
				    const struct gm_slot *s, bool create)
{
	unsigned first = page_of(r, s->gpa.first), why = 0;

	for (unsigned p = first; p <= page_of(r, s->gpa.last); p++) {
		const struct page *page = &o->page[s->space][p];
		const struct file_page *file;

		if (create ? page->goes : page->comes)
			why |= WHY_OVERLAP;
		if (create ? page->was : page->will_be)
			why |= WHY_DECISIVE;
		if (!(s->flags & GM_SLOT_GUEST_MEMFD))
			continue;
		file = file_page(o, s->gmem_fd, s->gmem_offset + (p - first) * PAGE);
		if (create ? file->goes : file->comes)
			why |= WHY_SHARED;
	}
	return why;
}

static inline unsigned why_create(const struct random_world *r, struct oracle *o,
				  const struct gm_slot *s)
{
	return why_of_pages(r, o, s, true) | (r->w.in.one_instant ? WHY_INSTANT : 0);
}

static inline unsigned why_delete(const struct random_world *r, struct oracle *o,
				  const struct gm_slot *s)
{
	unsigned why = why_of_pages(r, o, s, false);

	if (s->flags & GM_SLOT_LOG)
		why |= WHY_LOG;
	if (!is_kept(r, s))
		why |= WHY_DECISIVE;
	return why | (r->w.in.one_instant ? WHY_INSTANT : 0);
}

/* Would both have to be critical, or the create at an address where something goes? */
static inline bool move_pays(const struct random_world *r, struct oracle *o, const struct gm_op *op)
{
	unsigned create = why_create(r, o, &op->to), delete = why_delete(r, o, &op->from);

	return (create & WHY_OVERLAP) || (create && delete);
}

#endif
