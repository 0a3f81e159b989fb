/* SPDX-License-Identifier: BSD-3-Clause */
/* Which slots go, which stay, and which come: old slots against the next view, where they were touched. */
#include <errno.h>
#include <stdlib.h>

#include "plan/draft.h"

/* ---------------------------------------------------------------------------- arrays --- */

static int add_piece(struct gm_draft *d, struct gm_pieces *to, const struct gm_slot *slot)
{
	int err = gm_array_reserve(d->alloc, (void **)&to->p, &to->room, to->n + 1, sizeof(*to->p));

	if (!err)
		to->p[to->n++] = (struct gm_piece){.slot = *slot, .mate = GM_NO_MATE};
	return err;
}

static int add_kept(struct gm_draft *d, const struct gm_kept *k)
{
	int err = gm_array_reserve(d->alloc, (void **)&d->kept, &d->kept_room, d->nr_kept + 1,
				   sizeof(*d->kept));

	if (!err)
		d->kept[d->nr_kept++] = *k;
	return err;
}

/* --------------------------------------------------------------------------- touched --- */

static bool is_forced(const struct gm_draft *d, uint64_t first)
{
	return d->nr_forced &&
	       bsearch(&first, d->forced, d->nr_forced, sizeof(*d->forced), gm_compare_u64);
}

/* Windows may begin anywhere, as MMIO may; memory that gives way to it, or comes back, does so in whole pages. */
static int collect_touched(struct gm_draft *d)
{
	const struct gm_plan_input *in = d->in;
	const struct gm_windows *w = &in->windows[d->space];
	struct gm_range r;
	int err = 0;

	d->touched.n = 0;
	for (size_t i = 0; !err && i < w->n; i++) {
		gm_range_to_pages(w->r[i], in->page_size, true, &r);
		err = gm_windows_add(&d->touched, r);
	}
	for (size_t i = 0; !err && i < d->nr_forced; i++) {
		r = gm_tree_find(d->slots->tree.root, d->forced[i], 0)->range;
		err = gm_windows_add(&d->touched, r);
	}
	gm_windows_normalise(&d->touched);
	return err;
}

/* ------------------------------------------------------------------------- judgement --- */

/* May slot @s stay, and what becomes of it? It may if the kernel's slot shows the same memory in the same way
 * at every page, whatever the region's name. Only where its log is running must the region stay, too: the
 * bits not yet read belong to it. */
static bool may_stay(const struct gm_draft *d, const struct gm_slot *s, struct gm_kept *ret)
{
	struct gm_run run;
	struct gm_slot now;
	uint32_t differ;

	if (is_forced(d, s->gpa.first) || !gm_run_find(d->view, s->gpa, &run) ||
	    run.range.first != s->gpa.first || run.range.last != s->gpa.last)
		return false;
	now = gm_run_slot(&run, d->space);
	differ = now.flags ^ s->flags;
	if (now.hva != s->hva || (differ & ~(uint32_t)GM_SLOT_LOG))
		return false;
	if ((s->flags & GM_SLOT_GUEST_MEMFD) &&
	    (now.gmem_fd != s->gmem_fd || now.gmem_offset != s->gmem_offset))
		return false;
	if ((s->flags & GM_SLOT_LOG) && (now.region != s->region || now.offset != s->offset))
		return false;
	*ret = (struct gm_kept){.from = *s, .to = *s};
	ret->flags = differ;
	ret->relabel = now.region != s->region || now.offset != s->offset || now.group != s->group;
	ret->to.region = now.region;
	ret->to.offset = now.offset;
	ret->to.group = now.group;
	ret->to.flags = now.flags;
	return true;
}

static int judge_window(struct gm_draft *d, struct gm_range window, const struct gm_node **last)
{
	gm_tree_for_each (node, d->slots->tree.root, window) {
		const struct gm_slot *s = gm_slot_of(node);
		struct gm_kept kept;
		int err;

		/* A slot may overlap several windows; they come one after the other. */
		if (node == *last)
			continue;
		*last = node;
		err = may_stay(d, s, &kept) ? add_kept(d, &kept) : add_piece(d, &d->gone, s);
		if (err)
			return err;
	}
	return 0;
}

static int judge(struct gm_draft *d)
{
	const struct gm_node *last = NULL;

	d->gone.n = 0;
	d->nr_kept = 0;
	for (size_t i = 0; i < d->touched.n; i++) {
		int err = judge_window(d, d->touched.r[i], &last);

		if (err)
			return err;
	}
	return 0;
}

/* ------------------------------------------------------------------------------ area --- */

/* Add what is left of @r without the slots that stay, of which [*@k, nr_kept) may overlap it. */
static int add_uncovered(struct gm_draft *d, struct gm_range r, size_t *k)
{
	for (; *k < d->nr_kept; ++*k) {
		struct gm_range kept = d->kept[*k].from.gpa;

		if (kept.last < r.first)
			continue;
		if (kept.first > r.last)
			break;
		if (r.first < kept.first) {
			struct gm_range left = {r.first, kept.first - 1};

			if (gm_windows_add(&d->area, left))
				return -ENOMEM;
		}
		/* It may overlap the next range as well: the index stays. */
		if (kept.last >= r.last)
			return 0;
		r.first = kept.last + 1;
	}
	return gm_windows_add(&d->area, r);
}

/* Ranges that touch are one, so that memory that goes on from one to the next gets one slot. */
static int find_area(struct gm_draft *d)
{
	struct gm_windows whole;
	size_t k = 0;
	int err = 0;

	gm_windows_init(&whole, d->alloc);
	d->area.n = 0;
	for (size_t i = 0; !err && i < d->touched.n; i++)
		err = gm_windows_add(&whole, d->touched.r[i]);
	for (size_t i = 0; !err && i < d->gone.n; i++)
		err = gm_windows_add(&whole, d->gone.p[i].slot.gpa);
	gm_windows_normalise(&whole);
	for (size_t i = 0; !err && i < whole.n; i++)
		err = add_uncovered(d, whole.r[i], &k);
	gm_windows_destroy(&whole);
	return err;
}

/* ------------------------------------------------------------------------- what comes --- */

/* The next view may have a region of 2^63 bytes: what can't fit is refused before it fills the memory. Merging
 * can save no more than a slot for each that stays, and no more can stay than fit. */
static int check_count(struct gm_draft *d, struct gm_range r)
{
	uint64_t most = 2 * (uint64_t)gm_draft_capacity(d);
	uint64_t blocks = r.last / d->block - r.first / d->block;

	if (blocks < most && d->come.n + blocks + 1 <= most)
		return 0;
	return gm_fail(d->msg, -ENOSPC,
		       "address space %u needs %llu memory slots or more, and has %u", d->space,
		       (unsigned long long)(d->come.n + blocks / 2) + 1, gm_draft_capacity(d));
}

static int create_run(struct gm_draft *d, struct gm_run run)
{
	uint64_t block = d->block - 1;
	struct gm_range r;
	int err;

	if (!gm_range_to_pages(run.range, d->in->page_size, false, &r))
		return 0;
	if ((run.seg.flags & GM_SEG_GUEST_MEMFD) && (run.seg.flags & GM_SEG_READONLY))
		return gm_fail(d->msg, -EPERM, "guest_memfd memory can't be read-only, at 0x%llx",
			       (unsigned long long)r.first);
	err = check_count(d, r);
	while (!err) {
		uint64_t last = r.last < (r.first | block) ? r.last : (r.first | block);
		struct gm_run part = {.range = {r.first, last}};
		struct gm_slot slot;

		part.seg = gm_seg_advance(&run.seg, run.range.first, r.first);
		slot = gm_run_slot(&part, d->space);
		slot.stamp = d->in->stamp;
		err = add_piece(d, &d->come, &slot);
		if (last == r.last)
			break;
		r.first = last + 1;
	}
	return err;
}

static int create_range(struct gm_draft *d, struct gm_range r)
{
	struct gm_run run;

	while (gm_run_find(d->view, r, &run)) {
		int err = create_run(d, run);

		if (err || run.range.last == r.last)
			return err;
		r.first = run.range.last + 1;
	}
	return 0;
}

static int classify(struct gm_draft *d)
{
	int err = collect_touched(d);

	if (!err)
		err = judge(d);
	if (!err)
		err = find_area(d);
	d->come.n = 0;
	for (size_t i = 0; !err && i < d->area.n; i++)
		err = create_range(d, d->area.r[i]);
	return err;
}

bool gm_draft_widen(struct gm_draft *d)
{
	if (d->block >= d->in->most_slot_size)
		return false;
	d->block *= 2;
	return true;
}

int gm_draft_classify(struct gm_draft *d)
{
	int err;

	do
		err = classify(d);
	while (err == -ENOSPC && gm_draft_widen(d));
	return err;
}
