/* SPDX-License-Identifier: BSD-3-Clause */
/* Segments of a flat view. */
#include "map/region.h"
#include "map/view.h"

static void ref_seg(const void *data)
{
	const struct gm_seg *s = data;

	if (s->region)
		gm_region_ref(s->region);
}

static void unref_seg(const void *data)
{
	const struct gm_seg *s = data;

	if (s->region)
		gm_region_unref(s->region);
}

const struct gm_tree_type gm_seg_type = {
	.size = sizeof(struct gm_seg),
	.ref = ref_seg,
	.unref = unref_seg,
};

struct gm_seg gm_seg_advance(const struct gm_seg *s, uint64_t first, uint64_t at)
{
	struct gm_seg ret = *s;
	uint64_t by = at - first;

	ret.offset += by;
	if (s->kind != GM_SEG_MMIO)
		ret.hva += by;
	if (s->flags & GM_SEG_GUEST_MEMFD)
		ret.gmem_offset += by;
	return ret;
}

bool gm_seg_continues(const struct gm_seg *a, uint64_t a_first, const struct gm_seg *b,
		      uint64_t b_first)
{
	struct gm_seg then = gm_seg_advance(a, a_first, b_first);

	return then.region == b->region && then.kind == b->kind && then.flags == b->flags &&
	       then.group == b->group && then.offset == b->offset && then.hva == b->hva &&
	       then.gmem_fd == b->gmem_fd && then.gmem_offset == b->gmem_offset;
}

int gm_segs_clear(struct gm_tree *t, struct gm_range window)
{
	const struct gm_node *n;
	int err;

	while ((n = gm_tree_first(t->root, window))) {
		struct gm_range old = n->range;
		struct gm_seg seg = *gm_seg_of(n);

		err = gm_tree_remove(t, old.first, 0);
		if (!err && old.first < window.first) {
			struct gm_range left = {old.first, window.first - 1};

			err = gm_tree_insert(t, left, 0, &seg);
		}
		if (!err && old.last > window.last) {
			struct gm_range right = {window.last + 1, old.last};
			struct gm_seg rest = gm_seg_advance(&seg, old.first, right.first);

			err = gm_tree_insert(t, right, 0, &rest);
		}
		if (err)
			return err;
	}
	return 0;
}

static const struct gm_node *seg_at(const struct gm_tree *t, uint64_t gpa)
{
	return gm_tree_first(t->root, (struct gm_range){gpa, gpa});
}

int gm_segs_fill(struct gm_tree *t, struct gm_range range, const struct gm_seg *seg)
{
	const struct gm_node *n;
	struct gm_seg whole = *seg;
	int err = 0;

	n = range.first ? seg_at(t, range.first - 1) : NULL;
	if (n && gm_seg_continues(gm_seg_of(n), n->range.first, seg, range.first)) {
		whole = *gm_seg_of(n);
		range.first = n->range.first;
		err = gm_tree_remove(t, n->range.first, 0);
	}
	n = range.last != UINT64_MAX ? seg_at(t, range.last + 1) : NULL;
	if (!err && n && gm_seg_continues(&whole, range.first, gm_seg_of(n), n->range.first)) {
		range.last = n->range.last;
		err = gm_tree_remove(t, n->range.first, 0);
	}
	return err ? err : gm_tree_insert(t, range, 0, &whole);
}
